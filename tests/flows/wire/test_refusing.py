"""What is refused is refused before the backend sees a byte, and nothing left over becomes a request."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress

import pytest

from tests.flows.raw import Message, chunked, request
from tests.flows.wire.wire import CHEAP, QUOTE, Wire, order

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST = b"Host: app.example.com\r\n"
GET = b"GET /open/x HTTP/1.1\r\n"
POST = b"POST /open/x HTTP/1.1\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def malformed(*parts: bytes) -> bytes:
    """Bytes that are no request, and a good request behind them that must not be taken for one."""
    return b"".join(parts) + GET + HOST + b"\r\n"


MALFORMED = {
    "F01 length and chunks": malformed(POST, HOST, b"Content-Length: 3\r\n", CHUNKED, b"\r\n0\r\n\r\n"),
    "F01 chunks and length": malformed(POST, HOST, CHUNKED, b"Content-Length: 3\r\n\r\n0\r\n\r\n"),
    "F01 with close": malformed(POST, HOST, b"Connection: close\r\nContent-Length: 3\r\n", CHUNKED, b"\r\n0\r\n\r\n"),
    "F02 two equal lengths": malformed(POST, HOST, b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    "F02 two lengths": malformed(POST, HOST, b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"),
    "F02 a list of lengths": malformed(POST, HOST, b"Content-Length: 3, 3\r\n\r\nabc"),
    "F03 a signed length": malformed(POST, HOST, b"Content-Length: +3\r\n\r\nabc"),
    "F03 a negative length": malformed(POST, HOST, b"Content-Length: -3\r\n\r\nabc"),
    "F03 a length in hex": malformed(POST, HOST, b"Content-Length: 0x3\r\n\r\nabc"),
    "F03 a length with an underscore": malformed(POST, HOST, b"Content-Length: 1_0\r\n\r\n0123456789"),
    "F03 an empty length": malformed(POST, HOST, b"Content-Length:\r\n\r\nabc"),
    "F03 a length beyond all": malformed(POST, HOST, b"Content-Length: " + b"9" * 30 + b"\r\n\r\nabc"),
    "F04 another coding": malformed(POST, HOST, b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "F04 identity": malformed(POST, HOST, b"Transfer-Encoding: identity\r\n\r\n"),
    "F04 not last": malformed(POST, HOST, b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    "F04 a parameter": malformed(POST, HOST, b"Transfer-Encoding: chunked;x=y\r\n\r\n0\r\n\r\n"),
    "F04 twice": malformed(POST, HOST, CHUNKED, CHUNKED, b"\r\n0\r\n\r\n"),
    "F04 a vertical tab": malformed(POST, HOST, b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    "F04 a comma behind": malformed(POST, HOST, b"Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n"),
    "F06 NUL": malformed(GET, HOST, b"X: a\0b\r\n\r\n"),
    "F06 a bare CR": malformed(GET, HOST, b"X: a\rb\r\n\r\n"),
    "F06 bare LF": malformed(GET.replace(b"\r\n", b"\n"), HOST, b"\r\n"),
    "F06 a control character": malformed(GET, HOST, b"X: a\x7fb\r\n\r\n"),
    "F07 a folded header": malformed(GET, HOST, b"X: a\r\n b\r\n\r\n"),
    "F07 a folded header by a tab": malformed(GET, HOST, b"X: a\r\n\tb\r\n\r\n"),
    "F07 a fold of the first header": malformed(GET, b" X: a\r\n", HOST, b"\r\n"),
    "F07 a tab before the colon": malformed(GET, HOST, b"X\t: a\r\n\r\n"),
    "F07 a space before the colon": malformed(GET, HOST, b"X : a\r\n\r\n"),
    "F07 no name": malformed(GET, HOST, b": a\r\n\r\n"),
    "F07 no colon": malformed(GET, HOST, b"X\r\n\r\n"),
    "F08 a chunk in C": malformed(POST, HOST, CHUNKED, b"\r\n0x3\r\nabc\r\n0\r\n\r\n"),
    "F08 a signed chunk": malformed(POST, HOST, CHUNKED, b"\r\n+3\r\nabc\r\n0\r\n\r\n"),
    "F08 a negative chunk": malformed(POST, HOST, CHUNKED, b"\r\n-1\r\nabc\r\n0\r\n\r\n"),
    "F08 a space behind a size": malformed(POST, HOST, CHUNKED, b"\r\n3 \r\nabc\r\n0\r\n\r\n"),
    "F08 bare LF": malformed(POST, HOST, CHUNKED, b"\r\n3\nabc\n0\n\n"),
    "F08 no CRLF behind a chunk": malformed(POST, HOST, CHUNKED, b"\r\n3\r\nabc0\r\n\r\n"),
    "F08 a bare CR in an extension": malformed(POST, HOST, CHUNKED, b"\r\n3;a\rb\r\nabc\r\n0\r\n\r\n"),
    "F08 an endless chunk": malformed(POST, HOST, CHUNKED, b"\r\n10000000000000003\r\nabc\r\n0\r\n\r\n"),
    "F08 no end of a chunk": malformed(POST, HOST, CHUNKED, b"\r\n3\r\nabcd\r\n0\r\n\r\n"),
    "F08 LF in an extension": malformed(POST, HOST, CHUNKED, b"\r\n3;a\nb\r\nabc\r\n0\r\n\r\n"),
    "F11 HTTP/1.2": malformed(b"GET /open/x HTTP/1.2\r\n", HOST, b"\r\n"),
    "F11 http/1.1": malformed(b"GET /open/x http/1.1\r\n", HOST, b"\r\n"),
    "F11 HTTP/1.01": malformed(b"GET /open/x HTTP/1.01\r\n", HOST, b"\r\n"),
    "F11 no version": malformed(b"GET /open/x\r\n"),
    "F12, S16 the preface of HTTP/2": malformed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "F13 no host": malformed(GET, b"\r\n"),
    "F13 two hosts": malformed(GET, HOST, b"Host: evil.example.com\r\n\r\n"),
    "F13 the same host twice": malformed(GET, HOST, HOST, b"\r\n"),
    "F14 an unknown method": malformed(b"BREW /open/x HTTP/1.1\r\n", HOST, b"\r\n"),
    "F14 TRACK": malformed(b"TRACK /open/x HTTP/1.1\r\n", HOST, b"\r\n"),
    "F14 a method in small letters": malformed(b"get /open/x HTTP/1.1\r\n", HOST, b"\r\n"),
    "F21 a raw byte in a name": malformed(GET, HOST, b"X\xff: a\r\n\r\n"),
    "F21 a raw byte in the target": malformed(b"GET /open/\xff HTTP/1.1\r\n", HOST, b"\r\n"),
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_what_is_not_http_is_refused(wire: Wire, name: str) -> None:
    """One refusal in Farebox's own words, then the connection is closed; whatever followed is not a request. Where the
    same was to be paid for, nothing is taken.
    """
    paid = MALFORMED[name].replace(b"/open/x", b"/flat").replace(HOST, HOST + wire.bearer().encode() + b"\r\n")
    for data in (MALFORMED[name], paid):
        answer = await wire.raw(data)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
        assert json.loads(body)["code"] == "invalid_request"
        assert b"\r\nX-Request-Id: " in head
        assert b"aiohttp" not in answer
        assert not wire.backend.requests
    assert await wire.spent() == 0
    assert await wire.open_holds() == await wire.usage() == []


async def test_f06_no_control_character_passes(wire: Wire) -> None:
    """Each of them, in a name, in a value and in a target: 400, closed. A tab in a value is none."""
    for byte in [*range(0x20), 0x7F]:
        odd = bytes([byte])
        for data in (
            malformed(GET, HOST, b"X" + odd + b"A: b\r\n\r\n"),
            malformed(GET, HOST, b"X: a" + odd + b"b\r\n\r\n"),
            malformed(b"GET /open/x" + odd + b"y HTTP/1.1\r\n", HOST, b"\r\n"),
        ):
            if odd == b"\t" and b"X: a\tb" in data:
                continue
            answer = await wire.raw(data.replace(b"GET /open/x HTTP/1.1\r\n" + HOST + b"\r\n", b""))
            assert (byte, answer.split(b" ")[1]) == (byte, b"400")
    assert not wire.backend.requests
    assert (await wire.ask("GET /open/x", "X: a\tb")).status == 200


async def test_f09_an_extension_of_a_chunk_is_bounded(wire: Wire) -> None:
    """By time, however much of it there is: where no body comes of it, nothing is kept, passed on or paid for."""
    client = await wire.start("POST /flat", "Transfer-Encoding: chunked", user="ann")
    with suppress(ConnectionError):
        await client.send(b"3;a=" + b"x" * 2**20)
    answer = await client.rest()
    assert answer.split(b" ")[1] in (b"400", b"431")
    assert all(not arrived.body for arrived in wire.backend.requests)
    await wire.settled_at(0)


REFUSED = {
    "F04 gzip, chunked": (400, POST + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "F04 a comma before": (400, POST + HOST + b"Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n"),
    "F05 chunks in HTTP/1.0": (400, b"POST /open/x HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n0\r\n\r\n"),
    "F11 HTTP/0.9": (400, b"GET /open/x HTTP/0.9\r\n" + HOST + b"\r\n"),
    "F11 HTTP/2.0": (400, b"GET /open/x HTTP/2.0\r\n" + HOST + b"\r\n"),
    "F13 a user in the host": (400, GET + b"Host: user@evil\r\n\r\n"),
    "F13 a path in the host": (400, GET + b"Host: a/b\r\n\r\n"),
    "F13 an empty host": (400, GET + b"Host:\r\n\r\n"),
    "F13 no host in HTTP/1.0": (400, b"GET /open/x HTTP/1.0\r\n\r\n"),
    "F14 TRACE": (405, b"TRACE /open/x HTTP/1.1\r\n" + HOST + b"X-Secret: s3cret\r\n\r\n"),
    "F14 CONNECT": (405, b"CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n"),
    "F14 PROPFIND": (405, b"PROPFIND /open/x HTTP/1.1\r\n" + HOST + b"\r\n"),
    "F14 OPTIONS *": (400, b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n"),
    "F14 GET *": (400, b"GET * HTTP/1.1\r\n" + HOST + b"\r\n"),
    "P05 the absolute form": (400, b"GET http://evil/open/x HTTP/1.1\r\n" + HOST + b"\r\n"),
    "P01 dot segments": (400, b"GET /open/../flat HTTP/1.1\r\n" + HOST + b"\r\n"),
    "P03 an encoded slash": (400, b"GET /open/x%2fy HTTP/1.1\r\n" + HOST + b"\r\n"),
    "P04 a fragment": (400, b"GET /open/x#y HTTP/1.1\r\n" + HOST + b"\r\n"),
    "F21 a raw byte in a value": (400, GET + HOST + b"X: ad\xc0min\r\n\r\n"),
    "F21 a raw byte in a model": (400, b"POST /by-header HTTP/1.1\r\n" + HOST + b"X-Model: che\xffap\r\n\r\n"),
    "F21 a raw byte in the credential": (400, GET + HOST + b"Authorization: Bearer \xff\r\n\r\n"),
    "S03 an unknown expectation": (417, POST + HOST + b"Expect: magic\r\nContent-Length: 0\r\n\r\n"),
    "S03 two expectations": (417, POST + HOST + b"Expect: 100-continue\r\nExpect: 100-continue\r\n\r\n"),
    "P07 no route": (404, b"GET /nowhere HTTP/1.1\r\n" + HOST + b"\r\n"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_backends_read_differently_is_refused(wire: Wire, name: str) -> None:
    """In a version that Farebox speaks, with a code, and nothing of the request in it. Its connection is closed, or in
    such a state that what comes next is a request of its own.
    """
    status, data = REFUSED[name]
    client = await wire.connect()
    await client.send(data)
    answer = await client.answer()
    if answer.first.startswith(b"HTTP/1.0") or answer.values(b"connection"):
        assert await client.rest() == b""
    else:
        await client.send(request("GET /mine/x"))
        assert (await client.answer()).status == 401
    assert await wire.open_holds() == []
    assert (answer.status, answer.first[:7]) == (status, b"HTTP/1.")
    assert json.loads(answer.body)["request_id"].encode() in answer.values(b"x-request-id")
    assert b"s3cret" not in answer.body
    assert not wire.backend.requests


async def test_what_is_too_large_is_refused(wire: Wire) -> None:
    """F20: 431 for a line, a header or a number of headers beyond the bound, all at once or in the smallest packets."""
    long = HOST + wire.bearer().encode() + b"\r\n" + b"X: " + b"a" * 60_000
    for head in (
        GET + long,
        GET.replace(b"/open/x", b"/flat") + long,
        b"GET /open/" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST,
        GET + HOST + b"X: a\r\n" * 500,
    ):
        answer = await wire.raw(head + b"\r\n\r\n")
        assert b" 431 " in answer.partition(b"\r\n")[0]
        assert b'"headers_too_large"' in answer
    client = await wire.connect()
    with suppress(ConnectionError):
        for at in range(0, len(GET + long), 50):
            await client.send((GET + long)[at : at + 50])
            await asyncio.sleep(0)
    # Who goes on talking after the refusal may miss it.
    assert b" 200 " not in await client.rest()
    assert not wire.backend.requests
    assert await wire.spent() == 0


async def test_a_secret_in_a_bad_request_stays_a_secret(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """A03, D04: neither the answer nor the log repeats what was sent, and there is no stack trace for each."""
    caplog.set_level(logging.DEBUG)
    secret = b"Authorization: Bearer s3cret-token\r\n"
    for data in (
        GET + HOST + secret + b"Bad s3cret-token: x\r\n\r\n",
        GET + HOST + secret.replace(b"\r\n", b"\n") + b"\r\n",
        GET + HOST + b"Authorization: Bearer s3cret-token" + b"a" * 20_000 + b"\r\n\r\n",
        b"s3cret-token /open/x HTTP/1.1\r\n\r\n",
        POST + HOST + secret + CHUNKED + b"\r\ns3cret-token\r\n",
    ):
        assert b"s3cret" not in await wire.raw(data)
    assert caplog.records
    for record in caplog.records:
        assert "s3cret" not in record.getMessage()
        assert record.exc_info is None, record.getMessage()


# Bodies that nobody wants.


async def test_leftover_bytes_never_become_a_request(wire: Wire) -> None:
    """F14, F18: after a refusal with an unread body the connection ends, whatever the body looks like."""
    smuggled = request("POST /flat", wire.bearer())
    for line, *headers in (
        ("POST /nowhere",),
        ("POST /flat",),
        ("POST /buy", wire.bearer(), "Content-Encoding: zstd"),
        ("GET /mine/x",),
        ("TRACE /flat",),
        ("CONNECT /flat", wire.bearer()),
        ("CONNECT app.example.com:443", "Upgrade: websocket", "Connection: Upgrade"),
    ):
        answer = await wire.raw(request(line, *headers, body=smuggled) + smuggled)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"\r\nConnection: close\r\n" in answer
    assert not wire.backend.requests
    assert await wire.spent() == 0


async def test_a_body_that_was_promised_does_not_eat_the_next_request(wire: Wire) -> None:
    """F18: a client that answers a refusal by leaving its body out is not served on that connection."""
    client = await wire.connect()
    await client.send(request("POST /nowhere", "Content-Length: 200"))
    assert (await client.answer()).status == 404
    await client.send(request("GET /open/x", "X-Pad: " + "a" * 200))
    client.writer.write_eof()
    assert await client.rest() == b""
    assert not wire.backend.requests


async def test_a_body_where_none_is_usual_is_framed(wire: Wire) -> None:
    """F16: a request inside the body of a GET, of a HEAD or of a DELETE is a body."""
    inner = request("POST /flat", wire.bearer())
    asked = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    for method, headers in (("GET", []), ("GET", asked), ("HEAD", []), ("DELETE", [])):
        answer = await wire.ask(f"{method} /open/x", *headers, body=inner)
        assert answer.status == 200
        assert wire.backend.requests[-1].body == inner
    assert len(wire.backend.requests) == 4
    assert await wire.spent() == 0


async def test_requests_in_a_row_are_each_charged(wire: Wire) -> None:
    """F15: pipelined requests are authorised and paid one by one, and answered in order."""
    client = await wire.connect()
    rows = [("POST /flat", b""), ("POST /buy", order("dear")), ("POST /buy", b"{}"), ("POST /flat", b"")]
    await client.send(b"".join(request(line, wire.bearer(), body=body) for line, body in rows))
    answers = [await client.answer() for _ in rows]
    assert [answer.status for answer in answers] == [200, 200, 400, 200]
    charged = [answer.values(b"x-farebox-charged") for answer in answers]
    assert charged == [[b"1"], [b"10"], [], [b"1"]]
    assert len(wire.backend.requests) == 3
    assert await wire.spent() == 12 * CHEAP


async def test_a_refusal_in_a_row_of_requests_ends_the_row(wire: Wire) -> None:
    """What stands behind a body that was not read is not served, even if it has arrived already."""
    row = request("POST /nowhere", body=b"abc") + request("POST /flat", wire.bearer())
    assert (await wire.raw(row)).count(b"HTTP/1.1 ") == 1
    assert not wire.backend.requests


# Expect: 100-continue.


async def test_a_client_that_waits_is_told_after_admission(wire: Wire) -> None:
    """S03: 100 comes when the caller is known and, where the body is not needed for it, the price is held."""
    for line, held in (("POST /buy", 0), ("POST /flat", CHEAP), ("POST /open/x", 0)):
        headers = ["Expect: 100-continue", "Content-Type: application/json", "Content-Length: 18"]
        client = await wire.start(line, *headers, user=line)
        assert (await client.head()).status == 100
        assert await wire.spent(line) == held
        await client.send(order())
        assert (await client.answer()).status == 200
        assert wire.backend.requests[-1].body == order()
        assert not wire.backend.requests[-1].values(b"expect")


@pytest.mark.parametrize("line", ["POST /nowhere", "POST /flat", "POST /buy", "POST /buy?", "POST /open/../x"])
async def test_a_client_that_waits_is_refused_without_its_body(wire: Wire, line: str) -> None:
    """S03: the final answer comes at once, without 100, and the connection ends: the body might still come."""
    client = await wire.start(line, "Expect: 100-continue", "Content-Length: 100")
    answer = await client.answer()
    assert answer.status in (400, 401, 404)
    assert answer.values(b"connection") == [b"close"]
    assert not wire.backend.requests


async def test_a_client_too_poor_is_refused_without_its_body(wire: Wire) -> None:
    """402 for a body that nobody has read, where the price does not depend on it."""
    await asyncio.gather(*(wire.ask("POST /flat", user="ann") for _ in range(100)))
    arrived = len(wire.backend.requests)
    answer = await wire.ask("POST /flat", "Expect: 100-continue", "Content-Length: 100", user="ann")
    assert (answer.status, answer.values(b"connection")) == (402, [b"close"])
    assert (arrived, len(wire.backend.requests)) == (100, 100)


async def test_an_old_client_is_not_told_to_go_on(wire: Wire) -> None:
    """RFC 9110 §10.1.1: HTTP/1.0 knows no 100."""
    data = request("POST /open/x HTTP/1.0", "Expect: 100-continue", body=b"abc")
    assert (await wire.raw(data)).startswith(b"HTTP/1.0 200 OK\r\n")
    assert wire.backend.requests[0].body == b"abc"


# Bounds of what is read ahead.


async def test_a_body_beyond_the_peek_limit_is_refused(wire: Wire) -> None:
    """M10: 413, by its announced length before it is read, or as soon as it exceeds it; nothing is charged."""
    announced = await wire.ask("POST /buy", "Content-Length: 10000000000", user="ann")
    padded = order(pad="x" * 2**16)
    counted = await wire.ask("POST /buy", "Transfer-Encoding: chunked", body=chunked(padded), user="ann")
    for answer in (announced, counted):
        assert (answer.status, json.loads(answer.body)["code"]) == (413, "request_too_large")
    exact = order(pad="x" * (2**16 - len(order(pad=""))))
    assert (await wire.ask("POST /buy", body=exact, user="ann")).status == 200
    assert (await wire.ask("POST /open/x", body=padded * 3)).status == 200
    assert await wire.spent() == QUOTE


async def test_a_compressed_body_is_refused_where_it_decides(wire: Wire) -> None:
    """M07: 400 where it is read and cannot be; elsewhere it passes as it is."""
    for coding in ("zstd", "gzip", "br", "GZIP, gzip", "deflate"):
        answer = await wire.ask("POST /buy", f"Content-Encoding: {coding}", body=order(), user="ann")
        assert (answer.status, json.loads(answer.body)["field"]) == (400, "body")
    assert (await wire.ask("POST /buy", "Content-Encoding: identity", body=order(), user="ann")).status == 200
    assert (await wire.ask("POST /flat", "Content-Encoding: gzip", body=b"\x1f\x8b", user="ann")).status == 200
    assert wire.backend.requests[-1].values(b"content-encoding") == [b"gzip"]


async def test_a_body_that_does_not_come_is_refused(wire: Wire) -> None:
    """D01: a pause longer than the settings allow ends the request, read ahead or streamed, and costs nothing."""

    async def stalled(line: str, *headers: str, part: bytes = b"{") -> Message:
        client = await wire.start(line, *headers, user="ann")
        await asyncio.sleep(0.1)
        await client.send(part)
        return await client.answer()

    answers = await asyncio.gather(
        stalled("POST /buy", "Content-Length: 100"),
        stalled("POST /buy", "Transfer-Encoding: chunked", part=b"1\r\n{"),
        stalled("POST /flat", "Content-Length: 100"),
        stalled("POST /jobs", "Content-Length: 100"),
        stalled("POST /open/x", "Transfer-Encoding: chunked", part=b"1\r\na\r\n"),
        stalled("POST /open/x", "Transfer-Encoding: chunked", part=b"1\r\na\r\nzz\r\n"),
    )
    for answer in answers:
        assert (answer.status, json.loads(answer.body)["field"]) == (400, "body")
        assert answer.values(b"connection") == [b"close"]
    await wire.settled_at(0)


async def test_a_body_may_be_slow_as_long_as_it_comes(wire: Wire) -> None:
    """An upload that takes longer than the backend may take for its answer is no late answer."""
    client = await wire.start("POST /quick-flat", "Content-Length: 6", user="ann")
    for _ in range(6):
        await asyncio.sleep(0.2)
        await client.send(b"a")
    assert (await client.answer()).status == 200
    assert wire.backend.requests[0].body == b"aaaaaa"

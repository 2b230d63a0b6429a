"""What passes is not touched: method, target, headers and body, one way and the other, byte for byte."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests import canaries
from tests.flows.raw import OK, Message, Visit, answering, chunked, closing, request
from tests.flows.wire.wire import Wire, order

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADDED = {b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"via", b"x-request-id", b"x-backend-key"}
"""What Farebox and its settings add to every forwarded request."""


def came(message: Message) -> list[tuple[bytes, bytes]]:
    """The headers that came from the client."""
    return [header for header in message.headers if header[0].lower() not in ADDED]


async def test_a_request_arrives_as_it_was_sent(wire: Wire) -> None:
    """Target, order, spelling and repetition of headers, and the body; the length stands at the end."""
    headers = ["Host: App.Example.com:81", "uSER-agent: me", "ETag: x", "cookie: a=1", "X-Empty: ", "cookie: b=2"]
    headers += ["accept-encoding: br", "X-Utf: café"]
    line = "POST /open/a%20b/%7e;c='[x]?q=a+b&%zz=?/..&&"
    await wire.ask(line, "Content-Length: 7", *headers, body=b"\0\xff body")
    (arrived,) = wire.backend.requests
    assert arrived.first == line.encode() + b" HTTP/1.1"
    assert [b": ".join(header).decode() for header in came(arrived)] == [*headers, "Content-Length: 7"]
    assert arrived.body == b"\0\xff body"


async def test_a_bare_question_mark_arrives(wire: Wire) -> None:
    """Also what means nothing to Farebox may mean something to the backend."""
    for target in ("/open/x?", "/open/x??", "/open/", "/open/x?a=%2e%2e/"):
        await wire.ask(f"GET {target}")
        assert wire.backend.requests[-1].first == f"GET {target} HTTP/1.1".encode()


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_method_passes(wire: Wire, method: str) -> None:
    answer = await wire.ask(f"{method} /open/x")
    assert answer.status == 200
    assert wire.backend.requests[0].first.startswith(method.encode() + b" ")


async def test_a_repeated_header_in_two_spellings_arrives_twice(wire: Wire) -> None:
    """All values arrive in their order; of the spellings the first may stand for all."""
    await wire.ask("GET /open/x", "X-a: 1", "x-A: 2", "X-a: 3")
    assert wire.backend.requests[0].values(b"x-a") == [b"1", b"2", b"3"]


async def test_nothing_is_invented_for_the_backend(wire: Wire) -> None:
    """No user agent, no coding, no content type: only where it comes from, the id and what the settings set."""
    await wire.ask("GET /open/x")
    arrived = wire.backend.requests[0]
    assert came(arrived) == [(b"Host", b"app.example.com")]
    assert arrived.values(b"x-forwarded-for") == [b"127.0.0.1"]
    assert arrived.values(b"x-forwarded-proto") == [b"http"]
    assert arrived.values(b"x-forwarded-host") == [b"app.example.com"]
    assert re.fullmatch(rb"1\.1 farebox-[0-9a-f]{12}", arrived.values(b"via")[0])
    assert arrived.values(b"x-backend-key") == [canaries.BACKEND_KEY.encode()]
    assert len(arrived.headers) == 7


async def test_what_the_settings_set_replaces_what_a_client_sent(wire: Wire) -> None:
    """The backend's own key comes from the settings alone; a host may be that of the backend."""
    await wire.ask("GET /open/x", "x-backend-key: mine", "X-Backend-Key: too")
    assert wire.backend.requests[0].values(b"X-Backend-Key") == [canaries.BACKEND_KEY.encode()]
    await wire.ask("GET /quick/x?y", "Host: evil.example.com")
    arrived = wire.backend.requests[1]
    assert arrived.values(b"host") == [wire.backend.url.removeprefix("http://").encode()]
    assert arrived.first == b"GET /base/quick/x?y HTTP/1.1"


async def test_the_headers_of_a_connection_stay_on_it(wire: Wire) -> None:
    """H01, F12: hop-by-hop and nominated headers, both ways; an upgrade that nobody serves is not asked for."""
    wire.backend.script = answering(
        b"HTTP/1.1 200 OK\r\nConnection: X-Hop, Set-Cookie\r\nX-Hop: 1\r\nKeep-Alive: a\r\nTrailer: b\r\n"
        b"Proxy-Authenticate: c\r\nUpgrade: h2c\r\nSet-Cookie: kept\r\nContent-Length: 2\r\n\r\nok"
    )
    sent = ["Connection: Upgrade, X-Mine, HTTP2-Settings, Host", "Upgrade: h2c", "HTTP2-Settings: a", "X-Mine: 1"]
    answer = await wire.ask("GET /open/x", *sent, "TE: trailers", "Keep-Alive: 5", "Proxy-Authorization: x")
    assert came(wire.backend.requests[0]) == [(b"Host", b"app.example.com")]
    assert [name for name, _ in answer.headers] == [b"Set-Cookie", b"X-Request-Id", b"Content-Length"]


async def test_a_length_stays_a_length_and_chunks_stay_chunks(wire: Wire) -> None:
    """F09, F10: a body keeps its framing; what surrounds chunks (extensions, trailers) stays on its connection."""
    await wire.ask("POST /open/x", "Transfer-Encoding: ChUnKeD", body=chunked(b"abc", b"defg"))
    assert wire.backend.requests[0].chunked
    assert wire.backend.requests[0].body == b"abcdefg"
    body = b"3;a=b\r\nabc\r\n0\r\nX-Farebox-User: admin\r\nX-Trailer: 1\r\n\r\n"
    await wire.ask("POST /open/x", "Transfer-Encoding: chunked", "Trailer: X-Trailer", body=body)
    arrived = wire.backend.requests[1]
    assert arrived.body == b"abc"
    assert not arrived.values(b"x-trailer") + arrived.values(b"x-farebox-user") + arrived.values(b"trailer")
    await wire.ask("POST /open/x", "Content-Length: 003", body=b"abc")
    assert wire.backend.requests[2].values(b"content-length") == [b"3"]


async def test_a_body_that_was_read_ahead_arrives_whole(wire: Wire) -> None:
    """The bytes that were judged are the bytes that arrive, odd spacing and all."""
    body = b'  { "model" : "cheap", "x": 1e0 }\r\n'
    as_json = "Content-Type: application/json"
    await wire.ask("POST /buy", as_json, body=body, user="ann")
    await wire.ask("POST /buy", as_json, "Transfer-Encoding: chunked", body=chunked(body[:5], body[5:]), user="ann")
    assert [message.body for message in wire.backend.requests] == [body, body]


async def test_a_request_in_single_bytes(wire: Wire) -> None:
    """However it is cut, it is the same request."""
    client = await wire.connect()
    for byte in request("POST /buy", wire.bearer(), body=order()):
        await client.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await client.answer()).status == 200
    assert wire.backend.requests[0].body == order()


ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 299 Quite Fine\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nsErver: me\r\nDate: yesterday\r\nContent-Type: a/b\r\nContent-Length: 2\r\n\r\nno",
    b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/?a=%2f\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Path=/\r\nset-cookie: b=2\r\nVia: 1\r\nVia: 2\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nX-Latin: caf\xe9\r\nX-Utf: caf\xc3\xa9\r\nX-Empty: \r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nVary: *\r\nContent-Length: 3\r\n\r\n\x1f\x8b\0",
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nX-Large: " + b"a" * 30_000 + b"\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\n" + b"X-Many: a\r\n" * 200 + b"Content-Length: 2\r\n\r\nok",
]


@pytest.mark.parametrize("answer", ANSWERS, ids=range(len(ANSWERS)))
async def test_an_answer_arrives_as_it_was_sent(wire: Wire, answer: bytes) -> None:
    """S07, H08: status, reason, headers in order and spelling, also bytes that are not UTF-8; only the id is added."""
    wire.backend.script = answering(answer)
    client = await wire.start("GET /open/x")
    expected = Message(*_split(answer))
    arrived = await client.answer()
    assert arrived.first == expected.first
    assert arrived.body == expected.body
    assert [header for header in arrived.headers if header[0] != b"X-Request-Id"] == expected.headers


def _split(answer: bytes) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    return first, [(name, value) for name, _, value in (line.partition(b": ") for line in lines)], body


async def test_an_answer_says_nothing_of_farebox_but_what_is_farebox(wire: Wire) -> None:
    """H11: a backend does not speak in Farebox's name, in whatever spelling, nor choose the id of the request."""
    spoofed = b"X-Farebox-Charged: 0\r\nx_farebox_funding: free\r\nX.Farebox.X: 1\r\nX-Request-Id: theirs\r\n"
    wire.backend.script = answering(b"HTTP/1.1 200 OK\r\n" + spoofed + b"Content-Length: 2\r\n\r\nok")
    answer = await wire.ask("GET /open/x")
    assert [name for name, _ in answer.headers] == [b"X-Request-Id", b"Content-Length"]
    assert answer.values(b"x-request-id") == wire.backend.requests[0].values(b"x-request-id")
    paid = await wire.ask("POST /flat", user="ann")
    assert (paid.values(b"x-farebox-charged"), paid.values(b"x-farebox-funding")) == ([b"1"], [b"credits"])


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 7777777\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n"),
        ("GET", b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n'),
        ("GET", b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 77\r\n\r\n'),
    ],
)
async def test_answers_without_a_body_have_none(wire: Wire, method: str, answer: bytes) -> None:
    """S01: the next answer follows at once on the same connections; HEAD keeps the length it speaks of."""
    wire.backend.script = answering(answer)
    client = await wire.start(f"{method} /open/x")
    first = await client.answer(method)
    if method == "HEAD":
        assert first.length == Message(*_split(answer)).length
    wire.backend.script = answering(OK)
    await client.send(request("GET /open/y"))
    assert (await client.answer()).body == b"ok"


async def test_answers_of_unknown_length_are_chunked(wire: Wire) -> None:
    """What ends with the backend's connection ends with a chunk here; for HTTP/1.0 it ends with the connection."""
    for answer in (b"HTTP/1.1 200 OK\r\n\r\nto the end", b"HTTP/1.0 200 OK\r\n\r\nto the end"):
        wire.backend.script = closing(answer)
        arrived = await wire.ask("GET /open/x")
        assert (arrived.chunked, arrived.body) == (True, b"to the end")
        old = await wire.raw(request("GET /open/x HTTP/1.0"))
        assert old.startswith(b"HTTP/1.0 200 OK\r\n")
        assert old.endswith(b"\r\n\r\nto the end")
        assert b"chunked" not in old


async def test_an_interim_answer_is_not_the_answer(wire: Wire) -> None:
    """103 passes as soon as it is there, without what is about its connection; 100 answers what nobody asked."""
    seen = asyncio.Event()

    async def early(visit: Visit) -> None:
        await visit.body()
        await visit.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\nKeep-Alive: 1\r\n\r\n")
        await seen.wait()
        await visit.send(b"HTTP/1.1 102 Processing\r\n\r\n" + OK)

    wire.backend.script = early
    for line in ("GET /open/x", "POST /flat"):
        seen.clear()
        client = await wire.start(line, user="ann")
        hint = await client.head()
        assert (hint.first, hint.headers) == (b"HTTP/1.1 103 Early Hints", [(b"Link", b"a")])
        seen.set()
        assert (await client.head()).status == 102
        assert (await client.answer()).body == b"ok"
    wire.backend.script = answering(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + OK)
    assert (await wire.raw(request("GET /open/x HTTP/1.0"))).startswith(b"HTTP/1.0 200 OK\r\n")


async def test_connections_to_the_backend_are_used_again(wire: Wire) -> None:
    """One request after another travels on the same connection, whoever sends them."""
    for _ in range(5):
        assert (await wire.ask("POST /open/x", body=b"abc")).status == 200
    assert wire.backend.connections == 1

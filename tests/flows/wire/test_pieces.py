"""Requests that arrive in the smallest pieces, or with something beside them that wants to be a request."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.flows.raw import RawClient, request
from tests.flows.wire.test_refusing import MALFORMED
from tests.flows.wire.wire import TOKEN, Wire, order

pytestmark = pytest.mark.asyncio(loop_scope="module")

Cut = Callable[[bytes], list[bytes]]
CUTS: dict[str, Cut] = {
    "byte by byte": lambda data: [data[at : at + 1] for at in range(len(data))],
    "between CR and LF": lambda data: re.split(rb"(?<=\r)(?=\n)", data),
    "behind each line": lambda data: re.split(rb"(?<=\n)", data),
}
CHUNKS = b"2\r\n{}\r\n1;a=b\r\n \r\n0\r\n\r\n"
GOOD = {
    "a query": ("GET /open/x?y=1", (), b""),
    "a length": ("POST /open/x", (), b"abc" * 50),
    "chunks": ("POST /open/x", ("Transfer-Encoding: chunked",), CHUNKS),
}


async def _in_pieces(wire: Wire, pieces: list[bytes]) -> RawClient:
    """Each in a packet of its own, up to where Farebox has heard enough."""
    client = await wire.connect()
    with suppress(ConnectionError):
        for piece in pieces:
            await client.send(piece)
            await asyncio.sleep(0)
    return client


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", GOOD)
async def test_pieces_are_the_whole(wire: Wire, name: str, cut: str) -> None:
    """F19: the backend receives the same request, whatever packets its bytes came in."""
    line, headers, body = GOOD[name]
    whole = request(line, *headers, body=body)
    for pieces in ([whole], CUTS[cut](whole)):
        assert (await (await _in_pieces(wire, pieces)).answer()).status == 200
    first, second = wire.backend.requests
    for arrived in (first, second):
        arrived.headers = [header for header in arrived.headers if header[0] != b"X-Request-Id"]
    assert first == second


@pytest.mark.parametrize("cut", CUTS)
async def test_pieces_are_paid_once(wire: Wire, cut: str) -> None:
    """F19: also where the body decides what the request costs."""
    data = request("POST /buy", wire.bearer("ann"), body=order(max_tokens=50))
    assert (await (await _in_pieces(wire, CUTS[cut](data))).answer()).status == 200
    await wire.settled_at(50 * TOKEN)


@pytest.mark.parametrize("name", MALFORMED)
async def test_pieces_make_nothing_good(wire: Wire, name: str) -> None:
    """F19: what is refused as a whole is refused byte by byte. Where only a chunk is wrong the head has gone ahead; the
    backend is told that the rest does not come.
    """
    answer = await (await _in_pieces(wire, CUTS["byte by byte"](MALFORMED[name]))).rest()
    # Who goes on talking after the refusal may miss it.
    assert not answer or answer.split(b" ")[1] == b"400"
    assert answer.count(b"HTTP/1.") <= 1
    assert len(wire.backend.requests) <= name.startswith("F08")
    assert not any(arrived.body for arrived in wire.backend.requests)


async def test_an_upgrade_with_a_body_is_one_request(wire: Wire) -> None:
    """F17: what a body says is never a request, though the connection was to be switched."""
    smuggled = b"GET /flat HTTP/1.1\r\nHost: app\r\n\r\n"
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AA==")
    answer = await wire.ask("POST /open/x", *upgrade, body=smuggled)
    assert answer.status in (200, 400)
    assert all(arrived.body == smuggled for arrived in wire.backend.requests)
    assert len(wire.backend.requests) == (answer.status == 200)


@pytest.mark.parametrize("name", ["Content-Length: 5", "Transfer-Encoding: chunked", "Host: evil", "Authorization: x"])
async def test_a_trailer_is_no_header(wire: Wire, name: str) -> None:
    """F10: not even one that would decide something, were it a header (RFC 9110 §6.5.1)."""
    body = b"3\r\nabc\r\n0\r\n" + name.encode() + b"\r\n\r\n"
    answer = await wire.ask("POST /open/x", "Transfer-Encoding: chunked", body=body)
    assert answer.status in (200, 400)
    for arrived in wire.backend.requests:
        key, _, value = name.encode().partition(b": ")
        assert value not in arrived.values(key) or key == b"Transfer-Encoding"
        assert (arrived.body, len(arrived.values(b"transfer-encoding"))) == (b"abc", 1)


async def test_f17_who_declines_a_switch_is_asked_no_more_on_that_connection(wire: Wire) -> None:
    """A backend may take what follows the question for the other protocol, though its answer was no (RFC 9110 §7.8)."""
    asked = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {'A' * 22}==",
    )
    assert (await wire.ask("GET /open/x", *asked)).body == b"ok"
    assert (await wire.ask("GET /open/y")).body == b"ok"
    assert [len(arrived.values(b"upgrade")) for arrived in wire.backend.requests] == [1, 0]
    assert wire.backend.connections == 2

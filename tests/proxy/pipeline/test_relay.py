"""Writing to a client: exactly what was given, and never two answers in one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from proxy.errors import Answer
from proxy.pipeline.relay import Relayed, Truncated, write_answer

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


async def served_by(
    handler: Handler, request: bytes = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
) -> bytes:
    """Everything that a server with this handler sends back until the connection ends."""
    runner = web.ServerRunner(web.Server(handler, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
    writer.write(request)
    received = b""
    try:
        async with asyncio.timeout(10):
            while piece := await reader.read(2**16):
                received += piece
    except ConnectionError:
        pass
    writer.close()
    await runner.cleanup()
    return received


async def test_a_response_has_the_headers_it_was_given() -> None:
    """Order, spelling, repetition and bytes that are not UTF-8; nothing of the server's own."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        headers = [
            ("x-A", "1"),
            ("X-a", "caf\udce9 é"),
            ("Set-Cookie", "a"),
            ("set-cookie", "b"),
        ]
        response = Relayed(299, "Quite Fine", headers, 2, b"ok")
        await response.prepare(request)
        await response.write_eof()
        return response

    answer = await served_by(handler)
    assert answer.split(b"\r\n") == [
        b"HTTP/1.1 299 Quite Fine",
        b"x-A: 1",
        b"X-a: caf\xe9 \xc3\xa9",
        b"Set-Cookie: a",
        b"set-cookie: b",
        b"Content-Length: 2",
        b"Connection: close",
        b"",
        b"ok",
    ]


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\n\nbody", "a\rb", "a\0b"])
async def test_a_header_does_not_become_two(value: str) -> None:
    """H07: a line end in a value is a fault, whoever put it there, and nothing of it is sent."""
    raised: list[Exception] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = Relayed(200, None, [("X", value)], 0, b"")
        try:
            await response.prepare(request)
        except ValueError as error:
            raised.append(error)
        return web.Response(status=204)

    assert b"Evil" not in await served_by(handler)
    assert len(raised) == 1


async def test_an_answer_does_not_follow_half_of_another() -> None:
    """When something fails in the middle of an answer, the connection ends: a second head would be its body."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = Relayed(200, None, [], None, None)
        await response.prepare(request)
        await response.write(b"half")
        with pytest.raises(Truncated):
            await write_answer(request, Answer(500, (), b'{"error": "late"}'), [])
        return response

    answer = await served_by(handler)
    assert answer.count(b"HTTP/1.1") <= 1
    assert b"late" not in answer
    assert not answer.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_answer_of_our_own(method: str) -> None:
    """Complete, with its length, and for HEAD without its body."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return await write_answer(request, Answer(404, (("Content-Type", "a/b"),), b"gone"), [("X-Request-Id", "1")])

    answer = await served_by(handler, f"{method} / HTTP/1.0\r\nHost: a\r\n\r\n".encode())
    head = b"HTTP/1.0 404 Not Found\r\nContent-Type: a/b\r\nX-Request-Id: 1\r\nContent-Length: 4\r\n\r\n"
    assert answer == head + (b"gone" if method == "GET" else b"")

"""Any amount, for any time: much at once, much in one piece, and no exchange that outlasts its price."""

from __future__ import annotations

import asyncio
import json
import tracemalloc

import pytest

from tests.flows.raw import EVENTS, Visit, chunk, request
from tests.flows.wire.wire import CHEAP, TOKEN, Wire, order, stating

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 2**20


async def test_a_large_upload_takes_little_memory(wire: Wire) -> None:
    """Ten mebibytes pass through piece by piece, with a length and in chunks."""
    piece, count, received = b"x" * 2**16, 160, 0

    async def counting(visit: Visit) -> None:
        nonlocal received
        if not visit.request.chunked:
            for _ in range(count):
                received += len(await visit.reader.readexactly(len(piece)))
        else:
            while size := int(await visit.reader.readline(), 16):
                received += len(await visit.reader.readexactly(size + 2)) - 2
            await visit.reader.readexactly(2)
        await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    wire.backend.script = counting
    for framing in (f"Content-Length: {count * len(piece)}", "Transfer-Encoding: chunked"):
        client = await wire.start("POST /flat", framing, user="ann")
        tracemalloc.start()
        for _ in range(count):
            await client.send(chunk(piece) if "chunked" in framing else piece)
        if "chunked" in framing:
            await client.send(chunk(b""))
        assert (await client.answer()).body == b"ok"
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * MIB
    assert received == 2 * count * len(piece)


async def test_a_large_answer_takes_little_memory(wire: Wire) -> None:
    """Ten mebibytes of answer, with a length and in chunks, metered and not."""
    piece, count = b"y" * 2**16, 160
    framings = {b"Content-Length: %d" % (count * len(piece)): False, b"Transfer-Encoding: chunked": True}

    for line, (framing, is_chunked) in ((line, f) for line in ("GET /open/x", "GET /flat") for f in framings.items()):

        async def plenty(visit: Visit, framing: bytes = framing, is_chunked: bool = is_chunked) -> None:
            await visit.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + framing + b"\r\n\r\n")
            for _ in range(count):
                await visit.send(chunk(piece) if is_chunked else piece)
            if is_chunked:
                await visit.send(chunk(b""))

        wire.backend.script = plenty
        client = await wire.start(line, user="ann")
        await client.head()
        tracemalloc.start()
        received = 0
        while received < count * len(piece):
            received += len(await client.chunk() if is_chunked else await client.reader.read(2**16))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 6 * MIB


async def test_a_slow_client_holds_its_backend_back(wire: Wire) -> None:
    """S13: who does not read does not make Farebox keep what the backend has to say."""
    sent = 0

    async def endless(visit: Visit) -> None:
        nonlocal sent
        await visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await visit.send(chunk(b"z" * 2**16))
            sent += 2**16

    wire.backend.script = endless
    client = await wire.start("GET /flat", user="ann")
    await client.head()
    tracemalloc.start()
    before = -1
    while sent != before:
        before = sent
        await asyncio.sleep(0.2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sent < 64 * MIB, "what lies in the buffers of the system"
    assert peak < 4 * MIB
    client.leave()
    await wire.backend.left.wait()
    await wire.settled_at(CHEAP)


async def test_a_slow_backend_holds_its_client_back(wire: Wire) -> None:
    """S13: an upload that nobody reads is not read by Farebox either; an answer that comes all the same ends it."""
    go = asyncio.Event()

    async def unread(visit: Visit) -> None:
        await go.wait()
        await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        visit.writer.close()

    wire.backend.script = unread
    client = await wire.start("POST /flat", f"Content-Length: {2**40}", user="ann")
    await wire.backend.arrived.wait()
    sent = 0

    async def endless() -> None:
        nonlocal sent
        while True:
            await client.send(b"z" * 2**16)
            sent += 2**16

    tracemalloc.start()
    upload, before = asyncio.create_task(endless()), -1
    while sent != before:
        before = sent
        await asyncio.sleep(0.2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0 < sent < 64 * MIB, "what lies in the buffers of the system"
    assert peak < 4 * MIB
    go.set()
    assert (await client.answer("POST")).body == b"ok"
    upload.cancel()
    client.leave()
    await wire.settled_at(CHEAP)


# Many at once.


async def test_many_streams_at_once(wire: Wire) -> None:
    """A hundred open streams, each with its own hold, each settled by its own usage."""
    go = asyncio.Event()

    async def waiting(visit: Visit) -> None:
        await visit.send(EVENTS)
        tokens = json.loads(await visit.body())["max_tokens"]
        await go.wait()
        await visit.send(chunk(stating(tokens)) + chunk(b""))

    wire.backend.script = waiting
    clients = [await wire.connect() for _ in range(100)]
    for number, client in enumerate(clients):
        await client.send(request("POST /buy", wire.bearer(f"u{number % 10}"), body=order(max_tokens=number)))
    for client in clients:
        await client.head()
    assert len(await wire.open_holds()) == 100
    go.set()
    for number, client in enumerate(clients):
        assert await client.chunk() == stating(number)
        assert await client.chunk() == b""
    charged = sorted(row["charged"] for row in await wire.usage())
    assert charged == sorted(max(CHEAP, number * TOKEN) for number in range(100))

"""S15: WebSockets talk: every byte reaches the other side, whatever ends it ends it, and each message is paid."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from config.clock import utc_now
from policies.subscription import GRACE_DEFAULT
from store import accounts, api_keys, catalogue, reports, subscriptions
from store.opening import open_store
from tests.flows.raw import OK, RawClient, Visit, answering, request
from tests.flows.wire.frames import (
    ACCEPT,
    ASKING,
    BINARY,
    CLOSE,
    GRANTED,
    KEY,
    PING,
    PONG,
    TEXT,
    Closed,
    Frame,
    closing,
    echo,
    frame,
    granting,
    read_frame,
    stated,
    switch,
    until_closed,
)
from tests.flows.wire.test_failing import rename
from tests.flows.wire.wire import CHEAP, MODEL, QUOTE, SETTINGS, TOKEN, WELCOME, Wire, running_wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 2**20
ROUTES = """
  - {id: talk, match: GET /talk, upstream: raw, app: shop, model: {query: model}, websocket: {}}
  - id: counted
    match: GET /counted
    upstream: raw
    app: shop
    model: {const: cheap}
    websocket: {charge: messages, max_message: 1KiB}
  - id: blocks
    match: GET /blocks
    upstream: raw
    app: shop
    model: {const: cheap}
    websocket: {charge: messages, block: 3, counted: both}
  - id: realtime
    match: GET /realtime
    upstream: raw
    app: shop
    model: {const: cheap}
    units: {tokens: {const: 20, max: 20}}
    usage: {tokens: {json: /usage/tokens}}
    websocket: {charge: usage}
  - id: forgiving-realtime
    match: GET /forgiving-realtime
    upstream: raw
    app: shop
    model: {const: cheap}
    units: {tokens: {const: 20, max: 20}}
    usage: {tokens: {json: /usage/tokens}}
    websocket: {charge: usage}
    on_abort: release
  - {id: brief, match: GET /brief, upstream: raw, access: open, websocket: {idle_timeout: 200ms}}
  - {id: short, match: GET /short, upstream: raw, access: open, websocket: {total_timeout: 200ms}}
  - id: short-realtime
    match: GET /short-realtime
    upstream: raw
    app: shop
    model: {const: cheap}
    units: {tokens: {const: 20, max: 20}}
    usage: {tokens: {json: /usage/tokens}}
    websocket: {charge: usage, total_timeout: 200ms}
  - id: strict-blocks
    match: GET /strict-blocks
    upstream: raw
    app: shop
    model: {const: cheap}
    websocket: {charge: messages, block: 3}
    on_abort: quote
  - id: forgiving-blocks
    match: GET /forgiving-blocks
    upstream: raw
    app: shop
    model: {const: cheap}
    websocket: {charge: messages, block: 3}
    on_abort: release
  - {id: unprepared, match: GET /unprepared, upstream: raw, app: shop, model: {const: cheap}}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_wire(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    async with running_wire(migrated_file, tmp_path_factory.mktemp("wire"), SETTINGS + ROUTES) as running:
        yield running
        await running.verify()


# The switch.


async def test_a_switch_passes_as_it_is(wire: Wire) -> None:
    """Key, version, subprotocols and extensions to the backend; what it chose to the client; nothing invented."""
    chosen = b"Sec-WebSocket-Protocol: b\r\nSec-WebSocket-Extensions: permessage-deflate\r\nX-Mine: 1\r\n\r\n"
    wire.backend.script = granting(echo, GRANTED.removesuffix(b"\r\n") + chosen)
    extra = ("Sec-WebSocket-Protocol: a, b", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
    answer, _ = await switch(wire, "/open/x?y", *ASKING, *extra, user=None)
    (arrived,) = wire.backend.requests
    assert arrived.first == b"GET /open/x?y HTTP/1.1"
    sent = [tuple(header.encode().split(b": ", 1)) for header in (*ASKING[2:], *extra)]
    assert [header for header in arrived.headers if header[0].startswith(b"Sec-")] == sent
    assert arrived.values(b"connection") + arrived.values(b"upgrade") == [b"Upgrade", b"websocket"]
    assert answer.first == b"HTTP/1.1 101 Switching Protocols"
    assert [name for name, _ in answer.headers] == [
        b"Sec-WebSocket-Accept",
        b"Sec-WebSocket-Protocol",
        b"Sec-WebSocket-Extensions",
        b"X-Mine",
        b"X-Request-Id",
        b"Connection",
        b"Upgrade",
    ]


@pytest.mark.parametrize("target", ["/open/x", "/mine/x", "/talk?model=cheap", "/counted", "/realtime"])
async def test_what_is_said_is_echoed(wire: Wire, target: str) -> None:
    """Texts, bytes, fragments and pings arrive as the frames they were, and so does the end with its code."""
    wire.backend.script = granting(echo)
    _, client = await switch(wire, target)
    await client.send(frame("hi"))
    assert await read_frame(client.reader) == Frame(TEXT, b"hi", masked=False, fin=True)
    await client.send(frame(b"", PING))
    assert (await read_frame(client.reader)).opcode == PING
    await client.send(closing(4321, "bye"))
    assert await until_closed(client.reader, client.writer) == Closed(4321, "bye")


async def test_frames_pass_byte_for_byte(wire: Wire) -> None:
    """With their masks and fragments, a control frame among them, cut anywhere."""
    said = (
        frame("a", fin=False) + frame(b"", PONG) + frame(b"b" * 70_000, 0) + frame(b"c" * 200, BINARY) + closing(1000)
    )
    heard = b""

    async def listen(visit: Visit) -> None:
        nonlocal heard
        heard = await visit.reader.readexactly(len(said))
        await visit.send(closing(1000, masked=False))

    for size in (1, 7, 4096, len(said)):
        wire.backend.script = granting(listen)
        _, client = await switch(wire, "/open/x")
        for at in range(0, len(said) if size > 1 else 400, size):
            await client.send(said[at : at + size])
        if size == 1:
            await client.send(said[400:])
        assert await until_closed(client.reader, client.writer) == Closed(1000)
        assert heard == said


async def test_what_is_said_before_the_answer_waits_for_it(wire: Wire) -> None:
    """Frames behind the request are no part of it: a backend that refuses never sees them, one that grants does."""
    said = frame("early") + closing(1000)
    wire.backend.script = granting(echo)
    client = await wire.connect()
    await client.send(request("GET /open/x", *ASKING) + said)
    assert (await client.head()).status == 101
    assert (await read_frame(client.reader)).payload == b"early"
    wire.backend.reset()
    smuggled = request("GET /open/y")
    client = await wire.connect()
    await client.send(request("GET /open/x", *ASKING) + smuggled)
    assert [(await client.answer()).body, (await client.answer()).body] == [b"ok", b"ok"]
    assert [message.first for message in wire.backend.requests] == [
        b"GET /open/x HTTP/1.1",
        b"GET /open/y HTTP/1.1",
    ], "each was routed as a request of its own"


async def test_a_switch_behind_other_requests(wire: Wire) -> None:
    """Sent all at once: each request has its answer, in order, and what follows the last belongs to its WebSocket."""

    async def script(visit: Visit) -> None:
        await (granting(echo) if visit.request.values(b"upgrade") else answering(OK))(visit)

    wire.backend.script = script
    client = await wire.connect()
    paid = request("GET /counted", wire.bearer(), *ASKING)
    await client.send(request("GET /open/x") + request("POST /flat", wire.bearer(), body=b"abc") + paid + frame("hi"))
    assert [(await client.answer()).body, (await client.answer()).body] == [b"ok", b"ok"]
    assert (await client.head()).status == 101
    assert (await read_frame(client.reader)).payload == b"hi"
    client.leave()
    await wire.settled_at(2 * CHEAP)


REFUSALS = {
    "401": ("/talk?model=cheap", None, 401),
    "400": ("/talk", "ann", 400),
    "403": ("/talk?model=unknown", "ann", 403),
    "404": ("/nowhere", "ann", 404),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_comes_before_the_switch(wire: Wire, name: str) -> None:
    """As plain HTTP; the backend hears nothing of it, and the connection serves the next request."""
    target, user, status = REFUSALS[name]
    answer, client = await switch(wire, target, user=user)
    assert answer.status == status
    await client.reader.readexactly(answer.length or 0)
    assert not wire.backend.requests
    await client.send(request("GET /open/x"))
    assert (await client.answer()).body == b"ok"


@pytest.mark.parametrize("target", ["/talk?model=dear", "/counted", "/realtime"])
async def test_who_cannot_pay_is_refused_before_the_switch(wire: Wire, target: str) -> None:
    """402, and nothing arrives."""
    for _ in range(WELCOME // (10 * CHEAP)):
        wire.backend.script = answering(OK)
        assert (await wire.ask("POST /by-header", "X-Model: dear", user="ann")).status == 200
    wire.backend.reset()
    answer, _ = await switch(wire, target)
    assert (answer.status, wire.backend.requests) == (402, [])


@pytest.mark.parametrize("status", [b"200 OK", b"403 Forbidden", b"426 Upgrade Required"])
@pytest.mark.parametrize("target", ["/open/x", "/talk?model=cheap", "/counted", "/realtime"])
async def test_a_backend_that_does_not_grant_it_is_heard(wire: Wire, target: str, status: bytes) -> None:
    """Its answer passes, body and all, and the connection serves the next request. Nothing is charged, unless it has
    delivered all the same: else whoever asks for a WebSocket where there is none would have an answer for nothing.
    """
    wire.backend.script = answering(b"HTTP/1.1 %b\r\nX-Why: no\r\nContent-Length: 2\r\n\r\nno" % status)
    answer, client = await switch(wire, target)
    assert (answer.status, answer.values(b"x-why")) == (int(status[:3]), [b"no"])
    assert await client.reader.readexactly(2) == b"no"
    assert (await wire.spent() > 0) == (status == b"200 OK" and target != "/open/x")
    await client.send(request("GET /open/x"))
    assert (await client.answer()).body == b"no"


BAD_GRANTS = {
    "another protocol": GRANTED.replace(b"websocket", b"h2c"),
    "another key": GRANTED.replace(ACCEPT, b"aGVsbG8gdGhlcmUgaGVsbG8gdGhlcmU="),
    "no key": GRANTED.replace(b"Sec-WebSocket-Accept", b"X"),
    "no upgrade": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "an extension": GRANTED.removesuffix(b"\r\n") + b"Sec-WebSocket-Extensions: x\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("name", BAD_GRANTS)
async def test_a_grant_of_something_else_is_502(wire: Wire, name: str) -> None:
    """Nobody talks to what is no WebSocket; free."""

    async def silent(visit: Visit) -> None:
        visit.writer.close()

    wire.backend.script = granting(silent, BAD_GRANTS[name])
    for target in ("/open/x", "/talk?model=cheap"):
        answer, _ = await switch(wire, target)
        assert answer.status == 502
    assert await wire.spent() == 0


NOT_ASKING = {
    "POST": ("POST", ASKING),
    "no connection": ("GET", (*ASKING[:1], *ASKING[2:])),
    "another protocol": ("GET", ("Upgrade: h2c", *ASKING[1:])),
    "two protocols": ("GET", ("Upgrade: websocket, h2c", *ASKING[1:])),
    "two upgrades": ("GET", ("Upgrade: websocket", *ASKING)),
    "no key": ("GET", (*ASKING[:2], ASKING[3])),
    "two keys": ("GET", (*ASKING, f"Sec-WebSocket-Key: {KEY}")),
    "a short key": ("GET", (*ASKING[:2], "Sec-WebSocket-Key: abc", ASKING[3])),
    "a body": ("GET", (*ASKING, "Content-Length: 3")),
    "chunks": ("GET", (*ASKING, "Transfer-Encoding: chunked")),
}


@pytest.mark.parametrize("name", NOT_ASKING)
async def test_what_asks_in_another_way_asks_for_nothing(wire: Wire, name: str) -> None:
    """It is an ordinary request, and the backend is not asked to switch; its body is a body (CVE-2026-69243)."""
    method, headers = NOT_ASKING[name]
    body = {"a body": b"abc", "chunks": b"3\r\nabc\r\n0\r\n\r\n"}.get(name, b"")
    answer = await wire.ask(f"{method} /open/x", *headers, body=body)
    (arrived,) = wire.backend.requests
    assert (answer.status, arrived.body) == (200, b"abc" if body else b"")
    assert not arrived.values(b"upgrade") + arrived.values(b"connection")


async def test_a_priced_route_switches_only_where_it_says_so(wire: Wire) -> None:
    """One price for a request is no price for a conversation: there the backend is asked for a plain answer."""
    answer, _ = await switch(wire, "/unprepared")
    assert (answer.status, wire.backend.requests[0].values(b"upgrade")) == (200, [])


# Ends.


async def test_a_backend_that_dies(wire: Wire) -> None:
    """The client's connection ends without a close frame too, after everything that was said."""

    async def die(visit: Visit) -> None:
        await visit.send(frame("last words", masked=False))

    wire.backend.script = granting(die)
    _, client = await switch(wire, "/open/x")
    assert (await read_frame(client.reader)).payload == b"last words"
    assert await until_closed(client.reader, client.writer) == Closed(1006)


async def test_a_client_that_dies(wire: Wire) -> None:
    """The backend's connection ends at once, also in silence."""

    async def listen(visit: Visit) -> None:
        await visit.gone()

    wire.backend.script = granting(listen)
    _, client = await switch(wire, "/talk?model=cheap")
    client.leave()
    async with asyncio.timeout(5):
        await wire.until(lambda: wire.services is not None and not wire.backend._open)


async def test_last_words_arrive(wire: Wire) -> None:
    """A client that says something and leaves has said it."""
    heard = asyncio.Event()

    async def listen(visit: Visit) -> None:
        assert (await read_frame(visit.reader)).payload == b"x" * 100_000
        assert await until_closed(visit.reader) == Closed(1000)
        heard.set()

    wire.backend.script = granting(listen)
    _, client = await switch(wire, "/open/x")
    await client.send(frame(b"x" * 100_000, BINARY) + closing(1000))
    await client.close()
    async with asyncio.timeout(5):
        await heard.wait()


async def test_silence_is_not_for_ever(wire: Wire) -> None:
    """Both sides are told, by 1001; a ping is a sign of life."""
    told: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()

    async def listen(visit: Visit) -> None:
        told.set_result(await until_closed(visit.reader))

    wire.backend.script = granting(listen)
    _, client = await switch(wire, "/brief")
    for _ in range(4):
        await asyncio.sleep(0.1)
        await client.send(frame(b"", PING))
    assert await until_closed(client.reader, client.writer) == Closed(1001, "idle for too long")
    assert await told == Closed(1001, "idle for too long")


async def test_a_connection_does_not_last_for_ever(wire: Wire) -> None:
    """However lively it is: both sides are told, by 1001, between two messages."""
    told: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()

    async def listen(visit: Visit) -> None:
        told.set_result(await until_closed(visit.reader))

    wire.backend.script = granting(listen)
    _, client = await switch(wire, "/short")
    await client.send(frame("a message", fin=False))
    closed = asyncio.create_task(until_closed(client.reader, client.writer))
    for _ in range(5):
        await asyncio.sleep(0.1)
        await client.send(frame("in pieces", 0, fin=False))
        assert not closed.done()
    await client.send(frame("and its end", 0))
    assert await closed == await told == Closed(1001, "open for too long")


async def test_what_is_paid_is_delivered_when_the_time_is_over(wire: Wire) -> None:
    """An answer under way comes to its end and is charged by its usage, and then the connection ends."""

    async def answer(visit: Visit) -> None:
        await read_frame(visit.reader)
        await asyncio.sleep(0.4)
        await visit.send(stated(50))
        await until_closed(visit.reader)

    wire.backend.script = granting(answer)
    _, client = await switch(wire, "/short-realtime")
    await client.send(frame("tell me"))
    assert b"usage" in (await read_frame(client.reader)).payload
    assert await until_closed(client.reader, client.writer) == Closed(1001, "open for too long")
    await wire.settled_at(50 * TOKEN)


BAD_FRAMES = {
    "not masked": frame("hi", masked=False),
    "reserved bit": frame("hi", rsv=4),
    "unknown data": frame("hi", 3),
    "unknown control": frame("hi", 11),
    "a ping in pieces": frame("hi", PING, fin=False),
    "a long ping": frame("h" * 126, PING),
    "a close of one byte": frame(b"x", CLOSE),
    "nothing to continue": frame("hi", 0),
    "two messages at once": frame("hi", fin=False) + frame("hi"),
    "a long way to say little": bytes([0x81, 0xFE, 0, 5]) + b"\0\0\0\0hello",
    "a length beyond all": bytes([0x81, 0xFF]) + b"\xff" * 8 + b"\0\0\0\0",
}


@pytest.mark.parametrize("name", BAD_FRAMES)
async def test_what_is_no_frame_ends_it(wire: Wire, name: str) -> None:
    """1002 for both sides; what came before it has arrived, and of the bad frame nothing."""
    told: asyncio.Future[tuple[Frame, Closed]] = asyncio.get_running_loop().create_future()

    async def listen(visit: Visit) -> None:
        told.set_result((await read_frame(visit.reader), await until_closed(visit.reader)))

    wire.backend.script = granting(listen)
    _, client = await switch(wire, "/open/x")
    await client.send(frame("good") + BAD_FRAMES[name])
    assert (await until_closed(client.reader, client.writer)).code == 1002
    first, closed = await told
    assert (first.payload, closed.code) == (b"good", 1002)


async def test_a_backend_may_not_mask(wire: Wire) -> None:
    """RFC 6455 §5.1; nor may it do anything else that a client may not."""

    async def masked(visit: Visit) -> None:
        await visit.send(frame("hi"))
        await visit.gone()

    wire.backend.script = granting(masked)
    _, client = await switch(wire, "/open/x")
    assert (await until_closed(client.reader, client.writer)).code == 1002


@pytest.mark.parametrize("pieces", [1, 5])
async def test_a_message_beyond_the_bound(wire: Wire, pieces: int) -> None:
    """1009, by what its head says or as soon as its fragments exceed it; the message that fits passes."""
    wire.backend.script = granting(echo)
    _, client = await switch(wire, "/counted")
    await client.send(frame(b"x" * 1024))
    assert len((await read_frame(client.reader)).payload) == 1024
    size = 1100 // pieces
    for piece in range(pieces):
        await client.send(frame(b"x" * size, TEXT if piece == 0 else 0, fin=piece == pieces - 1))
    assert (await until_closed(client.reader, client.writer)).code == 1009
    # Fragments have passed before the one that was too much: they are a message, too.
    await wire.settled_at(CHEAP if pieces == 1 else 2 * CHEAP)


async def test_a_long_message_takes_little_memory(wire: Wire) -> None:
    """Sixteen mebibytes in one frame, either way, are never kept."""
    size, piece = 16 * MIB - 100, b"\0" * 2**16

    async def swap(visit: Visit) -> None:
        head = await visit.reader.readexactly(14)
        left = size
        while left:
            left -= len(await visit.reader.readexactly(min(left, len(piece))))
        await visit.send(bytes([0x82, 127]) + head[2:10])
        for at in range(0, size, len(piece)):
            await visit.send(piece[: size - at])
        await visit.gone()

    wire.backend.script = granting(swap)
    _, client = await switch(wire, "/talk?model=cheap")
    tracemalloc.start()
    await client.send(bytes([0x82, 0xFF]) + size.to_bytes(8, "big") + b"\0\0\0\0")
    for at in range(0, size, len(piece)):
        await client.send(piece[: size - at])
    await client.reader.readexactly(10)
    left = size
    while left:
        left -= len(await client.reader.readexactly(min(left, len(piece))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * MIB


@pytest.mark.parametrize("slow", ["client", "backend"])
async def test_who_does_not_read_holds_the_other_back(wire: Wire, slow: str) -> None:
    """S13: what the one has to say waits where it is."""
    sent = 0

    async def chatter(send: object, masked: bool) -> None:
        nonlocal sent
        message = frame(b"z" * 2**16, BINARY, masked=masked)
        while True:
            await send(message)  # type: ignore[operator]
            sent += 2**16

    async def script(visit: Visit) -> None:
        if slow == "client":
            await chatter(visit.send, masked=False)
        else:
            await asyncio.sleep(60)

    wire.backend.script = granting(script)
    _, client = await switch(wire, "/open/x")
    task = asyncio.create_task(chatter(client.send, masked=True)) if slow == "backend" else None
    tracemalloc.start()
    before = -1
    while sent != before:
        before = sent
        await asyncio.sleep(0.2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0 < sent < 64 * MIB, "what lies in the buffers of the system"
    assert peak < 5 * MIB
    if task is not None:
        task.cancel()
    client.leave()


@pytest.mark.parametrize("seed", range(20))
async def test_noise_from_both_sides(wire: Wire, seed: int) -> None:
    """Damaged frames, whatever they do: both connections end, every hold does, and it is nobody's fault."""
    dice = random.Random(seed)

    def noise(masked: bool) -> bytes:
        good = [frame("hi", masked=masked), frame(b"x" * 200, BINARY, masked=masked), stated(5), closing(1000)]
        data = bytearray(b"".join(dice.choices(good, k=10)))
        for _ in range(dice.randrange(4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        return bytes(data)

    async def talk(visit: Visit) -> None:
        await visit.send(noise(masked=False))
        with suppress(ConnectionError):
            async with asyncio.timeout(dice.random() / 10):
                await visit.gone()

    async def leaving(visit: Visit) -> None:
        with suppress(TimeoutError):
            await talk(visit)

    wire.backend.script = granting(leaving)
    for target in ("/open/x", "/counted", "/blocks", "/realtime"):
        _, client = await switch(wire, target)
        data = noise(masked=True)
        with suppress(ConnectionError):
            for at in range(0, len(data), 50):
                await client.send(data[at : at + 50])
                await asyncio.sleep(0)
        if dice.random() < 0.5:
            await client.rest()
        client.leave()
    await wire.until(lambda: wire.open_count(0))


# Paying.


async def test_a_connection_is_paid_once(wire: Wire) -> None:
    """When the backend has granted it, whatever is said afterwards; the answer to the switch says what was charged."""
    wire.backend.script = granting(echo)
    answer, client = await switch(wire, "/talk?model=dear")
    assert (answer.values(b"x-farebox-charged"), answer.values(b"x-farebox-funding")) == ([b"10"], [b"credits"])
    for _ in range(5):
        await client.send(frame("hi"))
        await read_frame(client.reader)
    assert await wire.spent() == 10 * CHEAP
    client.leave()
    await wire.settled_at(10 * CHEAP)
    assert [row["charged"] for row in await wire.usage()] == [10 * CHEAP]


async def test_each_message_is_paid_before_it_passes(wire: Wire) -> None:
    """One by one; pings and what the backend says are free; a connection that says nothing costs nothing."""
    wire.backend.script = granting(echo)
    answer, client = await switch(wire, "/counted")
    assert answer.values(b"x-farebox-reserved") == [b"1"]
    for number in range(1, 6):
        await client.send(frame(b"", PING) + frame("hi"))
        await read_frame(client.reader)
        await read_frame(client.reader)
        await wire.until(lambda number=number: _spent(wire, number * CHEAP))  # type: ignore[misc]
    client.leave()
    await wire.settled_at(5 * CHEAP)
    assert len(await wire.usage()) == 5
    _, client = await switch(wire, "/counted", user="bob")
    client.leave()
    await wire.until(lambda: wire.open_count(0))
    assert await wire.spent("bob") == 0


async def _spent(wire: Wire, amount: int) -> bool:
    return await wire.spent() == amount


async def test_messages_stop_where_the_balance_does(wire: Wire) -> None:
    """A hundred pass, the next does not: 1008 for both sides, with the code of the refusal."""
    heard = 0
    told: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()

    async def count(visit: Visit) -> None:
        nonlocal heard
        while (found := await read_frame(visit.reader)).opcode == TEXT:
            heard += 1
        told.set_result(Closed(int.from_bytes(found.payload[:2], "big"), found.payload[2:].decode()))

    wire.backend.script = granting(count)
    _, client = await switch(wire, "/counted")
    await client.send(frame("hi") * 150)
    assert await until_closed(client.reader, client.writer) == Closed(1008, "insufficient_credits")
    assert (heard, await told) == (100, Closed(1008, "insufficient_credits"))
    await wire.settled_at(WELCOME)


async def test_two_connections_spend_one_balance(wire: Wire) -> None:
    """Whatever the order: a hundred messages pass over all of them."""
    heard = 0

    async def count(visit: Visit) -> None:
        nonlocal heard
        while (await read_frame(visit.reader)).opcode == TEXT:
            heard += 1

    wire.backend.script = granting(count)
    clients = [(await switch(wire, "/counted"))[1] for _ in range(5)]
    for client in clients:
        await client.send(frame("hi") * 60)
    for client in clients:
        assert (await until_closed(client.reader, client.writer)).code == 1008
    await wire.until(lambda: heard >= 100)
    await wire.settled_at(WELCOME)
    assert heard == 100


async def test_blocks_of_messages(wire: Wire) -> None:
    """Three messages of either side in one hold; of the last one, as many as there were."""
    wire.backend.script = granting(echo)
    _, client = await switch(wire, "/blocks")
    for _ in range(2):
        await client.send(frame("hi"))
        await read_frame(client.reader)
    client.leave()
    await wire.until(lambda: wire.open_count(0))
    events = await wire.usage()
    assert [row["units"] for row in events] == [{"messages": "1"}, {"messages": "3"}]


@pytest.mark.parametrize(
    ("target", "whole", "units"),
    [
        ("/counted", 0, ["1"]),
        ("/counted", 1, ["1", "1"]),
        ("/blocks", 1, ["2"]),
        ("/strict-blocks", 0, ["3"]),
        ("/strict-blocks", 1, ["3"]),
        ("/strict-blocks", 3, ["3", "3"]),
        ("/forgiving-blocks", 0, []),
        ("/forgiving-blocks", 1, ["1"]),
    ],
)
async def test_a_message_that_never_ends_is_not_free(wire: Wire, target: str, whole: int, units: list[str]) -> None:
    """Its fragments have passed, so it counts when its client leaves; what that costs, the route's rule says."""
    heard = asyncio.Event()

    async def listen(visit: Visit) -> None:
        while (await read_frame(visit.reader)).payload != b"the last piece":
            pass
        heard.set()
        await visit.gone()

    wire.backend.script = granting(listen)
    _, client = await switch(wire, target)
    await client.send(frame("hi") * whole + frame("a message", fin=False) + frame("in pieces", 0, fin=False))
    await client.send(frame("the last piece", 0, fin=False))
    await heard.wait()
    client.leave()
    await wire.settled_at(len(units) * CHEAP)
    assert [row["units"]["messages"] for row in await wire.usage()] == units[::-1]


@pytest.mark.parametrize("target", ["/strict-blocks", "/forgiving-blocks"])
async def test_whole_messages_cost_their_number_whatever_the_rule(wire: Wire, target: str) -> None:
    """`on_abort` is about what was cut."""
    wire.backend.script = granting(echo)
    _, client = await switch(wire, target)
    await client.send(frame("hi") * 2)
    for _ in range(2):
        await read_frame(client.reader)
    client.leave()
    await wire.settled_at(CHEAP)
    assert [row["units"] for row in await wire.usage()] == [{"messages": "2"}]


async def test_fragments_without_anything_in_them_come_to_an_end(wire: Wire) -> None:
    """A message of nothing at all is too long some day."""
    wire.backend.script = granting(echo)
    _, client = await switch(wire, "/counted")
    await client.send(frame("", fin=False) + frame("", 0, fin=False) * 1024)
    assert (await until_closed(client.reader, client.writer)).code == 1009
    await wire.settled_at(CHEAP)


async def test_a_usage_that_is_stated_is_what_an_answer_costs(wire: Wire) -> None:
    """Settled before the client has the whole of it; the next question is a purchase of its own."""
    tokens = [50, 30, 5]

    async def answer(visit: Visit) -> None:
        for count in tokens:
            await read_frame(visit.reader)
            await visit.send(frame("well", masked=False) + stated(count) + frame("done", masked=False))
        await until_closed(visit.reader)

    wire.backend.script = granting(answer)
    head, client = await switch(wire, "/realtime", *ASKING, "Sec-WebSocket-Extensions: permessage-deflate")
    assert head.values(b"x-farebox-reserved") == [b"2"]
    assert not wire.backend.requests[0].values(b"sec-websocket-extensions"), "compressed frames could not be read"
    spent = 0
    for count in tokens:
        await client.send(frame("tell me"))
        assert (await read_frame(client.reader)).payload == b"well"
        assert b"usage" in (await read_frame(client.reader)).payload
        spent += max(count * TOKEN, CHEAP)
        assert await wire.spent() == spent
        await read_frame(client.reader)
    client.leave()
    await wire.settled_at(spent)


async def test_usage_that_nobody_asked_for_is_paid_too(wire: Wire) -> None:
    """Two questions at once have two answers, and each is charged; where there is no money left it is not delivered."""

    async def answer(visit: Visit) -> None:
        await read_frame(visit.reader)
        await read_frame(visit.reader)
        await visit.send(stated(50) + stated(30) + stated(2000) + stated(1))
        await visit.gone()

    wire.backend.script = granting(answer)
    _, client = await switch(wire, "/realtime")
    await client.send(frame("one") + frame("two"))
    for _ in range(3):
        assert b"usage" in (await read_frame(client.reader)).payload
    assert await until_closed(client.reader, client.writer) == Closed(1008, "insufficient_credits")
    await wire.settled_at(WELCOME)


@pytest.mark.parametrize(
    ("target", "said", "spent"),
    [
        ("/realtime", b"", QUOTE),
        ("/forgiving-realtime", b"", 0),
        ("/realtime", stated(-1), QUOTE),
        ("/realtime", stated("many"), QUOTE),
        ("/realtime", frame(b'{"usage": {"tokens": 1}, "usage": {"tokens": 2}}', masked=False), QUOTE),
        ("/realtime", frame(b'{"usage": {"tokens": null}}', masked=False), QUOTE),
    ],
)
async def test_an_answer_of_no_known_usage(wire: Wire, target: str, said: bytes, spent: int) -> None:
    """Broken off, or stated in a way that nobody can believe: by the route's rule, or by the quote."""

    async def answer(visit: Visit) -> None:
        await read_frame(visit.reader)
        await visit.send(frame("well", masked=False) + said)
        await visit.gone()

    wire.backend.script = granting(answer)
    _, client = await switch(wire, target)
    await client.send(frame("tell me"))
    await read_frame(client.reader)
    if said:
        await read_frame(client.reader)
    client.leave()
    await wire.settled_at(spent)


@pytest.mark.parametrize(("tokens", "spent"), [(1, QUOTE), (500, 500 * TOKEN)])
async def test_a_usage_in_a_text_that_is_too_long_to_be_read(wire: Wire, tokens: int, spent: int) -> None:
    """A longer answer is no way to be free: the stretch costs its quote, and more where more is stated."""

    async def answer(visit: Visit) -> None:
        await read_frame(visit.reader)
        long = b'{"usage": {"tokens": 400}, "said": "' + b"x" * MIB + b'"}'
        await visit.send(frame(long, masked=False) + stated(tokens))
        await read_frame(visit.reader)
        await visit.send(frame(b"x" * 2 * MIB, BINARY, masked=False) + stated(30))
        await until_closed(visit.reader)

    wire.backend.script = granting(answer)
    _, client = await switch(wire, "/realtime")
    for more in (0, 30 * TOKEN):
        await client.send(frame("tell me"))
        for _ in range(2):
            await read_frame(client.reader)
        await wire.until(partial(_spent, wire, spent + more))
    client.leave()
    await wire.settled_at(spent + 30 * TOKEN)


async def test_quota_pays_for_messages_too(wire: Wire) -> None:
    """Each purchase takes what the model takes of a quota; when it is used up, 1008 says so."""
    await wire.ask("GET /mine/x", user="ann")
    account = await wire.account()
    assert account is not None
    plan = {"tier": "basic", "name": "Basic", "description": "", "price": 0, "currency": "USD", "cycle": "monthly"}
    plan |= {"daily_quota": 3, "monthly_quota": None, "max_model_tier": "basic", "features": {}}
    database = wire.services.store.database
    await database.write(catalogue.put_plan, "three", plan, 1, True, utc_now())
    bought = next(plan for plan in (await database.read(catalogue.load)).plans if plan.plan_id == "three")
    await database.write(subscriptions.subscribe, account, bought, GRACE_DEFAULT, "ann", utc_now())
    wire.backend.script = granting(echo)
    answer, client = await switch(wire, "/counted")
    assert answer.values(b"x-farebox-funding") == [b"quota"]
    for _ in range(3):
        await client.send(frame("hi"))
        await read_frame(client.reader)
    await client.send(frame("hi"))
    assert await until_closed(client.reader, client.writer) == Closed(1008, "quota_exceeded")
    again, _ = await switch(wire, "/counted")
    assert again.status == 429
    await wire.settled_at(0)


async def test_quota_pays_for_what_was_used(migrated_file: Path, tmp_path: Path) -> None:
    """Where a model takes of a quota by units: by those that are stated, or by the messages that have passed."""
    async with running_wire(migrated_file, tmp_path, SETTINGS + ROUTES) as wire:
        await wire.ask("GET /mine/x", user="ann")
        account, database = await wire.account(), wire.services.store.database
        assert account is not None
        plan = {"tier": "basic", "name": "Basic", "description": "", "price": 0, "currency": "USD", "cycle": "monthly"}
        plan |= {"daily_quota": 1000, "monthly_quota": None, "max_model_tier": "basic", "features": {}}
        terms = {"rates": {"tokens": "1", "messages": "1"}}
        await database.write(catalogue.put_plan, "many", plan, 1, True, utc_now())
        model = {**MODEL, "price_base": CHEAP, "quota_cost": 0, "quota_terms": terms}
        await database.write(catalogue.put_model, "shop:cheap", model)
        await database.write(catalogue.changed)
        for_sale = await database.read(catalogue.load)
        assert not wire.services.rulebooks.reload(for_sale, utc_now())
        bought = next(plan for plan in for_sale.plans if plan.plan_id == "many")
        await database.write(subscriptions.subscribe, account, bought, GRACE_DEFAULT, "ann", utc_now())

        async def answer(visit: Visit) -> None:
            await read_frame(visit.reader)
            await visit.send(stated(5) if b"realtime" in visit.request.first else frame("well", masked=False))
            await until_closed(visit.reader)

        used = 0
        for target, units in (("/realtime", 5), ("/blocks", 2)):
            wire.backend.script = granting(answer)
            head, client = await switch(wire, target)
            assert head.values(b"x-farebox-funding") == [b"quota"]
            await client.send(frame("tell me"))
            await read_frame(client.reader)
            client.leave()
            await wire.settled_at(0)
            used += units
            assert sum(row["charged"] for row in await wire.usage()) == used
        await wire.verify()


async def test_who_was_frozen_does_not_go_on(wire: Wire) -> None:
    """Each purchase within a connection is judged like a request: 1008 with the code."""
    wire.backend.script = granting(echo)
    _, client = await switch(wire, "/counted")
    await client.send(frame("hi"))
    await read_frame(client.reader)
    account = await wire.account()
    assert account is not None
    await wire.services.store.database.write(accounts.set_frozen, account, wire.services.now())
    await client.send(frame("hi"))
    assert await until_closed(client.reader, client.writer) == Closed(1008, "account_frozen")


async def test_what_is_paid_is_delivered_when_farebox_stops(migrated_file: Path, tmp_path: Path) -> None:
    """An answer under way comes to its end and is charged by its usage; then both sides are told to go elsewhere."""
    go = asyncio.Event()
    told: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()

    async def answer(visit: Visit) -> None:
        await read_frame(visit.reader)
        await visit.send(frame("well", masked=False))
        await go.wait()
        await visit.send(stated(50))
        told.set_result(await until_closed(visit.reader))

    async with running_wire(migrated_file, tmp_path, SETTINGS + ROUTES) as wire:
        wire.backend.script = granting(answer)
        client = await RawClient.connect(wire.address.host, wire.address.port)
        await client.send(request("GET /realtime", wire.bearer(), *ASKING))
        await client.head()
        await client.send(frame("tell me"))
        await read_frame(client.reader)
        stopping = asyncio.create_task(_stop_after(wire, go))
    await stopping
    assert b"usage" in (await read_frame(client.reader)).payload
    assert await until_closed(client.reader, client.writer) == Closed(1001, "the service is restarting")
    assert await told == Closed(1001, "the service is restarting")
    await client.close()
    async with open_store(wire.services.settings.database_url, utc_now) as store:
        account = (await store.database.read(accounts.find_user, wire.name("ann"))).account.account_id
        assert (await store.database.read(reports.balance, account, utc_now())).available == WELCOME - 50 * TOKEN


async def _stop_after(wire: Wire, go: asyncio.Event) -> None:
    """Let the backend go on once nobody is let in any more."""
    while True:
        try:
            (await RawClient.connect(wire.address.host, wire.address.port)).leave()
        except ConnectionError:
            break
        await asyncio.sleep(0.02)
    go.set()


async def test_a_store_that_fails_stops_what_is_not_paid(migrated_file: Path, tmp_path: Path) -> None:
    """The next message does not pass, 1011 says why, and what passed before is charged when the store is back."""
    async with running_wire(migrated_file, tmp_path, SETTINGS + ROUTES) as wire:
        wire.backend.script = granting(echo)
        _, client = await switch(wire, "/counted")
        rename(tmp_path, "usage_events", "gone")
        rename(tmp_path, "accounts", "away")
        await client.send(frame("paid already"))
        assert (await read_frame(client.reader)).payload == b"paid already"
        await client.send(frame("not paid"))
        assert await until_closed(client.reader, client.writer) == Closed(1011, "store_unavailable")
        rename(tmp_path, "gone", "usage_events")
        rename(tmp_path, "away", "accounts")
        await wire.settled_at(CHEAP)


async def test_who_cannot_prove_themselves_any_more_does_not_go_on(wire: Wire) -> None:
    """A key that is revoked in the middle of a conversation has paid for what it said before."""
    await wire.ask("GET /mine/x", user="ann")
    account = await wire.account()
    assert account is not None
    database = wire.services.store.database
    details = (wire.name("ann"), account, "test", (), None, utc_now())
    key_id, key = await database.write(api_keys.create, *details)
    wire.backend.script = granting(echo)
    _, client = await switch(wire, "/counted", *ASKING, f"X-Api-Key: {key}", user=None)
    await client.send(frame("hi"))
    await read_frame(client.reader)
    await database.write(api_keys.revoke, key_id, utc_now())
    await client.send(frame("hi"))
    assert await until_closed(client.reader, client.writer) == Closed(1008, "unauthorized")
    await wire.settled_at(CHEAP)


POLICY = """
version: 1
rules: [{id: ladder, allow: use, who: {tier: at-least-model}}]
exemptions: [{id: house, who: {tag: house}, fair_use: 2/day}]
limits: [{id: one-at-a-time, concurrent: 1, route: counted}]
"""


async def test_a_quiet_connection_takes_no_place(migrated_file: Path, tmp_path: Path) -> None:
    """What limits of a policy give is taken while a purchase runs, by nobody else, and not between two of them."""
    async with policed_wire(migrated_file, tmp_path, POLICY) as wire:
        wire.backend.script = granting(echo)
        _, client = await switch(wire, "/counted")
        refused, _ = await switch(wire, "/counted")
        assert refused.status == 429, "the first message is still to come"
        for _ in range(5):
            await client.send(frame("hi"))
            await read_frame(client.reader)
        await wire.until(lambda: wire.open_count(0))
        granted, _ = await switch(wire, "/counted")
        assert granted.status == 101
        await wire.hang_up()
        await wire.settled_at(5 * CHEAP)


@pytest.mark.parametrize("target", ["/counted", "/realtime"])
async def test_exempt_messages_are_free_until_fair_use_is_over(
    migrated_file: Path, tmp_path: Path, target: str
) -> None:
    """Two purchases of the day cost nothing, also where a usage is stated; the third is charged."""

    async def answer(visit: Visit) -> None:
        while (await read_frame(visit.reader)).opcode == TEXT:
            await visit.send(stated(5))

    async with policed_wire(migrated_file, tmp_path, POLICY) as wire:
        await wire.ask("GET /mine/x", user="ann")
        account = await wire.account()
        assert account is not None
        await wire.services.store.database.write(accounts.set_tags, account, ["house"])
        wire.backend.script = granting(answer)
        head, client = await switch(wire, target)
        assert head.values(b"x-farebox-funding") == [b"exempt"]
        for _ in range(3):
            await client.send(frame("hi"))
            await read_frame(client.reader)
        client.leave()
        await wire.settled_at(CHEAP)


@asynccontextmanager
async def policed_wire(database: Path, folder: Path, policy: str, counters: str = "memory") -> AsyncIterator[Wire]:
    """A Farebox with a policy; afterwards the ledger is verified."""
    (folder / "policies").mkdir()
    (folder / "policies" / "main.yaml").write_text(policy)
    more = f"policies: policies/\ncounters: {counters}\n"
    async with running_wire(database, folder, SETTINGS + ROUTES + more) as wire:
        yield wire
        await wire.verify()


LIMITED = """
version: 1
rules: [{id: ladder, allow: use, who: {tier: at-least-model}}]
limits:
  - {id: one-at-a-time, who: {account_type: payg}, concurrent: 1}
  - {id: eight-a-day, who: {account_type: payg}, requests: 8/day}
"""


@pytest.mark.parametrize("counters", ["memory", "database"])
async def test_each_message_counts_towards_the_limits(migrated_file: Path, tmp_path: Path, counters: str) -> None:
    """As a request would: one that runs does not stand in its own way, and where the day's number ends, messages do."""
    async with policed_wire(migrated_file, tmp_path, LIMITED, counters) as wire:
        wire.backend.script = granting(echo)
        _, client = await switch(wire, "/counted")
        await client.send(frame("hi") * 20)
        said = 0
        while (await read_frame(client.reader)).opcode == TEXT:
            said += 1
        # The first place was given to the connection itself, before it had said anything.
        assert said == 8
        await wire.settled_at(8 * CHEAP)

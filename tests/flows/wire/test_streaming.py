"""Streams stream: each event at once, any amount in little memory, and settled by what was delivered."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc

import pytest

from tests.flows.raw import EVENTS, Visit, answering, chunk, event, json_answer
from tests.flows.wire.wire import CHEAP, QUOTE, TOKEN, Wire, order, stating

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 2**20


async def test_each_event_passes_before_the_next_one_is_made(wire: Wire) -> None:
    """S12: comments, split events and all; the backend goes on only after the client has seen the last piece."""
    pieces = [b": hi\n\n", b"retry: 5\ndata: on", b"e\r\n\r\n", event("two"), stating(50), b"data: [DONE]\n\n"]
    seen = asyncio.Event()

    async def one_by_one(visit: Visit) -> None:
        await visit.body()
        await visit.send(EVENTS)
        for piece in pieces:
            await visit.send(chunk(piece))
            await seen.wait()
            seen.clear()
        await visit.send(chunk(b""))

    wire.backend.script = one_by_one
    client = await wire.start("POST /buy", body=order(), user="ann")
    head = await client.head()
    assert head.values(b"content-type") == [b"text/event-stream"]
    assert head.values(b"x-farebox-reserved") == [b"2"]
    for piece in pieces:
        assert await client.chunk() == piece
        assert await wire.spent() == QUOTE
        seen.set()
    assert await client.chunk() == b""
    assert await wire.spent() == 50 * TOKEN, "settled before the end is sent"


async def test_the_head_passes_before_the_body_begins(wire: Wire) -> None:
    """In both directions: an answer's head is not held back for its body, nor a request's for its own."""
    go = asyncio.Event()

    async def slow(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await visit.body()
        await go.wait()
        await visit.send(chunk(visit.request.body) + chunk(b""))

    wire.backend.script = slow
    client = await wire.start("POST /open/x", "Content-Length: 3")
    assert (await client.head()).status == 200
    await client.send(b"abc")
    go.set()
    assert await client.chunk() == b"abc"


@pytest.mark.parametrize(
    ("stream", "spent", "estimated"),
    [
        (stating(50), 50 * TOKEN, False),
        (stating(5) + stating(60) + b"data: [DONE]\n\n", 60 * TOKEN, False),
        (stating(200), 200 * TOKEN, False),
        (stating(0), CHEAP, False),
        (stating(1), CHEAP, False),
        (event({"text": "hi"}), QUOTE, True),
        (b"", QUOTE, True),
        (stating(-50), QUOTE, True),
        (stating("0"), QUOTE, True),
        (stating(None), QUOTE, True),
        (stating(10**30), QUOTE, True),
        (stating(50) + stating(-1), QUOTE, True),
        (b'data: {"usage": {"tokens": 50}, "usage": {"tokens": 0}}\n\n', QUOTE, True),
        (b'data: {"usage": {"tokens": 1e-99999999999999999999}}\n\n', QUOTE, True),
        (stating(50).rstrip(), QUOTE, True),
    ],
)
@pytest.mark.parametrize("framing", ["chunks", "length"])
async def test_what_a_stream_states_is_charged(
    wire: Wire, stream: bytes, spent: int, estimated: bool, framing: str
) -> None:
    """M11: the last usage, never below the base; a missing or unbelievable one settles the quote."""
    body = chunk(stream) + (chunk(b"") if stream else b"")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(stream)
    wire.backend.script = answering(EVENTS + body if framing == "chunks" else head + stream)
    answer = await wire.ask("POST /buy", body=order(), user="ann")
    assert answer.body == stream
    assert await wire.spent() == spent
    assert [(row["charged"], row["estimated"]) for row in await wire.usage()] == [(spent, estimated)]


async def test_a_charge_beyond_the_balance_takes_what_is_there(wire: Wire) -> None:
    """An account does not go below zero, and the next request is refused."""
    wire.backend.script = answering(json_answer(b'{"usage": {"tokens": 5000}}'))
    answer = await wire.ask("POST /buy", body=order(), user="ann")
    assert (answer.values(b"x-farebox-charged"), answer.values(b"x-farebox-credits-remaining")) == ([b"100"], [b"0"])
    assert (await wire.ask("POST /buy", body=order(), user="ann")).status == 402


@pytest.mark.parametrize(
    ("line", "stated", "spent"),
    [
        ("POST /buy", b"", QUOTE),
        ("POST /buy", stating(50), 50 * TOKEN),
        ("POST /buy-strictly", stating(50), QUOTE),
        ("POST /forgiving", stating(50), 0),
    ],
)
async def test_a_client_that_leaves_in_a_quiet_stream(wire: Wire, line: str, stated: bytes, spent: int) -> None:
    """S11: noticed without another event, told to the backend, and settled by the route's rule."""

    async def quiet(visit: Visit) -> None:
        await visit.body()
        await visit.send(EVENTS + chunk(event("hi") + stated))
        await visit.gone()

    wire.backend.script = quiet
    client = await wire.start(line, body=order(), user="ann")
    await client.head()
    await client.chunk()
    client.leave()
    await wire.backend.left.wait()
    await wire.settled_at(spent)


async def test_a_client_that_leaves_in_a_busy_stream(wire: Wire) -> None:
    """S11: the backend's connection ends although it has more to say."""

    async def busy(visit: Visit) -> None:
        await visit.body()
        await visit.send(EVENTS)
        while True:
            await visit.send(chunk(event("hi")))
            await asyncio.sleep(0)

    wire.backend.script = busy
    client = await wire.start("POST /buy", body=order(), user="ann")
    await client.head()
    for _ in range(5):
        await client.chunk()
    client.leave()
    await wire.backend.left.wait()
    await wire.settled_at(QUOTE)


# Content codings.


async def test_a_compressed_answer_passes_and_is_measured(wire: Wire) -> None:
    """The bytes are the backend's own; what they state is read aside."""
    body = gzip.compress(b'{"usage": {"tokens": 30}}')
    wire.backend.script = answering(json_answer(body, b"Content-Encoding: gzip"))
    answer = await wire.ask("POST /buy", "Accept-Encoding: gzip", body=order(), user="ann")
    assert (answer.body, answer.values(b"content-encoding")) == (body, [b"gzip"])
    assert await wire.spent() == 30 * TOKEN


async def test_a_client_does_not_choose_a_coding_that_cannot_be_read(wire: Wire) -> None:
    """On routes whose answers decide, the backend is offered gzip and deflate at most; elsewhere nothing changes."""
    asked = "Accept-Encoding: br, gzip;q=0.5, zstd, *"
    await wire.ask("POST /buy", asked, body=order(), user="ann")
    await wire.ask("GET /jobs/1", "Accept-Encoding: br", user="ann")
    await wire.ask("POST /flat", asked, user="ann")
    seen = [message.values(b"accept-encoding") for message in wire.backend.requests]
    assert seen == [[b"gzip;q=0.5"], [b"identity"], [asked.partition(": ")[2].encode()]]


async def test_a_client_does_not_ask_for_a_part_that_is_not_read(wire: Wire) -> None:
    """A range may be all of an answer, such as that of a job which has ended, and would be read by its client alone."""
    asked = ("Range: bytes=0-", 'If-Range: "v1"')
    for line in ("POST /buy", "GET /jobs/1", "POST /jobs", "POST /flat"):
        await wire.ask(line, *asked, body=order() if line == "POST /buy" else b"", user="ann")
    seen = [message.values(b"range") + message.values(b"if-range") for message in wire.backend.requests]
    assert seen == [[], [], [], [b"bytes=0-", b'"v1"']]


async def test_a_bomb_is_passed_on_and_not_opened(wire: Wire) -> None:
    """M07: little memory is spent on reading it aside; the quote is charged."""
    bomb = gzip.compress(b" " * 50 * MIB)
    wire.backend.script = answering(json_answer(bomb, b"Content-Encoding: gzip"))
    await wire.ask("POST /buy", body=order(), user="warm-up")
    tracemalloc.start()
    answer = await wire.ask("POST /buy", body=order(), user="ann")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert answer.body == bomb
    assert peak < 6 * MIB
    assert await wire.spent() == QUOTE

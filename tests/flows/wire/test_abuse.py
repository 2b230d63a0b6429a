"""Whoever only wants to keep Farebox busy: what it holds for them stays bounded, and everybody else is served.

The bounds are small here, and the clocks real: a test waits for what happens, never for a time. Attackers come from
addresses of their own; 127.0.0.1 is trusted, as a load balancer is.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio
import sqlalchemy as sa
from sqlalchemy import Connection

from proxy.clients import TURNED_AWAY
from proxy.listening import AHEAD, _Handler
from proxy.noise import LINES
from tests.flows.raw import OK, PATIENCE_S, Message, RawClient, Visit, answering, chunk, json_answer, request
from tests.flows.wire.test_deadlines import Endless
from tests.flows.wire.wire import CHEAP, SETTINGS, Wire, order, running_wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

MOST, PER_SOURCE = 40, 8
LIMITS = """limits: {peek: 64KiB, headers: 32KiB, headers_timeout: 300ms, body_timeout: 300ms, answer_timeout: 300ms}
connections: {most: 40, per_source: 8, trusted: [127.0.0.1]}
"""
TEXT = SETTINGS.replace("limits: {peek: 64KiB, body_timeout: 1s, slowest: 1}\n", LIMITS)
CORS = 'cors: {origins: ["https://a.example"]}\n'
ASKING = "Access-Control-Request-Method: POST"
HEAD = b"GET /open/x HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /open/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_wire(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    async with running_wire(migrated_file, tmp_path_factory.mktemp("abuse"), TEXT) as running:
        yield running
        await running.verify()


async def honest(wire: Wire) -> None:
    """Somebody who pays is served."""
    answer = await wire.ask("POST /buy", body=order(max_tokens=1), user="honest")
    assert (answer.status, answer.body) == (200, b"ok")


async def dripping(client: RawClient, drop: bytes, pause_s: float = 0.02) -> None:
    """A little, again and again, for as long as it is taken."""
    with suppress(ConnectionError):
        while not client.writer.is_closing():
            await client.send(drop)
            await asyncio.sleep(pause_s)


async def timed_out(client: RawClient, field: str) -> None:
    """Farebox answers 408 and ends the connection, whatever is still sent."""
    answer = await client.answer()
    assert (answer.status, json.loads(answer.body)["code"]) == (408, "request_timeout")
    assert json.loads(answer.body)["field"] == field
    assert await client.rest() == b""


# D01: slow headers, slow bodies, slow readers.


@pytest.mark.parametrize("kept", [False, True], ids=["first", "later"])
async def test_d01_headers_that_never_end_are_408(wire: Wire, kept: bool) -> None:
    """The time counts from the first byte, and more bytes do not buy more of it; also on a kept connection."""
    client = await wire.connect("127.0.0.2")
    if kept:
        await client.send(HEAD + b"\r\n")
        assert (await client.answer()).status == 200
    await client.send(HEAD + b"X-Slow: ")
    drops = asyncio.create_task(dripping(client, b"a"))
    await timed_out(client, "headers")
    await drops
    await honest(wire)


async def test_d01_a_connection_that_says_nothing_is_closed(wire: Wire) -> None:
    """Without an answer, which a browser would show for a request of which it has sent nothing. One that has asked
    before may be silent for longer: it is kept alive.
    """
    kept, silent = await wire.connect("127.0.0.2"), await wire.connect("127.0.0.2")
    await kept.send(HEAD + b"\r\n")
    await kept.answer()
    assert await silent.rest() == b""
    await kept.send(HEAD + b"\r\n")
    assert (await kept.answer()).status == 200


async def test_d01_a_body_that_drips_is_408_and_free(wire: Wire) -> None:
    """A byte now and then is no progress, whether the body is read ahead, paid for, or passed on to a free route. Nor
    are the digits of a chunk's size.
    """

    async def drips(line: str, drop: bytes) -> None:
        client = await wire.start(line, "Transfer-Encoding: chunked", "Content-Type: application/json", user="ann")
        drops = asyncio.create_task(dripping(client, drop))
        await timed_out(client, "body")
        await drops

    lines = ("POST /buy", "POST /flat", "POST /open/x")
    await asyncio.gather(*(drips(line, drop) for line in lines for drop in (chunk(b" "), b"0" * 1000)), honest(wire))
    await wire.settled_at(0, "ann")


async def test_d01_a_slow_upload_may_last(wire: Wire) -> None:
    """At a few thousand bytes a second it takes several times as long as a body may pause, and arrives whole."""
    client = await wire.start("POST /flat", f"Content-Length: {60 * 100}", user="ann")
    for _ in range(60):
        await client.send(b"x" * 100)
        await asyncio.sleep(0.02)
    assert (await client.answer()).status == 200
    assert wire.backend.requests[-1].body == b"x" * 6000


async def test_d01_an_answer_that_nobody_takes_is_cut(wire: Wire) -> None:
    """Free or paid; its backend is let go, and it is settled like any other client that leaves."""
    for line, user, spent in (("GET /open/x", None, 0), ("POST /flat", "ann", CHEAP)):
        wire.backend.script, wire.backend.left = Endless(b"x" * 2**20), asyncio.Event()
        client = await wire.start(line, user=user)
        await client.head()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(PATIENCE_S):
            await wire.backend.left.wait()
        await wire.settled_at(spent)


async def test_d01_answers_that_nobody_takes_do_not_add_up(wire: Wire) -> None:
    """Who asks and asks without reading is cut as well: a next request is no sign that an answer was taken."""

    async def long(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000)

    wire.backend.script = long
    client = await wire.connect("127.0.0.2")
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await wire.until(lambda: len(wire.clients) >= 1)
    await dripping(client, HEAD + b"\r\n", 0.001)
    await wire.until(lambda: not len(wire.clients))
    assert len(wire.backend.requests) < 200


async def test_d01_a_quiet_stream_and_a_slow_reader_are_not_cut(wire: Wire) -> None:
    """Neither silence of the backend nor a client that takes a large answer bit by bit is abuse."""
    quiet = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"a"))
        await quiet.wait()
        for _ in range(12):
            await visit.send(chunk(b"x" * 2**20))
        await visit.send(chunk(b""))

    wire.backend.script = script
    client = await wire.start("GET /open/x", "Connection: close")
    await client.head()
    assert await client.chunk() == b"a"
    # As long as another one takes to be cut for saying nothing.
    for _ in range(2):
        await (await wire.connect("127.0.0.2")).rest()
    quiet.set()
    body = b""
    while len(body) < 12 * 2**20:
        body += await client.reader.read(2**18)
        await asyncio.sleep(0.02)
    assert body.count(b"x") + (await client.rest()).count(b"x") == 12 * 2**20


# D02: many connections.


async def test_d02_idle_connections_make_room(wire: Wire) -> None:
    """However many come and say nothing, the one that is idle longest goes for the next one."""
    idle = [await wire.connect(f"127.0.1.{number}") for number in range(1, 2 * MOST)]
    assert len(wire.clients) <= MOST
    assert await idle[0].rest() == b""
    await honest(wire)


async def test_d02_one_source_has_its_bound(wire: Wire) -> None:
    """Its idle connections make room for its own next ones. Where all of them are busy one more is 429, and the
    neighbours are served.
    """
    go = asyncio.Event()

    async def waits(visit: Visit) -> None:
        if visit.request.first.startswith(b"GET "):
            await go.wait()
        await visit.body()
        await visit.send(OK)

    wire.backend.script = waits
    idle = [await wire.connect("127.0.0.3") for _ in range(PER_SOURCE)]
    busy = [await wire.connect("127.0.0.3") for _ in range(PER_SOURCE)]
    assert [await client.rest() for client in idle] == [b""] * PER_SOURCE
    for client in busy:
        await client.send(HEAD + b"\r\n")
    await wire.until(lambda: len(wire.backend.requests) >= PER_SOURCE - 1)
    refused = await wire.connect("127.0.0.3")
    await refused.send(HEAD + b"\r\n")
    answer = await refused.answer()
    assert (answer.status, json.loads(answer.body)["code"]) == (429, "too_many_connections")
    assert answer.values(b"retry-after") == [b"1"]
    assert await refused.rest() == b""
    neighbour = await wire.connect("127.0.0.4")
    await neighbour.send(request("POST /open/x", body=b"a"))
    assert (await neighbour.answer()).status == 200
    await honest(wire)
    go.set()
    assert [(await client.answer()).status for client in busy] == [200] * PER_SOURCE


async def test_d02_a_full_house_refuses_with_503(wire: Wire) -> None:
    """Where all connections are busy, one more is told so. Who is told is bounded too: a flood is not waited for."""
    go = asyncio.Event()

    async def waits(visit: Visit) -> None:
        await go.wait()
        await visit.send(OK)

    wire.backend.script = waits
    busy = [await wire.start("GET /open/x") for _ in range(MOST)]
    await wire.until(lambda: len(wire.backend.requests) == MOST)
    refused = await wire.ask("GET /open/x")
    assert (refused.status, json.loads(refused.body)["code"]) == (503, "overloaded")
    assert refused.values(b"retry-after") == [b"1"]
    flood = [await wire.connect(f"127.0.2.{number}") for number in range(1, 120)]
    assert len(wire.clients) <= MOST + TURNED_AWAY
    assert {await client.rest() for client in flood} == {b""}
    go.set()
    assert [(await client.answer()).status for client in busy] == [200] * MOST
    await wire.hang_up()
    wire.backend.reset()
    await wire.until(lambda: not len(wire.clients))
    await honest(wire)


async def test_d02_no_room_is_made_by_cutting_an_answer(migrated_file: Path, tmp_path: Path) -> None:
    """A connection whose client has yet to take an answer, which is paid for by then, is not idle."""
    body, patient = b"x" * 48 * 2**10, TEXT.replace("answer_timeout: 300ms", "answer_timeout: 1m")
    go = asyncio.Event()

    async def waits(visit: Visit) -> None:
        await go.wait()
        await visit.send(OK)

    async with running_wire(migrated_file, tmp_path, patient) as wire:
        wire.backend.script = answering(json_answer(body))
        slow = await wire.connect("127.0.0.3")
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        (connection,) = (cast(_Handler, one) for one in wire.clients._open)
        asked = 0
        while not connection.transport_to.get_write_buffer_size():
            asked += 1
            await slow.send(request("POST /flat", wire.bearer("ann")))
            await wire.until(lambda: len(wire.backend.requests) == asked)  # noqa: B023
            await wire.until(lambda: not connection._request_in_progress)
        wire.backend.script = waits
        for _ in range(PER_SOURCE - 1):
            await wire.start("GET /open/x", source="127.0.0.3")
        await wire.until(lambda: len(wire.backend.requests) == asked + PER_SOURCE - 1)
        assert (await wire.ask("GET /open/x", source="127.0.0.3")).status == 429
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert [(await slow.answer()).body for _ in range(asked)] == [body] * asked
        go.set()


async def test_d02_connections_leave_nothing_behind(wire: Wire) -> None:
    """Hundreds of them, each with a request or none, and then none is open or counted any more."""
    for round_ in range(20):
        some = [await wire.connect(f"127.0.3.{number}") for number in range(1, 31)]
        for client in some[::2]:
            await client.send(HEAD + b"\r\n"[: 2 * (round_ % 2)])
        for client in some:
            client.leave()
    await wire.until(lambda: not len(wire.clients))
    assert not wire.clients._by_source
    await honest(wire)


# D03: much where little is meant.


async def test_d03_many_tiny_chunks_arrive(wire: Wire) -> None:
    """Fifty thousand chunks of one byte are a body of fifty thousand bytes."""
    answer = await wire.ask("POST /open/x", "Transfer-Encoding: chunked", body=chunk(b"x") * 50_000 + chunk(b""))
    assert answer.status == 200
    assert wire.backend.requests[-1].body == b"x" * 50_000


async def test_d03_the_size_of_a_chunk_may_be_long(wire: Wire) -> None:
    """A million zeros in front of it are passed over, and kept nowhere."""
    await wire.raw(POST + b"0" * 2**20 + b"1\r\na\r\n0\r\n\r\n")
    assert [message.body for message in wire.backend.requests] == [b"a"]


@pytest.mark.parametrize("pieces", [1, 30], ids=["at once", "in pieces"])
async def test_d03_headers_have_a_bound_together(wire: Wire, pieces: int) -> None:
    """431 for many lines each of which would do, complete or not, however they come."""
    lines = [b"X-%d: %s\r\n" % (number, b"a" * 1100) for number in range(30)]
    for end in (b"\r\n", b""):
        client = await wire.connect("127.0.0.2")
        if pieces == 1:
            await client.send(HEAD + b"".join(lines) + end)
        else:
            await client.send(HEAD)
            for line in [*lines, end]:
                await client.send(line)
                await asyncio.sleep(0)
        answer = await client.answer()
        assert (answer.status, json.loads(answer.body)["code"]) == (431, "headers_too_large")
        assert await client.rest() == b""
    fits = await wire.ask("GET /open/x", *(f"X-{number}: {'a' * 1000}" for number in range(30)))
    assert fits.status == 200


async def test_d03_requests_that_wait_for_their_turn_are_few(wire: Wire) -> None:
    """Who sends many before the first is answered is read no further; all are answered, in order."""
    go = asyncio.Event()

    async def waits(visit: Visit) -> None:
        await go.wait()
        await visit.send(OK)

    wire.backend.script = waits
    client = await wire.connect("127.0.0.2")
    await client.send(HEAD + b"\r\n")
    await wire.backend.arrived.wait()
    (connection,) = (cast(_Handler, one) for one in wire.clients._open)
    for number in range(1, 20):
        await client.send(HEAD + b"X: " + b"a" * 8000 + b"\r\n\r\n")
        await wire.until(lambda: connection._buffer_paused or connection._request_count > number)  # noqa: B023
    assert len(connection._messages) == AHEAD
    go.set()
    assert [(await client.answer()).body for _ in range(20)] == [b"ok"] * 20


# D04: the log.


async def test_d04_a_flood_of_bad_requests_is_a_few_lines(
    migrated_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of one source so many lines in a minute, without a stack trace, and one with the number of all others; whether
    they are for the routes or for Farebox itself.
    """
    caplog.set_level(logging.INFO, "farebox.requests")
    async with running_wire(migrated_file, tmp_path, TEXT + CORS) as wire:
        nonsense = [b"\x16\x03\x01 hello\r\n\r\n", HEAD + b"Content-Length: x\r\n\r\n"]
        nonsense += [request("GET /nowhere"), request("POST /flat", "Authorization: Bearer made-up")]
        nonsense += [request("POST /api/quote"), request("OPTIONS /flat", "Origin: https://a.example", ASKING)]
        for number in range(100):
            client = await wire.connect("127.0.0.7")
            await client.send(nonsense[number % 6])
            assert (await client.answer()).status in (204, 400, 401, 404)
        await wire.raw(nonsense[0], source="127.0.0.8")
        await honest(wire)
    lines = [record.getMessage() for record in caplog.records if record.name == "farebox.requests"]
    assert sum("status=4" in line or "preflight status" in line for line in lines) == LINES + 1
    assert sum("status=200" in line for line in lines) == 1
    (told,) = (line for line in lines if line.startswith("and "))
    assert told == f"and {100 - LINES} more refused, abandoned or preflight requests of 127.0.0.7 within a minute"
    assert len(lines) == LINES + 3
    assert not any(record.exc_info for record in caplog.records)


async def test_d04_a_backend_that_is_down_is_a_few_lines(
    migrated_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its trouble is told some times in a minute and then counted, however many requests it fails."""
    caplog.set_level(logging.WARNING)
    async with running_wire(migrated_file, tmp_path, TEXT) as wire:
        for _ in range(30):
            assert (await wire.ask("GET /down")).status == 502
    lines = [record.getMessage() for record in caplog.records]
    assert sum(line.startswith("cannot connect to upstream") for line in lines) == LINES
    assert lines[-1].startswith(f"and {30 - LINES} more requests within a minute: cannot connect to upstream")
    assert len(lines) == LINES + 1


# D05: what is made up.


async def test_d05_what_is_made_up_is_not_remembered(wire: Wire) -> None:
    """Unknown keys, tokens, users, paths, models and idempotency keys leave no account, no row and no memory."""
    await honest(wire)
    remembered, rows = len(wire.services.identifier._remembered), await _rows(wire)
    for number in range(40):
        unsigned = wire.bearer("honest")[:-4] + f"{number:04}"
        asked = [
            request(f"GET /nowhere/{number}"),
            request("POST /flat", f"X-Api-Key: fbx_{number:032}"),
            request("POST /flat", f"Authorization: Bearer {number:032}"),
            request("POST /flat", unsigned),
            request(
                "POST /buy", wire.bearer("honest"), f"Idempotency-Key: key-{number}", body=order(f"model-{number}")
            ),
        ]
        client = await wire.connect()
        for one in asked:
            await client.send(one)
            assert (await client.answer()).status in (401, 403, 404, 429)
    assert len(wire.services.identifier._remembered) == remembered
    assert await _rows(wire) == rows
    await honest(wire)


async def _rows(wire: Wire) -> list[int]:
    """Rows of what a request might leave behind, with the holds that are open."""

    def count(connection: Connection) -> list[int]:
        texts = ["accounts", "users", "api_keys", "idempotency_keys", "rate_counters", "usage_events"]
        return [connection.execute(sa.text(f"SELECT count(*) FROM {text}")).scalar_one() for text in texts]

    return [*await wire.services.store.database.read(count), len(await wire.open_holds())]


# D06: one balance.


async def test_d06_many_at_once_spend_one_balance_once(wire: Wire) -> None:
    """A hundred credits, and a hundred and twenty calls at a credit each from connections of their own."""

    async def call() -> Message:
        return await wire.ask("POST /flat", user="poor")

    statuses: list[int] = []
    for _ in range(4):
        statuses += [answer.status for answer in await asyncio.gather(*(call() for _ in range(30)))]
        await wire.hang_up()
    assert (statuses.count(200), statuses.count(402)) == (100, 20)
    assert len(wire.backend.requests) == 100
    assert await wire.spent("poor") == 100 * CHEAP

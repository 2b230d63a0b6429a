"""A call that failed costs nothing, and half an answer never looks like a whole one."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from pathlib import Path

import pytest

from tests.flows.raw import OK, Visit, answering, chunked, closing, json_answer
from tests.flows.wire.wire import CHEAP, Wire, order, running_wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


async def refusal(wire: Wire, line: str, **more: object) -> tuple[int, str]:
    answer = await wire.ask(line, user="ann", **more)  # type: ignore[arg-type]
    return answer.status, json.loads(answer.body)["code"]


BROKEN = {
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nX: ",
    "another protocol": b"SSH-2.0-OpenSSH_9\r\n\r\n",
    "S02 101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nbytes",
    "S06 two equal lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "S06 two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "S06 a length and chunks": HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "S06 another coding": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "S06 a coding without chunks": HEAD + b"Transfer-Encoding: gzip\r\n\r\nok",
    "S06 no status": b"HTTP/1.1 OK\r\n\r\n",
    "H07 NUL in a header": HEAD + b"X: a\0b\r\nContent-Length: 2\r\n\r\nok",
    "H07 a bare CR in a header": HEAD + b"X: a\rb: c\r\nContent-Length: 2\r\n\r\nok",
    "H07 a folded header": HEAD + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
    "H07 a bare LF in a header": HEAD + b"X: a\nY: b\r\nContent-Length: 2\r\n\r\nok",
    "H07 a bare CR in the reason": b"HTTP/1.1 200 O\rK: x\r\nContent-Length: 2\r\n\r\nok",
    "H07 NUL in the reason": b"HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nok",
    "a head beyond the bound": HEAD + b"X: " + b"a" * 2**17 + b"\r\nContent-Length: 2\r\n\r\nok",
    "a small answer cut short": HEAD + b"Content-Length: 20\r\n\r\nok",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_answer_is_502_and_free(wire: Wire, name: str) -> None:
    """The backend saw the request once, the hold is given back, and the next request has a fresh connection."""
    wire.backend.script = closing(BROKEN[name])
    assert await refusal(wire, "POST /flat") == (502, "upstream_broken")
    assert len(wire.backend.requests) == 1
    await wire.settled_at(0)
    wire.backend.script = answering(OK)
    assert (await wire.ask("GET /open/x")).status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
async def test_no_request_is_sent_twice(wire: Wire, method: str) -> None:
    """S09: a backend that ended the connection may have acted, on a fresh connection or on a used one."""
    await wire.ask(f"{method} /flat", user="ann")
    wire.backend.script = closing(b"")
    assert await refusal(wire, f"{method} /flat", body=b"" if method == "GET" else b"abc") == (502, "upstream_broken")
    assert len(wire.backend.requests) == 2
    await wire.settled_at(CHEAP)


async def test_a_crash_after_the_request_is_free(wire: Wire) -> None:
    """A reset instead of an answer: 502, and the hold is given back."""

    async def crash(visit: Visit) -> None:
        await visit.body()
        visit.reset()

    wire.backend.script = crash
    assert await refusal(wire, "POST /buy", body=order()) == (502, "upstream_broken")
    await wire.settled_at(0)


async def test_nobody_listens(wire: Wire) -> None:
    """502 that says so; free."""
    assert await refusal(wire, "POST /paid-down", body=b"abc") == (502, "upstream_unreachable")
    assert await refusal(wire, "GET /down") == (502, "upstream_unreachable")
    await wire.settled_at(0)


async def test_an_answer_that_does_not_come_is_504_and_free(wire: Wire) -> None:
    """S08: the connection is given up, so that a late answer is nobody's."""

    async def silent(visit: Visit) -> None:
        await visit.body()
        await visit.gone()

    wire.backend.script = silent
    assert await refusal(wire, "POST /quick-flat") == (504, "upstream_timeout")
    await wire.backend.left.wait()
    await wire.settled_at(0)


@pytest.mark.parametrize("status", [b"301 Moved", b"304 Not Modified", b"400 Bad", b"404 No", b"429 Slow", b"500 Oops"])
async def test_a_failure_of_the_backend_passes_and_is_free(wire: Wire, status: bytes) -> None:
    """Its own words reach the client, with the note that nothing was charged."""
    body = b"" if status.startswith(b"304") else b'{"error": "theirs", "usage": {"tokens": 99}}'
    wire.backend.script = answering(json_answer(body, b"Retry-After: 7", status=status))
    answer = await wire.ask("POST /buy", body=order(), user="ann")
    assert answer.first == b"HTTP/1.1 " + status
    assert answer.body == body
    assert answer.values(b"retry-after") == [b"7"]
    assert answer.values(b"x-farebox-charged") == [b"0"]
    await wire.settled_at(0)


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: 200000\r\n\r\nhalf",
        CHUNKED,
        CHUNKED + b"4\r\nhalf\r\n",
        CHUNKED + b"4\r\nhalf\r\n9\r\nha",
        CHUNKED + b"4\r\nhalf\r\n0\r\n",
    ],
)
async def test_a_truncated_answer_ends_as_truncated(wire: Wire, answer: bytes) -> None:
    """S05: no last chunk and no bytes made up: the connection ends in the middle, and the route's rule is applied."""
    wire.backend.script = closing(answer)
    client = await wire.start("POST /forgiving", user="ann")
    assert (await client.head()).status == 200
    assert not (await client.rest()).endswith(b"0\r\n\r\n")
    await wire.settled_at(0)
    client = await wire.start("POST /flat", user="ann")
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await client.answer()
    await wire.settled_at(CHEAP)


async def test_an_answer_that_stops_is_cut(wire: Wire) -> None:
    """S08: a pause longer than the idle time-out, in the middle of an answer, ends it as truncated."""

    async def stops(visit: Visit) -> None:
        await visit.body()
        await visit.send(CHUNKED + b"4\r\nhalf\r\n")
        await visit.gone()

    wire.backend.script = stops
    client = await wire.start("POST /quick-flat", user="ann")
    await client.head()
    assert await client.rest() == b"4\r\nhalf\r\n"
    await wire.backend.left.wait()
    await wire.settled_at(CHEAP)


async def test_bytes_after_an_answer_are_not_the_next_answer(wire: Wire) -> None:
    """S06: a connection on which more came than was asked for is not used again."""
    wire.backend.script = answering(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    for _ in range(3):
        assert (await wire.ask("GET /open/x")).body == b"ok"
    assert wire.backend.connections == 3


async def test_an_early_answer_ends_the_upload(wire: Wire) -> None:
    """A backend may answer before it has read everything; neither connection is used for anything after it."""

    async def early(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await visit.gone()

    wire.backend.script = early
    client = await wire.start("POST /flat", "Content-Length: 10000000", user="ann")
    await client.send(b"a" * 1000)
    assert (await client.answer()).body == b"no"
    await wire.backend.left.wait()
    wire.backend.script = answering(OK)
    assert (await wire.ask("GET /open/x")).status == 200
    assert wire.backend.connections == 2
    await wire.settled_at(0)


async def test_an_early_answer_and_the_rest_of_the_upload(wire: Wire) -> None:
    """A client that goes on sending after the answer is read out, and its next request is a request again."""

    async def early(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await visit.gone()

    wire.backend.script = early
    client = await wire.start("POST /open/x", "Content-Length: 300000")
    assert (await client.answer()).body == b"no"
    wire.backend.script = answering(OK)
    await client.send(b"a" * 300_000 + b"GET /open/y HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.answer()).body == b"ok"
    assert [message.first for message in wire.backend.requests][1:] == [b"GET /open/y HTTP/1.1"]


# Clients that leave.


@pytest.mark.parametrize("line", ["POST /flat", "POST /jobs", "POST /open/x"])
async def test_a_client_that_leaves_while_it_uploads(wire: Wire, line: str, caplog: pytest.LogCaptureFixture) -> None:
    """S11: the backend's connection ends too, and nothing is charged: no answer had begun."""
    client = await wire.start(line, "Content-Length: 100", user="ann")
    await client.send(b"half")
    await wire.backend.arrived.wait()
    client.leave()
    await wire.backend.left.wait()
    await wire.settled_at(0)
    if line == "POST /jobs":
        # It goes on without its client, and what becomes of it is told to the log.
        await wire.until(lambda: "whose client has left: The body is malformed or incomplete" in caplog.text)


async def test_a_client_that_leaves_while_it_is_read_ahead(wire: Wire) -> None:
    """S11: nothing was taken yet, and the backend never hears of it."""
    client = await wire.start("POST /buy", "Content-Length: 100", user="ann")
    await client.send(b"{")
    await asyncio.sleep(0.05)
    client.leave()
    await asyncio.sleep(0.05)
    assert not wire.backend.requests
    await wire.settled_at(0)


@pytest.mark.parametrize("line", ["POST /flat", "GET /open/x", "GET /mine/x"])
async def test_a_client_that_leaves_before_the_answer(wire: Wire, line: str, caplog: pytest.LogCaptureFixture) -> None:
    """S11: noticed at once, also in silence: the backend's connection ends, the hold is given back, and it is told."""
    caplog.set_level(logging.INFO, "farebox.requests")

    async def silent(visit: Visit) -> None:
        await visit.body()
        await visit.gone()

    wire.backend.script = silent
    client = await wire.start(line, user="ann")
    await wire.backend.arrived.wait()
    client.leave()
    await wire.backend.left.wait()
    await wire.settled_at(0)
    assert [record for record in caplog.records if record.getMessage().endswith("abandoned")]


@pytest.mark.parametrize("delay", [0, 1, 2, 5, 10, 20, 50])
async def test_a_client_that_leaves_at_any_moment(wire: Wire, delay: int) -> None:
    """S11: whenever a client goes, its hold ends, exactly once."""
    clients = []
    for _ in range(8):
        clients.append(await wire.start("POST /flat", user="ann"))
        await asyncio.sleep(delay / 10_000)
        clients[-1].leave()

    async def exact() -> bool:
        # The last request may still be on its way in.
        return await wire.open_count(0) and await wire.spent() == len(await wire.usage()) * CHEAP

    await wire.until(exact)
    assert await wire.spent() <= len(wire.backend.requests) * CHEAP


async def test_clients_that_leave_the_management_api(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is told, and nothing fails."""
    for index in range(20):
        client = await wire.start("GET /api/credits/balance", user=f"u{index}")
        await asyncio.sleep(index / 5_000)
        client.leave()
    assert (await wire.ask("GET /api/credits/balance", user="ann")).status == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# A store that fails after the request was forwarded.


@pytest.mark.parametrize(
    "answer", [OK, CHUNKED + b"2\r\nok\r\n0\r\n\r\n", b"HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\nok"]
)
async def test_an_answer_that_is_there_is_not_withheld(migrated_file: Path, tmp_path: Path, answer: bytes) -> None:
    """Where the ledger cannot end the hold, the client still gets its answer, and reads that the amount is reserved."""
    async with running_wire(migrated_file, tmp_path) as wire:

        async def breaks_the_store(visit: Visit) -> None:
            rename(tmp_path, "usage_events", "gone")
            rename(tmp_path, "accounts", "away")
            await visit.send(answer)

        wire.backend.script = breaks_the_store
        arrived = await wire.ask("POST /flat", user="ann")
        assert arrived.body == b"ok"
        assert arrived.values(b"x-farebox-reserved") == [b"1"]
        assert (await wire.ask("POST /flat", user="bob")).status == 503
        assert len(wire.backend.requests) == 1
        rename(tmp_path, "gone", "usage_events")
        rename(tmp_path, "away", "accounts")
        # And how it ended is written after all, when it can be.
        await wire.settled_at(0 if b" 500 " in answer else CHEAP)


async def test_a_poll_is_not_withheld_either(migrated_file: Path, tmp_path: Path) -> None:
    """What a poll says passes, once, and the job is ended by the next one."""
    poll = json_answer(b'{"status": "failed"}')
    in_chunks = HEAD + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    in_chunks += chunked(b'{"status": "failed"}')
    async with running_wire(migrated_file, tmp_path) as wire:
        wire.backend.script = answering(json_answer(b'{"id": "j1"}'))
        await wire.ask("POST /jobs", user="ann")
        for answer in (poll, in_chunks):

            async def breaks_the_store(visit: Visit, answer: bytes = answer) -> None:
                rename(tmp_path, "holds", "gone")
                await visit.send(answer)

            wire.backend.script = breaks_the_store
            client = await wire.start("GET /jobs/j1", "Connection: close", user="ann")
            assert (await client.answer()).body == b'{"status": "failed"}'
            assert await client.rest() == b""
            rename(tmp_path, "gone", "holds")
            assert await wire.spent() == CHEAP
        wire.backend.script = answering(poll)
        await wire.ask("GET /jobs/j1", user="ann")
        await wire.settled_at(0)


def rename(folder: Path, table: str, name: str) -> None:
    connection = sqlite3.connect(folder / "farebox.db")
    connection.execute("PRAGMA legacy_alter_table = ON")
    connection.execute(f"ALTER TABLE {table} RENAME TO {name}")
    connection.commit()
    connection.close()

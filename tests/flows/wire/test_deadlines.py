"""Deadlines: a hold lasts as long as its exchange gives signs of life, and an exchange as long as its hold stands.

The deadline is a few seconds here. Tests wait for what happens, not for a time.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from policies.terms import MICRO, AccountId, HoldId
from store import reports
from store.ids import parse_id
from store.verbs import Ended, GrantSource, Release, Settle, Usage
from tests.flows.raw import EVENTS, OK, PATIENCE_S, RawClient, Script, Visit, answering, chunk, event, json_answer
from tests.flows.wire.wire import CHEAP, TOKEN, Wire, order, running_wire, stating

DEADLINE_S = 3.5
SETTINGS = f"""
identity: {{jwt: [{{name: app, algorithms: [HS256], secret: "${{JWT_SECRET}}", user: userId}}]}}
upstreams:
  raw: {{url: "${{BACKEND_URL}}", connect_timeout: 500ms, response_timeout: 1500ms, idle_timeout: 1500ms}}
limits: {{request_deadline: {DEADLINE_S * 1000:.0f}ms, body_timeout: 1s, slowest: 1}}
routes:
  - {{id: flat, match: POST /flat, upstream: raw, app: shop, model: {{const: cheap}}}}
  - {{id: strict, match: POST /strict, upstream: raw, app: shop, model: {{const: cheap}}, on_late: charge}}
  - id: buy
    match: POST /buy
    upstream: raw
    app: shop
    model: {{json: /model}}
    units: {{tokens: {{json: /max_tokens, max: 100, default: 20}}}}
    usage: {{tokens: {{json: /usage/tokens}}}}
    overrun: overdraft
  - id: start
    match: POST /jobs
    upstream: raw
    app: shop
    model: {{const: cheap}}
    job: {{id: {{json: /id}}, deadline: 1s}}
    on_late: charge
  - id: job
    match: "GET /jobs/{{id}}"
    upstream: raw
    access: account
    poll: {{of: start, id: {{path: id}}, status: {{json: /status}}, completed: done, failed: failed}}
"""


@pytest.fixture
async def wire(migrated_file: Path, tmp_path: Path) -> AsyncIterator[Wire]:
    """A Farebox of the test's own: tests here break its store and move its deadlines."""
    async with running_wire(migrated_file, tmp_path, SETTINGS) as running:
        yield running
        await running.until(lambda: running.open_count(running.may_stay_open))
        await running.verify()


class Endless:
    """A backend that goes on streaming until a test has seen enough."""

    def __init__(self, piece: bytes = event("hi")) -> None:
        self.enough = asyncio.Event()
        self._piece = piece

    async def __call__(self, visit: Visit) -> None:
        await visit.body()
        await visit.send(EVENTS)
        while not self.enough.is_set():
            await visit.send(chunk(self._piece))
            await asyncio.sleep(0.02)
        await visit.send(chunk(stating(50)) + chunk(b""))


async def started(wire: Wire, line: str, script: Script, *headers: str, body: bytes = b"") -> RawClient:
    wire.backend.script = script
    client = await wire.start(line, *headers, body=body, user="ann")
    await wire.backend.arrived.wait()
    return client


async def swept(wire: Wire) -> int:
    """What a sweeper finds overdue at this moment."""
    return await wire.services.store.ledger.expire_overdue(wire.services.now())


async def outlived(wire: Wire) -> None:
    """Wait until the one hold has lasted for longer than it could have without a sign of life, under a sweeper."""

    async def outlives() -> bool:
        assert await swept(wire) == 0
        (hold,) = await wire.open_holds()
        return (wire.services.now() - hold["created_at"]).total_seconds() > 1.2 * DEADLINE_S

    await wire.until(outlives)


async def heard(client: RawClient) -> bytes:
    """A streamed body to its end. Raises when it is cut."""
    body = b""
    while piece := await client.chunk():
        body += piece
    return body


async def cut(hearing: asyncio.Task[bytes]) -> None:
    """Wait until a stream has been cut, which takes no more than a deadline."""
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        async with asyncio.timeout(PATIENCE_S):
            await hearing


async def test_a_stream_may_outlast_its_deadline(wire: Wire) -> None:
    """It is neither cut nor swept, and settled by what it states at its end."""
    endless = Endless()
    client = await started(wire, "POST /buy", endless, body=order())
    await client.head()
    hearing = asyncio.create_task(heard(client))
    await outlived(wire)
    endless.enough.set()
    assert (await hearing).endswith(stating(50))
    await wire.settled_at(50 * TOKEN)


async def test_a_slow_upload_may_outlast_its_deadline(wire: Wire) -> None:
    """While the client delivers, nobody is late."""
    client = await started(wire, "POST /flat", answering(OK), "Transfer-Encoding: chunked")
    done = asyncio.Event()

    async def deliver() -> None:
        while not done.is_set():
            await client.send(chunk(b"a"))
            await asyncio.sleep(0.05)
        await client.send(chunk(b""))

    delivering = asyncio.create_task(deliver())
    await outlived(wire)
    done.set()
    assert (await client.answer()).values(b"x-farebox-charged") == [b"1"]
    await delivering
    await wire.settled_at(CHEAP)


async def test_a_client_that_takes_nothing_is_cut(wire: Wire) -> None:
    """What is sent to it gives no sign of life when it is not taken, however much the backend still has to say."""
    client = await started(wire, "POST /flat", Endless(b"x" * 2**20))
    await client.head()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await wire.backend.left.wait()
    await wire.settled_at(CHEAP)


async def test_an_exchange_whose_hold_cannot_be_extended_is_cut(wire: Wire, tmp_path: Path) -> None:
    """While the store is away nobody goes on riding; when it is back, what was delivered is charged after all."""
    client = await started(wire, "POST /buy", Endless(stating(30)), body=order())
    await client.head()
    hearing = asyncio.create_task(heard(client))
    with broken(tmp_path):
        await cut(hearing)
        await wire.backend.left.wait()
    await wire.settled_at(30 * TOKEN)
    assert len(await wire.usage()) == 1


async def test_an_exchange_whose_hold_was_swept_is_cut(wire: Wire) -> None:
    """A process that stood still finds its hold gone: nothing is delivered any more, and nothing charged twice."""
    client = await started(wire, "POST /flat", Endless())
    await client.head()
    hearing = asyncio.create_task(heard(client))
    await wire.services.store.database.write(_let_lapse)
    assert await swept(wire) == 1
    await cut(hearing)
    await wire.settled_at(0)
    assert await wire.usage() == []


async def test_a_swept_hold_is_charged_late_where_its_route_says_so(wire: Wire) -> None:
    """What was delivered in spite of the sweeper, once, by an entry of its own."""
    client = await started(wire, "POST /strict", Endless())
    await client.head()
    hearing = asyncio.create_task(heard(client))
    await wire.services.store.database.write(_let_lapse)
    assert await swept(wire) == 1
    await cut(hearing)

    async def charged() -> bool:
        return [row["charged"] for row in await wire.usage()] == [CHEAP]

    await wire.until(charged)
    assert await wire.spent("ann") == CHEAP
    entries = await wire.services.store.database.read(reports.entries, await wire.account("ann"), None, 10)
    assert [entry["kind"] for entry in entries] == ["late", "grant"]


@pytest.mark.parametrize("end", ["release", "settle"])
async def test_an_exchange_whose_hold_an_operator_has_ended_is_cut(wire: Wire, end: str) -> None:
    """The operator's word stands, and nothing is delivered on a hold that is no more."""
    client = await started(wire, "POST /flat", Endless())
    hold_id = parse_id((await client.head()).values(b"x-request-id")[0].decode())
    hearing = asyncio.create_task(heard(client))
    (hold,) = await wire.open_holds()
    ledger = wire.services.store.ledger
    verb = Release if end == "release" else _settling
    ended = await ledger.end(verb(hold_id, hold["account_id"], "by an operator"))
    assert isinstance(ended, Ended)
    await cut(hearing)
    assert await wire.spent("ann") == (CHEAP if end == "settle" else 0)


async def test_a_job_that_ends_after_its_deadline_is_charged_late(wire: Wire) -> None:
    """By the poll that says so, once, where the route that started it says so; a failed one stays free."""
    for job, states in (("one", ["done", "done", "failed"]), ("two", ["failed", "running"])):
        await started(wire, "POST /jobs", answering(_json({"id": job})))
        await wire.until(lambda: wire.open_count(1))
        await wire.services.store.database.write(_let_lapse)
        assert await swept(wire) == 1
        for state in states:
            wire.backend.script = answering(_json({"status": state}))
            assert (await wire.ask(f"GET /jobs/{job}", user="ann")).status == 200
    assert await wire.spent("ann") == CHEAP
    assert [row["charged"] for row in await wire.usage()] == [CHEAP]


async def test_an_overrun_is_owed_where_the_route_says_so(wire: Wire) -> None:
    """The account goes below zero by what it lacked, is told so, and gets nothing more until it has paid."""
    wire.backend.script = answering(_json({"usage": {"tokens": 1500}}))
    answer = await wire.ask("POST /buy", body=order(), user="ann")
    assert answer.values(b"x-farebox-charged") == [b"150"]
    assert answer.values(b"x-farebox-credits-remaining") == [b"-50"]
    refused = await wire.ask("POST /flat", user="ann")
    assert refused.status == 402
    assert json.loads(refused.body)["current"] == -50
    ledger, account = wire.services.store.ledger, await wire.account("ann")
    assert account is not None
    await ledger.grant(account, 60 * MICRO, GrantSource.PURCHASE, "paid", "top-up")
    assert (await wire.ask("POST /flat", user="ann")).status == 200


def _json(document: Any) -> bytes:
    return json_answer(json.dumps(document).encode())


def _settling(hold_id: HoldId, account_id: AccountId, reason: str) -> Settle:
    return Settle(hold_id, account_id, None, Usage(), reason)


def _let_lapse(connection: Connection) -> None:
    """As if every process had stood still until now."""
    connection.execute(sa.text("UPDATE holds SET deadline = 0 WHERE state = 'reserved'"))


@contextmanager
def broken(folder: Path) -> Iterator[None]:
    """The store takes nothing meanwhile."""
    _rename(folder, "holds", "gone")
    yield
    _rename(folder, "gone", "holds")


def _rename(folder: Path, table: str, name: str) -> None:
    with closing(sqlite3.connect(folder / "farebox.db")) as connection:
        connection.execute("PRAGMA legacy_alter_table = ON")
        connection.execute(f"ALTER TABLE {table} RENAME TO {name}")
        connection.commit()

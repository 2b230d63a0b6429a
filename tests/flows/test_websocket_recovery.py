"""Metered WebSockets of a process that ends: killed, its running stretches end by the routes' rules; told to stop, it
brings them to their end itself. Nothing is lost, and nothing charged twice.
"""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from config.clock import utc_now
from store import reports
from store.users import ensure_user
from tests.flows.house import token
from tests.flows.raw import RawBackend, RawClient, Visit, request
from tests.flows.test_recovery import Place, started, until
from tests.flows.wire.frames import ASKING, TEXT, Closed, frame, granting, read_frame, stated, until_closed
from tests.flows.wire.wire import CHEAP, TOKEN, WELCOME, stock

RULES = ("release", "quote")
SETTINGS = """
listen: 127.0.0.1:0
admin: {listen: 127.0.0.1:0}
identity: {jwt: [{name: app, algorithms: [HS256], secret: "${JWT_SECRET}", user: userId}]}
upstreams: {raw: {url: "${BACKEND_URL}", connect_timeout: 300ms, response_timeout: 300ms, idle_timeout: 300ms}}
limits: {request_deadline: 1500ms, body_timeout: 300ms}
routes:
""" + "".join(
    f"""
  - id: messages-{rule}
    match: GET /messages-{rule}
    upstream: raw
    app: shop
    model: {{const: cheap}}
    websocket: {{charge: messages, block: 2}}
    on_crash: {rule}
  - id: usage-{rule}
    match: GET /usage-{rule}
    upstream: raw
    app: shop
    model: {{const: cheap}}
    units: {{tokens: {{const: 20, max: 20}}}}
    usage: {{tokens: {{json: /usage/tokens}}}}
    websocket: {{charge: usage}}
    on_crash: {rule}
"""
    for rule in RULES
)
ROUTES = [f"{charge}-{rule}" for charge in ("messages", "usage") for rule in RULES]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    backend = RawBackend()
    await backend.start()
    (tmp_path / "farebox.yaml").write_text(SETTINGS)
    made = Place(tmp_path, backend)
    async with made.store() as store:
        await store.database.write(stock)
        await ensure_user(store, "ann", None, WELCOME)
    yield made
    await backend.stop()


async def _begun(address: str, route: str) -> RawClient:
    host, _, port = address.partition(":")
    client = await RawClient.connect(host, int(port))
    await client.send(request(f"GET /{route}", f"Authorization: Bearer {token('ann')}", *ASKING))
    assert (await client.head()).status == 101
    return client


async def _talking(address: str, route: str) -> RawClient:
    """A conversation whose first stretch is over and paid for, and whose second has begun: two messages are paid for
    at once, or a usage of thirty tokens is stated for each second message.
    """
    client = await _begun(address, route)
    for said in range(3):
        await client.send(frame(f"message {said}"))
        await read_frame(client.reader)
    return client


async def _asked(address: str, route: str) -> RawClient:
    """A conversation with an answer under way."""
    client = await _begun(address, route)
    await client.send(frame("tell me"))
    await read_frame(client.reader)
    return client


async def _answering(visit: Visit) -> None:
    """To a message that has come and all others; where a usage is charged, each second answer states it."""
    by_usage, heard = b"/usage" in visit.request.first, 0
    while True:
        heard += 1
        await visit.send(stated(30) if by_usage and heard % 2 == 0 else frame("well", masked=False))
        if (await read_frame(visit.reader)).opcode != TEXT:
            return


def _holds(connection: Connection) -> dict[str, list[tuple[str, int]]]:
    rows = connection.execute(text("SELECT route_id, state, settled_amount FROM holds ORDER BY id"))
    found: dict[str, list[tuple[str, int]]] = {}
    for row in rows:
        found.setdefault(row.route_id, []).append((row.state, row.settled_amount))
    return found


async def _check(place: Place, expected: dict[str, list[tuple[str, int]]]) -> None:
    """The holds, the records and the balance."""
    async with place.store() as store:
        assert await store.database.read(_holds) == expected
        charged = [amount for ended in expected.values() for _, amount in ended if amount]
        usage = await store.database.read(reports.usage, None, None, 100)
        assert sorted(row["charged"] for row in usage) == sorted(charged)
        account: Any = usage[0]["account_id"]
        assert (await store.database.read(reports.balance, account, utc_now())).available == WELCOME - sum(charged)


async def _killed(place: Place) -> None:
    """A process that is killed in the middle of four conversations, and nobody has resolved anything."""
    async with place.process("serve", "--no-jobs", "--json") as killed:
        address = await started(killed)
        clients = [await _talking(address, route) for route in ROUTES]
        killed.kill()
        await killed.wait()
        for client in clients:
            assert await until_closed(client.reader) == Closed(1006)
            await client.close()
    async with place.store() as store:
        await until(store, lambda rows: len(rows) == 4 and all(row["deadline"] < utc_now() for row in rows))


async def _stopped(process: Process, address: str, go: asyncio.Event) -> None:
    """SIGTERM in the middle of two conversations: 1001 between two messages, and an answer that is paid for arrives."""
    counted, asking = await _talking(address, "messages-release"), await _asked(address, "usage-release")
    process.send_signal(signal.SIGTERM)
    assert await until_closed(counted.reader, counted.writer) == Closed(1001, "the service is restarting")
    go.set()
    assert b"usage" in (await read_frame(asking.reader)).payload
    assert await until_closed(asking.reader, asking.writer) == Closed(1001, "the service is restarting")
    assert await process.wait() == 0
    await counted.close()
    await asking.close()


async def test_conversations_of_processes_that_end(place: Place) -> None:
    """What was paid stays paid, once. Of a killed process running stretches are given back or charged by their routes'
    rules, when the next one starts; one that is told to stop charges what has passed.
    """
    go = asyncio.Event()

    async def talk(visit: Visit) -> None:
        if (await read_frame(visit.reader)).payload != b"tell me":
            await _answering(visit)
            return
        await visit.send(frame("well", masked=False))
        await go.wait()
        await visit.send(stated(50))
        await until_closed(visit.reader)

    place.backend.script = granting(talk)
    await _killed(place)
    resolved = {
        "messages-release": [("settled", CHEAP), ("expired", 0)],
        "messages-quote": [("settled", CHEAP), ("settled", CHEAP)],
        "usage-release": [("settled", 30 * TOKEN), ("expired", 0)],
        "usage-quote": [("settled", 30 * TOKEN), ("settled", 20 * TOKEN)],
    }
    async with place.process("serve", "--no-jobs", "--json") as serving:
        address = await started(serving)
        await _check(place, resolved)
        await _stopped(serving, address, go)
    resolved["messages-release"] += [("settled", CHEAP), ("settled", CHEAP)]
    resolved["usage-release"] += [("settled", 50 * TOKEN)]
    await _check(place, resolved)
    async with place.process("ledger", "verify") as verifying:
        assert await verifying.wait() == 0

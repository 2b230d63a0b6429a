"""kill -9 in the middle of calls: what they held is resolved by its route's rule, by whichever process starts next."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from config.clock import utc_now
from policies.subscription import GRACE_DEFAULT
from store import catalogue, reports, subscriptions
from store.opening import Store, open_store
from store.users import ensure_user
from store.verify import verify
from tests.flows.house import SECRET, token
from tests.flows.raw import EVENTS, RawBackend, RawClient, Visit, chunk, event, json_answer, request
from tests.flows.wire.wire import CHEAP, WELCOME, stock

FAREBOX = str(Path(sys.executable).with_name("farebox"))
PATIENCE_S = 60

RULES = ("release", "quote")
SETTINGS = """
listen: 127.0.0.1:0
admin: {listen: 127.0.0.1:0}
identity: {jwt: [{name: app, algorithms: [HS256], secret: "${JWT_SECRET}", user: userId}]}
upstreams:
  raw: {url: "${BACKEND_URL}", connect_timeout: 500ms, response_timeout: 500ms, idle_timeout: 500ms}
limits: {request_deadline: 3s}
routes:
""" + "".join(
    f"""
  - id: stream-{rule}
    match: POST /stream-{rule}
    upstream: raw
    app: shop
    model: {{const: cheap}}
    on_crash: {rule}
  - id: job-{rule}
    match: POST /job-{rule}
    upstream: raw
    app: shop
    model: {{const: cheap}}
    job: {{id: {{json: /id}}, deadline: 500ms, on_deadline: {rule}}}
"""
    for rule in RULES
)

PLAN = {"tier": "basic", "name": "Basic", "description": "", "price": 0, "currency": "USD", "cycle": "monthly"}
PLAN |= {"daily_quota": 10, "monthly_quota": None, "max_model_tier": "basic", "features": {}}


@dataclass
class Place:
    """A folder with settings and a database, and a backend."""

    folder: Path
    backend: RawBackend

    @asynccontextmanager
    async def process(self, *arguments: str) -> AsyncIterator[Process]:
        """`farebox …`, which does not outlive its test."""
        environment = {**os.environ, "JWT_SECRET": SECRET, "BACKEND_URL": self.backend.url}
        command = [FAREBOX, *arguments, "--config", str(self.folder / "farebox.yaml")]
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, env=environment)
        try:
            async with asyncio.timeout(PATIENCE_S):
                yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        async with open_store(f"sqlite+aiosqlite:///{self.folder}/farebox.db", utc_now) as store:
            yield store


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """One user who pays with credits, and one with quota."""
    backend = RawBackend(_streaming_or_accepting)
    await backend.start()
    (tmp_path / "farebox.yaml").write_text(SETTINGS)
    made = Place(tmp_path, backend)
    async with made.store() as store:
        await store.database.write(stock)
        await store.database.write(catalogue.put_plan, "basic", PLAN, 1, True, utc_now())
        (plan,) = (await store.database.read(catalogue.load)).plans
        for name in ("payg", "subscriber"):
            user, _ = await ensure_user(store, name, None, WELCOME)
        account = user.account.account_id
        await store.database.write(subscriptions.subscribe, account, plan, GRACE_DEFAULT, name, utc_now())
    yield made
    await backend.stop()


async def _streaming_or_accepting(visit: Visit) -> None:
    if b"/job-" in visit.request.first:
        await visit.send(json_answer(json.dumps({"id": os.urandom(4).hex()}).encode()))
        return
    await visit.send(EVENTS)
    while True:
        await visit.send(chunk(event("hi")))
        await asyncio.sleep(0.05)


async def started(process: Process) -> str:
    assert process.stdout is not None
    return str(json.loads(await process.stdout.readline())["listen"])


async def _ask(address: str, path: str, user: str) -> RawClient:
    host, _, port = address.partition(":")
    client = await RawClient.connect(host, int(port))
    await client.send(request(f"POST {path}", f"Authorization: Bearer {token(user)}"))
    assert (await client.head()).status == 200
    return client


def _holds(connection: Connection) -> dict[tuple[str, str], tuple[str, int]]:
    rows = connection.execute(text("SELECT route_id, funding, state, settled_amount FROM holds"))
    return {(row.route_id, row.funding): (row.state, row.settled_amount) for row in rows}


async def until(store: Store, what: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not what(await store.database.read(reports.open_holds, 100)):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("next_one", ["serve", "jobs", "jobs --once"])
async def test_the_next_process_resolves_what_a_killed_one_held(place: Place, next_one: str) -> None:
    """By each route's rule and for both ways of paying; a serving process does it before it serves."""
    async with place.process("serve", "--no-jobs", "--json") as killed:
        address, calls = await started(killed), product(("stream", "job"), RULES, ("payg", "subscriber"))
        clients = [await _ask(address, f"/{kind}-{rule}", user) for kind, rule, user in calls]
        async with place.store() as store:
            # The streams have given signs of life: they are older than their deadline already.
            streams = [row for row in await store.database.read(reports.open_holds, 100) if row["job_id"] is None]
            assert len(streams) == 4
            first = min(row["deadline"] for row in streams)
            await until(store, lambda rows: min(row["deadline"] for row in rows if row["job_id"] is None) > first)
            assert len(await store.database.read(reports.open_holds, 100)) == 8
        killed.kill()
        await killed.wait()
        for client in clients:
            await client.close()
    async with place.store() as store:
        # Nobody has resolved anything, and now everything is overdue.
        await until(store, lambda rows: len(rows) == 8 and all(row["deadline"] < utc_now() for row in rows))
    if next_one == "serve":
        async with place.process("serve", "--no-jobs", "--json") as serving:
            await started(serving)
            await _check(place)
    elif next_one == "jobs":
        async with place.process("jobs"), place.store() as store:
            await until(store, lambda rows: not rows)
            await _check(place)
    else:
        async with place.process("jobs", "--once", "sweep_holds", "--json") as once:
            assert once.stdout is not None
            assert json.loads(await once.stdout.read())["holds_ended"] == 8
        await _check(place)


async def _check(place: Place) -> None:
    async with place.store() as store:
        assert await store.database.read(_holds) == {
            ("stream-release", "credits"): ("expired", 0),
            ("stream-release", "quota"): ("expired", 0),
            ("stream-quote", "credits"): ("settled", CHEAP),
            ("stream-quote", "quota"): ("settled", 1),
            ("job-release", "credits"): ("expired", 0),
            ("job-release", "quota"): ("expired", 0),
            ("job-quote", "credits"): ("settled", CHEAP),
            ("job-quote", "quota"): ("settled", 1),
        }
        assert [check for check in await store.database.read(verify) if check.breaches] == []

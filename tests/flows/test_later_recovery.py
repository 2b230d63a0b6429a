"""kill -9 while jobs run: they are bound to their holds durably, and whoever starts next learns how they ended."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from store import reports
from store.users import ensure_user
from store.verify import verify
from tests.flows.house import SECRET, token
from tests.flows.raw import RawBackend, RawClient, Visit, json_answer, request
from tests.flows.test_recovery import Place, started, until
from tests.flows.wire.wire import CHEAP, WELCOME, stock

SETTINGS = """
listen: 127.0.0.1:0
admin: {listen: 127.0.0.1:0}
identity: {jwt: [{name: app, algorithms: [HS256], secret: "${JWT_SECRET}", user: userId}]}
upstreams: {raw: {url: "${BACKEND_URL}"}}
callbacks: {url: "http://farebox", secret: "${JWT_SECRET}"}
routes:
  - id: start
    match: POST /jobs
    upstream: raw
    app: shop
    model: {const: cheap}
    job:
      id: {json: /id}
      deadline: 1h
      watch: {route: job, first: 100ms, longest: 100ms}
      callback: {status: {json: /status}, completed: done, failed: failed}
  - id: job
    match: "GET /jobs/{id}"
    upstream: raw
    access: account
    poll: {of: start, id: {path: id}, status: {json: /status}, completed: done, failed: failed}
"""

STATES = ("done", "failed")


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """A backend whose jobs all end as their id says, from the moment its `connections` are counted anew."""

    async def script(visit: Visit) -> None:
        await visit.body()
        if b"POST" in visit.request.first:
            state = STATES[len(backend.requests) % 2]
            await visit.send(json_answer(json.dumps({"id": f"{state}-{os.urandom(4).hex()}"}).encode()))
        else:
            state = visit.request.first.split(b"/")[2].partition(b"-")[0].decode()
            await visit.send(json_answer(json.dumps({"status": state}).encode()))

    backend = RawBackend(script)
    await backend.start()
    (tmp_path / "farebox.yaml").write_text(SETTINGS)
    made = Place(tmp_path, backend)
    async with made.store() as store:
        await store.database.write(stock)
        await ensure_user(store, "ann", None, WELCOME)
    yield made
    await backend.stop()


async def _ask(at: str, line: str, *headers: str, body: bytes = b"") -> int:
    host, _, port = at.partition(":")
    client = await RawClient.connect(host, int(port))
    await client.send(request(line, *headers, body=body))
    answer = await client.answer()
    await client.close()
    return answer.status


async def _jobs(place: Place, count: int) -> list[tuple[str, str]]:
    """Jobs that a process has accepted before it was killed: the id of each, and where the backend may call."""
    bearer = f"Authorization: Bearer {token('ann')}"
    async with place.process("serve", "--no-jobs", "--json") as killed:
        at = await started(killed)
        for _ in range(count):
            assert await _ask(at, "POST /jobs", bearer) == 200
        killed.kill()
        await killed.wait()
    addresses = [visit.values(b"x-farebox-callback")[0].decode() for visit in place.backend.requests]
    async with place.store() as store:
        rows = sorted(await store.database.read(reports.open_holds, 100), key=lambda row: row["id"])
    assert len(rows) == count
    return [(row["job_id"], address) for row, address in zip(rows, addresses, strict=True)]


async def _check(place: Place, jobs: list[tuple[str, str]]) -> None:
    """Every job has ended as the backend says, once."""
    async with place.store() as store:
        await until(store, lambda rows: not rows)
        usage = await store.database.read(reports.usage, None, None, 100)
        assert [row["charged"] for row in usage] == [CHEAP for job_id, _ in jobs if job_id.startswith("done")]
        assert [check for check in await store.database.read(verify) if check.breaches] == []


async def test_a_client_polls_after_a_crash(place: Place) -> None:
    jobs = await _jobs(place, 4)
    async with place.process("serve", "--no-jobs", "--json") as serving:
        at = await started(serving)
        for job_id, _ in jobs * 2:
            assert await _ask(at, f"GET /jobs/{job_id}", f"Authorization: Bearer {token('ann')}") == 200
            assert await _ask(at, f"GET /jobs/{job_id}", f"Authorization: Bearer {token('bob')}") == 404
        await _check(place, jobs)


async def test_a_backend_calls_after_a_crash(place: Place) -> None:
    """The address that a killed process has handed out is good with the next one."""
    jobs = await _jobs(place, 4)
    async with place.process("serve", "--no-jobs", "--json") as serving:
        at = await started(serving)
        for job_id, address in jobs * 2:
            body = json.dumps({"status": job_id.partition("-")[0]}).encode()
            path = address.removeprefix("http://farebox")
            assert await _ask(at, f"POST {path}", "Content-Type: application/json", body=body) == 200
        await _check(place, jobs)


async def test_the_scheduler_asks_after_a_crash(place: Place) -> None:
    """Nobody polls and nobody calls: the scheduler finds what a killed process has written down."""
    jobs = await _jobs(place, 4)
    async with place.process("jobs"):
        await _check(place, jobs)
    assert SECRET.encode() not in b"".join(visit.first for visit in place.backend.requests)

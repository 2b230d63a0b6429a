"""One idempotency key and several processes: one forward and one charge, and what a killed process leaves behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from config.clock import utc_now
from store import reports
from store.opening import open_store
from store.users import ensure_user
from store.verify import verify
from tests.flows.house import token
from tests.flows.raw import Message, RawBackend, RawClient, Visit, json_answer, request
from tests.flows.test_recovery import Place, started
from tests.flows.wire.wire import CHEAP, WELCOME, stock

SETTINGS = """
listen: 127.0.0.1:0
admin: {{listen: 127.0.0.1:0}}
database: "{database}"
identity: {{jwt: [{{name: app, algorithms: [HS256], secret: "${{JWT_SECRET}}", user: userId}}]}}
upstreams: {{raw: {{url: "${{BACKEND_URL}}", connect_timeout: 500ms, response_timeout: 1s, idle_timeout: 1s}}}}
limits: {{request_deadline: 3s}}
routes:
  - {{id: buy, match: POST /buy, upstream: raw, app: shop, model: {{const: cheap}}}}
"""


@pytest.fixture
async def backend() -> AsyncIterator[RawBackend]:
    running = RawBackend()
    await running.start()
    yield running
    await running.stop()


async def _placed(tmp_path: Path, backend: RawBackend, database_url: str) -> Place:
    (tmp_path / "farebox.yaml").write_text(SETTINGS.format(database=database_url))
    async with open_store(database_url, utc_now) as store:
        await store.database.write(stock)
        await ensure_user(store, "ann", None, WELCOME)
    return Place(tmp_path, backend)


async def _buy(at: str, body: bytes = b"x") -> Message:
    host, _, port = at.partition(":")
    client = await RawClient.connect(host, int(port))
    bearer = f"Authorization: Bearer {token('ann')}"
    await client.send(request("POST /buy", bearer, "Idempotency-Key: the-key", body=body))
    try:
        return await client.answer()
    finally:
        await client.close()


async def test_two_processes_act_for_a_key_once(tmp_path: Path, backend: RawBackend, database_url: str) -> None:
    """Ten equal requests at once, five to each process, and each again until it has its answer."""
    arrived = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.body()
        # All of them have asked before the first is answered.
        await arrived.wait()
        await visit.send(json_answer(b'{"made": 1}'))

    backend.script = script
    place = await _placed(tmp_path, backend, database_url)
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(place.process("serve", "--no-jobs", "--json")) for _ in range(2)]
        addresses = [await started(process) for process in processes]

        async def until_answered(at: str) -> Message:
            while (answer := await _buy(at)).status != 200:
                assert json.loads(answer.body)["code"] == "idempotency_in_progress"
                await asyncio.sleep(0.02)
            return answer

        tasks = [asyncio.create_task(until_answered(at)) for at in addresses * 5]
        await asyncio.sleep(0.5)
        arrived.set()
        answers = await asyncio.gather(*tasks)
    assert {answer.body for answer in answers} == {b'{"made": 1}'}
    assert sum(answer.values(b"idempotent-replayed") == [b"true"] for answer in answers) == 9
    assert len(backend.requests) == 1
    async with open_store(database_url, utc_now) as store:
        assert [row["charged"] for row in await store.database.read(reports.usage, None, None, 10)] == [CHEAP]
        assert [check for check in await store.database.read(verify) if check.breaches] == []


@pytest.mark.parametrize("when", ["running", "answered"])
async def test_a_key_outlives_a_killed_process(
    tmp_path: Path, backend: RawBackend, database_url: str, when: str
) -> None:
    """What was answered is repeated by the next process. What only ran is given back, and runs again: one charge."""

    async def script(visit: Visit) -> None:
        await visit.body()
        if when == "running" and len(backend.requests) == 1:
            await visit.gone()
        else:
            await visit.send(json_answer(b'{"made": %d}' % len(backend.requests)))

    backend.script = script
    place = await _placed(tmp_path, backend, database_url)
    async with place.process("serve", "--no-jobs", "--json") as killed:
        at = await started(killed)
        first = asyncio.create_task(_buy(at))
        await backend.arrived.wait()
        if when == "answered":
            assert (await first).body == b'{"made": 1}'
        killed.kill()
        await killed.wait()
        await asyncio.gather(first, return_exceptions=True)
    async with place.process("serve", "--json") as serving:
        at = await started(serving)
        async with asyncio.timeout(30):
            while (answer := await _buy(at)).status != 200:
                assert json.loads(answer.body)["code"] == "idempotency_in_progress"
                await asyncio.sleep(0.2)
    assert answer.body == (b'{"made": 2}' if when == "running" else b'{"made": 1}')
    assert len(backend.requests) == (2 if when == "running" else 1)
    async with open_store(database_url, utc_now) as store:
        assert [row["charged"] for row in await store.database.read(reports.usage, None, None, 10)] == [CHEAP]
        assert [check for check in await store.database.read(verify) if check.breaches] == []

"""Several operating system processes on one database, and what is left when one of them is killed."""

from __future__ import annotations

import asyncio
import random
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from config.clock import utc_now
from policies.terms import AccountId
from store import reports
from store.opening import Store, open_store
from store.users import ensure_user
from store.verify import verify

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60


@asynccontextmanager
async def _worker(*arguments: object) -> AsyncIterator[Process]:
    """A process that sees the same packages as the tests, and does not outlive its test."""
    command = [sys.executable, "-m", "tests.store.worker", *map(str, arguments)]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, cwd=ROOT)
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _line(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode()


async def _account(url: str, credits: int) -> AccountId:
    async with open_store(url, utc_now) as store:
        user, _ = await ensure_user(store, "payer", None, credits)
        return user.account.account_id


async def _assert_sound(store: Store) -> None:
    assert [check for check in await store.database.read(verify) if check.breaches] == []


async def test_funds_for_fifty_admit_fifty_over_four_processes(database_url: str) -> None:
    """Twenty by quota and thirty by credits, of four times one hundred requests at the same moment."""
    account = await _account(database_url, 30 * 10)
    async with AsyncExitStack() as stack:
        starting = [_worker("admit", database_url, account, 100) for _ in range(4)]
        workers = [await stack.enter_async_context(worker) for worker in starting]
        assert [await _line(worker) for worker in workers] == ["ready\n"] * 4
        outputs = await asyncio.gather(*(worker.communicate(b"go\n") for worker in workers))
    assert [worker.returncode for worker in workers] == [0] * 4
    assert sum(int(output) for output, _ in outputs) == 50
    async with open_store(database_url, utc_now) as store:
        assert len(await store.database.read(reports.open_holds, 1000)) == 50
        await _assert_sound(store)


async def test_a_killed_process_loses_nothing_and_doubles_nothing(database_url: str) -> None:
    """What it has answered is there, what it has not answered is whole or absent, and the next one goes on."""
    account, chance = await _account(database_url, 10**9), random.Random()
    answered: dict[int, tuple[str, int]] = {}
    for _ in range(2):
        async with _worker("cycle", database_url, account) as worker:
            for _ in range(chance.randint(50, 300)):
                hold_id, state, charged = (await _line(worker)).split()
                answered[int(hold_id)] = state, int(charged)
            await asyncio.sleep(chance.random() / 100)
            worker.kill()
            rest, _ = await worker.communicate()
        for line in rest.decode().rpartition("\n")[0].splitlines():
            hold_id, state, charged = line.split()
            answered[int(hold_id)] = state, int(charged)
        async with open_store(database_url, utc_now) as store:
            await _assert_sound(store)
            stored = {row["id"]: row for row in await store.database.read(_holds)}
            for number, (state, charged_then) in answered.items():
                assert number in stored
                if state != "reserved":
                    assert (stored[number]["state"], stored[number]["settled_amount"]) == (state, charged_then)
            # At most what was under way at that moment was never answered.
            assert len(stored) - len(answered) <= 8 * 2


def _holds(connection: Connection) -> list[dict[str, Any]]:
    query = sa.text("SELECT id, state, settled_amount FROM holds")
    return [dict(row) for row in connection.execute(query).mappings()]

"""While other processes write: verification, export and backup see one moment, and keep nobody waiting.

Each of them is stopped on its way until the writers have got on, so that it could not end if it held them up.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from config.clock import utc_now
from store.backup import copy, database_file, verify_copy
from store.engine import Database
from store.export import Exported, Selection, export
from store.opening import open_store
from store.tables import holds, ledger_entries
from store.users import ensure_user
from store.verify import verify
from tests.store.test_processes import _line, _worker

GETS_ON = 40
"""Answers of the writers that show that they get on."""


class Writers:
    """Processes that reserve and end holds, and say each answer."""

    def __init__(self) -> None:
        self.answers = 0
        self._on = threading.Condition()

    async def listen(self, worker: asyncio.subprocess.Process) -> None:
        while await _line(worker):
            with self._on:
                self.answers += 1
                self._on.notify_all()

    def get_on(self) -> None:
        """Wait, in a thread of its own, until they have."""
        with self._on:
            before = self.answers
            assert self._on.wait_for(lambda: self.answers >= before + GETS_ON, timeout=60), "the writers are held up"


@asynccontextmanager
async def writing(url: str) -> AsyncIterator[Writers]:
    """Two processes at work."""
    async with open_store(url, utc_now) as store:
        user, _ = await ensure_user(store, "payer", None, 10**9)
    writers = Writers()
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(_worker("cycle", url, user.account.account_id)) for _ in range(2)]
        listening = [asyncio.create_task(writers.listen(worker)) for worker in workers]
        await asyncio.to_thread(writers.get_on)
        yield writers
        for worker in workers:
            worker.kill()
        await asyncio.gather(*listening)


def _read(url: str, query: Any, *args: Any) -> Any:
    """A query in a thread of its own, so that it can wait without holding up the test."""

    async def run() -> Any:
        database = Database(url, utc_now)
        try:
            return await database.read(query, *args)
        finally:
            await database.close()

    return asyncio.run(run())


async def test_a_verification_holds_nobody_up_and_is_right(database_url: str) -> None:
    """No false breach, however much is under way."""
    async with writing(database_url) as writers:
        for _ in range(2):
            told: list[str] = []

            def progress(table: str, done: int, total: int, told: list[str] = told) -> None:
                told.append(table)
                writers.get_on()

            checks = await asyncio.to_thread(_read, database_url, verify, progress)
            assert [check for check in checks if check.breaches] == []
            assert set(told) == {"accounts", "holds", "usage_events"}


async def test_an_export_is_of_one_moment(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its entries follow each other up to one balance, although new ones come all the time."""
    monkeypatch.setattr("store.export.ROWS_AT_ONCE", 20)
    async with writing(database_url) as writers:
        rows: list[Any] = []

        def take(chunk: Any) -> None:
            if not rows:
                writers.get_on()
            rows.extend(chunk)

        count = await asyncio.to_thread(_read, database_url, export, Exported.ENTRIES, Selection(), take)
        assert await asyncio.to_thread(_read, database_url, _count) > count
    assert [row["version"] for row in rows] == [*range(1, count + 1)]
    assert all(row["balance_after"] == before["balance_after"] + row["amount"] for before, row in pairwise(rows))


def _count(connection: Connection) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(ledger_entries)).scalar_one()


async def test_a_backup_under_load_is_a_prefix_of_history(
    migrated_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Complete, sound, and up to one moment what the original is; and a Farebox goes on from it."""
    monkeypatch.setattr("store.backup.PAGES_AT_ONCE", 10)
    original, copied = tmp_path / "farebox.db", tmp_path / "backup.db"
    shutil.copyfile(migrated_file, original)
    url = f"sqlite+aiosqlite:///{original}"
    assert database_file(url) == original
    async with writing(url) as writers:
        steps: list[tuple[int, int]] = []

        def progress(what: str, done: int, total: int) -> None:
            steps.append((done, total))
            if len(steps) in (1, 3):
                writers.get_on()

        copied.touch()
        size = await asyncio.to_thread(copy, original, copied, progress)
        await asyncio.to_thread(writers.get_on)
    assert steps == [(min(10 * number, steps[0][1]), steps[0][1]) for number in range(1, len(steps) + 1)]
    assert size == copied.stat().st_size
    assert [check for check in verify_copy(copied, lambda *_: None) if check.breaches] == []
    restored = tmp_path / "restored" / "farebox.db"
    restored.parent.mkdir()
    shutil.copyfile(copied, restored)
    async with (
        open_store(f"sqlite+aiosqlite:///{restored}", utc_now) as after,
        open_store(url, utc_now) as before,
    ):
        old, all_entries = await after.database.read(_entries), await before.database.read(_entries)
        assert old == all_entries[: len(old)]
        assert 1 < len(old) < len(all_entries)
        old_holds, all_holds = await after.database.read(_holds), await before.database.read(_holds)
        assert old_holds.keys() < all_holds.keys()
        assert all(state in ("reserved", all_holds[number]) for number, state in old_holds.items())
        overdue = await after.ledger.expire_overdue(await after.database.read(after.database.now))
        assert overdue == 0, "what was open when it was copied waits for its deadline"
        assert [check for check in await after.database.read(verify) if check.breaches] == []


def _entries(connection: Connection) -> list[tuple[Any, ...]]:
    query = sa.select(ledger_entries).order_by(ledger_entries.c.account_id, ledger_entries.c.version)
    return [tuple(row) for row in connection.execute(query)]


def _holds(connection: Connection) -> dict[int, str]:
    return {row.id: row.state for row in connection.execute(sa.select(holds.c.id, holds.c.state))}

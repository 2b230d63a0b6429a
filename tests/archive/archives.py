"""Archiving as tests do it: the job on a till's database, and what its files and its database hold afterwards."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection

from config.clock import utc_now
from jobs.archive_usage import Keep, archive_usage
from jobs.turns import Turn
from policies.holds import HoldState
from policies.spending import DEFAULT_ORDER
from policies.terms import AccountId
from store.archive_files import batches, manifests
from store.archive_rows import ArchiveRow, archive_rows
from store.engine import Database
from store.opening import Store
from store.tables import holds
from tests.store.till import Till
from tests.store.usages import DAY, HOUR, use

JANUARY, FEBRUARY, MARCH, APRIL, MAY = (datetime(2025, month, 1, tzinfo=UTC) for month in (1, 2, 3, 4, 5))
CALLS = 12


async def used_account(till: Till) -> AccountId:
    """An account with a call on every seventh day from February to April, by credits and by quota in turn."""
    till.now = JANUARY
    account = await till.account(10_000)
    for number in range(CALLS):
        at = FEBRUARY + 12 * HOUR + number * 7 * DAY
        await use(till, account, at, f"a:{number % 2}", number, funding=("credits", "quota")[number % 2])
    return account


class StopAfter(asyncio.Event):
    """Is set when it has been looked at so many times: a process that is told to stop in the middle of its work."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._looks = looks

    def is_set(self) -> bool:
        self._looks -= 1
        return self._looks < 0


async def archive(
    database: Database, folder: Path | None, before: datetime, *, looks: int | None = None
) -> dict[str, int]:
    """One turn at archiving the months before `before`; it ends after that many `looks` at whether to go on."""
    now = utc_now()
    keep = Keep((now.year - before.year) * 12 + now.month - before.month, folder)
    stop = StopAfter(looks) if looks is not None else asyncio.Event()
    # Nothing but the database is asked for.
    store = Store(database, None, None, utc_now, DEFAULT_ORDER)  # type: ignore[arg-type]
    turn = Turn(store, utc_now, stop, "archive_usage", "tester")
    assert await turn.begin()
    try:
        return await archive_usage(store, turn, keep)
    finally:
        await turn.end(succeeded=True)


def filed(folder: Path) -> list[ArchiveRow]:
    """Every row of every complete file in a folder, the oldest file first."""
    return [row for file in sorted(manifests(folder)) for batch in batches(folder / file, 1_000) for row in batch]


async def stored(database: Database) -> dict[str, ArchiveRow]:
    """The rows of all holds that have ended and are still in the database."""
    return {row["id"]: row for row in await database.read(_ended)}


def _ended(connection: Connection) -> list[ArchiveRow]:
    return archive_rows(connection, holds.c.state != HoldState.RESERVED)


def by_id(rows: list[ArchiveRow]) -> dict[str, ArchiveRow]:
    """The rows by their ids, each of which is there once."""
    found = {row["id"]: row for row in rows}
    assert len(found) == len(rows)
    return found

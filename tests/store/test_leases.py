"""Leases: one holder at a time, renewed by its holder, free for others when its time is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from store import leases
from store.engine import Database

NOW = datetime(2025, 1, 15, 10, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, lambda: NOW)
    yield opened
    await opened.close()


async def _acquire(database: Database, holder: str, now: datetime = NOW) -> int | None:
    return await database.write(leases.acquire, "job", holder, MINUTE, now)


async def test_a_lease_has_one_holder(database: Database) -> None:
    """Who comes second gets nothing, until the moment at which the lease ends."""
    assert await _acquire(database, "one") == 1
    assert await _acquire(database, "other", NOW + MINUTE - timedelta(microseconds=1)) is None
    assert await _acquire(database, "other", NOW + MINUTE) == 2
    assert await _acquire(database, "one", NOW + MINUTE) is None


async def test_of_many_who_come_at_once_one_gets_it(database: Database) -> None:
    """Also the very first time, when the row is made."""
    tokens = await asyncio.gather(*(_acquire(database, f"holder {number}") for number in range(8)))
    assert sorted(token or 0 for token in tokens) == [0] * 7 + [1]


async def test_renewing_keeps_the_token_and_a_turn_of_another_changes_it(database: Database) -> None:
    """A holder that slept can tell that it was not alone, although it gets the lease again."""
    assert [await _acquire(database, "one", NOW + MINUTE * step) for step in (0, 0.5, 1, 5)] == [1, 1, 1, 1]
    assert await _acquire(database, "one", NOW + MINUTE * 5.5) == 1
    assert await _acquire(database, "other", NOW + MINUTE * 6) is None
    assert await _acquire(database, "other", NOW + MINUTE * 6.5) == 2
    await database.write(leases.release, "job", "other", NOW + MINUTE * 6.6, True)
    assert await _acquire(database, "one", NOW + MINUTE * 7) == 3


async def test_a_lease_that_was_given_back_is_free_at_once(database: Database) -> None:
    """Nobody waits for the end of a lease that is not needed any more."""
    await _acquire(database, "one")
    await database.write(leases.release, "job", "one", NOW, False)
    assert await _acquire(database, "other") == 2


async def test_only_the_holder_gives_a_lease_back_and_only_success_is_remembered(database: Database) -> None:
    """A runner that lost its lease neither ends that of its successor nor claims a success."""
    assert await database.read(leases.last_success, "job") is None
    await _acquire(database, "one")
    await _acquire(database, "other", NOW + MINUTE)
    await database.write(leases.release, "job", "one", NOW + MINUTE, True)
    assert await database.read(leases.last_success, "job") is None
    assert await _acquire(database, "one", NOW + MINUTE) is None
    await database.write(leases.release, "job", "other", NOW + MINUTE, True)
    assert await database.read(leases.last_success, "job") == NOW + MINUTE
    await _acquire(database, "one", NOW + MINUTE)
    await database.write(leases.release, "job", "one", NOW + MINUTE * 2, False)
    assert await database.read(leases.last_success, "job") == NOW + MINUTE


async def test_leases_of_different_jobs_do_not_meet(database: Database) -> None:
    """Each job has its own."""
    assert await _acquire(database, "one") == 1
    assert await database.write(leases.acquire, "other job", "other", MINUTE, NOW) == 1
    assert [row["name"] for row in await database.read(leases.page)] == ["job", "other job"]

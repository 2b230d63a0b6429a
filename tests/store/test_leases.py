"""Leases: one holder at a time, and a token that tells holders apart."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from config.clock import utc_now
from store import leases
from store.engine import Database
from tests.store.till import NOON, Till

pytestmark = pytest.mark.asyncio(loop_scope="session")

MINUTE = timedelta(minutes=1)


async def test_a_lease_has_one_holder(till: Till) -> None:
    """While it lasts nobody else gets it."""
    assert await till.database.write(leases.acquire, "sweep", "one", MINUTE, NOON) == 1
    assert await till.database.write(leases.acquire, "sweep", "other", MINUTE, NOON) is None
    assert await till.database.write(leases.acquire, "archive", "other", MINUTE, NOON) == 1


async def test_a_lapsed_lease_goes_to_the_next_with_a_higher_token(till: Till) -> None:
    """At its end it is free; one microsecond earlier it is not."""
    first = await till.database.write(leases.acquire, "sweep", "one", MINUTE, NOON)
    early = NOON + MINUTE - timedelta(microseconds=1)
    assert await till.database.write(leases.acquire, "sweep", "other", MINUTE, early) is None
    second = await till.database.write(leases.acquire, "sweep", "other", MINUTE, NOON + MINUTE)
    assert first is not None
    assert second is not None
    assert second > first
    assert await till.database.write(leases.acquire, "sweep", "one", MINUTE, NOON + MINUTE) is None


async def test_a_holder_renews_its_lease_with_the_same_token(till: Till) -> None:
    """Another token would tell it that somebody else had a turn."""
    token = await till.database.write(leases.acquire, "sweep", "one", MINUTE, NOON)
    assert await till.database.write(leases.acquire, "sweep", "one", MINUTE, NOON + MINUTE / 2) == token
    assert await till.database.write(leases.acquire, "sweep", "other", MINUTE, NOON + MINUTE) is None


async def test_a_lease_that_was_given_back_is_free_at_once(till: Till) -> None:
    """Its last success is remembered; a failure does not wipe it out."""
    await till.database.write(leases.acquire, "sweep", "one", MINUTE, NOON)
    await till.database.write(leases.release, "sweep", "one", NOON, True)
    assert await till.database.write(leases.acquire, "sweep", "other", MINUTE, NOON) is not None
    await till.database.write(leases.release, "sweep", "other", NOON + MINUTE, False)
    (row,) = await till.database.read(leases.page)
    assert (row["holder"], row["last_success"]) == ("other", NOON)


async def test_only_its_holder_gives_a_lease_back(till: Till) -> None:
    """One that slept through its end does not end the next one's turn."""
    await till.database.write(leases.acquire, "sweep", "one", MINUTE, NOON)
    await till.database.write(leases.acquire, "sweep", "other", MINUTE, NOON + MINUTE)
    await till.database.write(leases.release, "sweep", "one", NOON + MINUTE, True)
    assert await till.database.write(leases.acquire, "sweep", "third", MINUTE, NOON + MINUTE) is None


async def test_of_many_that_want_a_lease_one_gets_it(database_url: str) -> None:
    """Processes that never saw the lease before, all at the same moment."""
    databases = [Database(database_url, utc_now) for _ in range(8)]
    wanted = (
        database.write(leases.acquire, "sweep", f"process {number}", MINUTE, NOON)
        for number, database in enumerate(databases)
    )
    tokens = await asyncio.gather(*wanted)
    assert sorted(token is not None for token in tokens) == [False] * 7 + [True]
    for database in databases:
        await database.close()


async def test_a_lease_of_a_clock_that_was_set_back_is_free(till: Till) -> None:
    """It would else be held for as long as the clock was wrong; one of a node that runs a little ahead is respected."""
    await till.database.write(leases.acquire, "sweep", "one", MINUTE, NOON + MINUTE)
    assert await till.database.write(leases.acquire, "sweep", "other", MINUTE, NOON) is None
    await till.database.write(leases.release, "sweep", "one", NOON + timedelta(days=900), True)
    assert await till.database.write(leases.acquire, "sweep", "other", MINUTE, NOON) is not None

"""Policies that were in force, and what processes say of theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from config.clock import utc_now
from store import policy_history
from store.engine import Database
from store.policy_history import FORGET_NODE, MAX_KEPT
from tests.store.till import NOON

SOURCE = (("main.yaml", "version: 1\n"), ("more.yaml", "version: 1 # é\n"))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, utc_now)
    yield opened
    await opened.close()


async def test_what_is_in_force_is_written_once(database: Database) -> None:
    """The same policy again, by another process, is no new row; another one, or a rollback, is."""
    record = policy_history.record
    first = await database.write(record, "r1", SOURCE, "files", None, NOON)
    assert await database.write(record, "r1", SOURCE, "files", None, NOON) == first
    second = await database.write(record, "r2", SOURCE, "files", None, NOON)
    third = await database.write(record, "r1", SOURCE, "rollback", "print", NOON)
    assert first < second < third == await database.read(policy_history.latest_number)
    latest = await database.read(policy_history.latest)
    assert latest is not None
    assert (latest.revision, latest.source, latest.overrules) == ("r1", SOURCE, "print")
    found = await database.read(policy_history.find, "r2")
    assert found is not None
    assert found.number == second
    assert [row.number for row in await database.read(policy_history.page, third, 10)] == [second, first]
    await database.close()


async def test_the_history_is_bounded(database: Database) -> None:
    """The oldest policies go."""
    for number in range(MAX_KEPT + 5):
        await database.write(policy_history.record, f"r{number}", SOURCE, "files", None, NOON)
    assert len(await database.read(policy_history.page, None, MAX_KEPT + 100)) == MAX_KEPT
    await database.close()


async def test_processes_that_have_ended_are_forgotten(database: Database) -> None:
    """Who says nothing for long enough is not listed any more."""
    state = {"revision": "r1", "loaded_at": NOON, "using_last_good": False, "error": None}
    await database.write(policy_history.report, "a:1", state, NOON)
    await database.write(policy_history.report, "b:2", {**state, "error": "main.yaml:1:1: bad"}, NOON)
    await database.write(policy_history.report, "a:1", {**state, "revision": "r2"}, NOON + FORGET_NODE)
    assert [row["revision"] for row in await database.read(policy_history.nodes)] == ["r2", "r1"]
    await database.write(policy_history.report, "a:1", state, NOON + FORGET_NODE + timedelta(seconds=1))
    assert [row["node"] for row in await database.read(policy_history.nodes)] == ["a:1"]
    await database.close()

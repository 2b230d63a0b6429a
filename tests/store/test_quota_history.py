"""Dropping old windows: only what is over and empty-handed, account by account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from policies.terms import Metric
from store.engine import Database
from store.quota_history import accounts_with_windows_before, drop_windows
from store.tables import quota_windows

TODAY = datetime(2025, 3, 15, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, lambda: TODAY)
    yield opened
    await opened.close()


def _add(connection: Connection, account_id: int, ago: int, held: int) -> None:
    """The daily window of `ago` days before today."""
    values = {
        "account_id": account_id,
        "window_start": TODAY - DAY * ago,
        "metric": Metric.DAILY,
        "window_end": TODAY - DAY * (ago - 1),
        "limit": 10,
        "used": 5,
        "held": held,
        "plan_version_id": 1,
    }
    connection.execute(sa.insert(quota_windows).values(values))


def _left(connection: Connection) -> list[tuple[int, int]]:
    rows = connection.execute(sa.select(quota_windows.c.account_id, quota_windows.c.window_start))
    return sorted((row.account_id, (TODAY - row.window_start) // DAY) for row in rows)


async def test_only_windows_that_have_ended_with_nothing_held_are_dropped(database: Database) -> None:
    """One that ends a day later, one with a hold and those of other accounts stay."""
    for account_id, ago, held in [(1, 31, 0), (1, 30, 0), (1, 40, 2), (2, 31, 0)]:
        await database.write(_add, account_id, ago, held)
    assert await database.write(drop_windows, [1], TODAY - DAY * 30) == 1
    assert await database.read(_left) == [(1, 30), (1, 40), (2, 31)]
    assert await database.write(drop_windows, [1], TODAY - DAY * 30) == 0


async def test_accounts_come_in_order_each_once_and_only_with_something_to_drop(database: Database) -> None:
    """Going on after the last one reaches all of them, and ends."""
    for account_id, ago, held in [(5, 50, 0), (5, 51, 0), (3, 50, 0), (4, 50, 1), (9, 50, 0), (7, 1, 0)]:
        await database.write(_add, account_id, ago, held)
    end = TODAY - DAY * 30
    assert await database.read(accounts_with_windows_before, end, 0, 2) == [3, 5]
    assert await database.read(accounts_with_windows_before, end, 5, 2) == [9]
    assert await database.read(accounts_with_windows_before, end, 9, 2) == []

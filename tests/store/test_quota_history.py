"""Dropping old windows: only what is over and empty-handed, account by account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from policies.terms import Metric
from store.engine import Database
from store.quota_history import accounts_with_windows_before, drop_windows
from store.tables import holds, quota_windows

TODAY = datetime(2025, 3, 15, tzinfo=UTC)
DAY = timedelta(days=1)
ENDS = {Metric.DAILY: TODAY - DAY * 30, Metric.MONTHLY: TODAY - DAY * 60}


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, lambda: TODAY)
    yield opened
    await opened.close()


def _add(connection: Connection, account_id: int, ago: int, held: bool, metric: str = Metric.DAILY) -> None:
    """A window of the day that was `ago` days before today, maybe with an open hold in it."""
    values = {
        "account_id": account_id,
        "window_start": TODAY - DAY * ago,
        "metric": metric,
        "window_end": TODAY - DAY * (ago - 1),
        "limit": 10,
        "carried": 0,
        "used": 5,
        "plan_version_id": 1,
        "opened_by": 1,
    }
    connection.execute(sa.insert(quota_windows).values(values))
    if held:
        connection.execute(sa.insert(holds).values(_hold(account_id, TODAY - DAY * ago)))


def _hold(account_id: int, created_at: datetime) -> dict[str, Any]:
    texts = ("user_id", "model_key", "action", "route_id", "policy_revision", "rule")
    return {
        **dict.fromkeys(texts, "any"),
        "id": account_id,
        "account_id": account_id,
        "state": "reserved",
        "funding": "quota",
        "amount": 1,
        "taken": {"windows": [["daily", created_at.isoformat()]]},
        "price_version": 1,
        "units": {},
        "on_deadline": "release",
        "deadline": TODAY,
        "created_at": created_at,
    }


def _left(connection: Connection) -> list[tuple[int, int]]:
    rows = connection.execute(sa.select(quota_windows.c.account_id, quota_windows.c.window_start))
    return sorted((row.account_id, (TODAY - row.window_start) // DAY) for row in rows)


async def test_only_windows_that_have_ended_with_nothing_held_are_dropped(database: Database) -> None:
    """One that ends a day later, one with an open hold and those of other accounts stay."""
    for account_id, ago, held in [(1, 41, False), (1, 30, False), (1, 40, True), (2, 31, False)]:
        await database.write(_add, account_id, ago, held)
    assert await database.write(drop_windows, [1], ENDS) == 1
    assert await database.read(_left) == [(1, 30), (1, 40), (2, 31)]
    assert await database.write(drop_windows, [1], ENDS) == 0


async def test_accounts_come_in_order_each_once_and_only_with_something_to_drop(database: Database) -> None:
    """Going on after the last one reaches all of them, and ends."""
    old = [(5, 50, False), (5, 51, False), (3, 50, False), (4, 50, True), (9, 50, False), (7, 1, False)]
    for account_id, ago, held in old:
        await database.write(_add, account_id, ago, held)
    assert await database.read(accounts_with_windows_before, ENDS, 0, 2) == [3, 5]
    assert await database.read(accounts_with_windows_before, ENDS, 5, 2) == [9]
    assert await database.read(accounts_with_windows_before, ENDS, 9, 2) == []


async def test_each_metric_has_an_end_of_its_own(database: Database) -> None:
    """A month is kept for longer than a day."""
    for ago, metric in [(31, Metric.DAILY), (32, Metric.MONTHLY), (60, Metric.MONTHLY), (61, Metric.MONTHLY)]:
        await database.write(_add, 1, ago, False, metric)
    assert await database.write(drop_windows, [1], ENDS) == 2
    assert await database.read(_left) == [(1, 32), (1, 60)]


async def test_windows_of_exemptions_stay_as_long_as_those_of_a_month(database: Database) -> None:
    """They are dropped as well, whatever their names are: there are as many as accounts, exemptions and days."""
    for account_id, ago in [(1, 40), (2, 60), (3, 61)]:
        await database.write(_add, account_id, ago, False, "exempt:house")
    assert await database.read(accounts_with_windows_before, ENDS, 0, 10) == [3]
    assert await database.write(drop_windows, [1, 2, 3], ENDS) == 1

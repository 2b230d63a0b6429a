"""Windows that were opened before there were zones and rollover are the same windows afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy import Connection

from config.clock import utc_now
from store import quota_reports
from store.columns import from_micros
from store.engine import Database
from store.schema import migrate
from store.upgrading import config as alembic_config

pytestmark = pytest.mark.asyncio(loop_scope="function")

ROWS = [(1, 0, "daily", 10, 3, 0), (1, 0, "monthly", 100, 3, 0), (2, 5, "daily", 50, 0, 0)]
"""Account, start, metric, limit, used, held."""


def _as_it_was_before(connection: Connection) -> None:
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "0001")
    insert = sa.text(
        'INSERT INTO quota_windows (account_id, window_start, metric, window_end, "limit", used, held, plan_version_id)'
        " VALUES (:account, :start, :metric, 1000, :limit, :used, :held, 4)"
    )
    names = ("account", "start", "metric", "limit", "used", "held")
    connection.execute(insert, [dict(zip(names, row, strict=True)) for row in ROWS])
    connection.execute(
        sa.text(
            "INSERT INTO plan_versions (id, plan_id, version, tier, name, description, price, currency, cycle,"
            " daily_quota, max_model_tier, features, created_at)"
            " VALUES (4, 'pro', 1, 'pro', 'Pro', '', 0, 'USD', 'monthly', 10, 'pro', '{}', 0)"
        )
    )


def _all(connection: Connection) -> list[dict[str, Any]]:
    return [row for account in (1, 2) for row in reversed(quota_reports.windows(connection, account, from_micros(0)))]


async def test_what_was_counted_stays(empty_database_url: str) -> None:
    """Every amount, nothing carried, whole days and months of UTC, opened by the plan that they were seen with."""
    database = Database(empty_database_url, utc_now)
    try:
        await database.write(_as_it_was_before)
        await migrate(empty_database_url)
        rows = await database.read(_all)
        found = {
            (row["account_id"], row["window_start"], row["metric"], row["limit"], row["used"], row["held"])
            for row in rows
        }
        assert found == {(row[0], from_micros(row[1]), *row[2:]) for row in ROWS}
        assert {(row["window_end"], row["regular_start"], row["carried"]) for row in rows} == {
            (from_micros(1000), None, 0)
        }
        assert {(row["plan_version_id"], row["opened_by"]) for row in rows} == {(4, 4)}
        assert {str(row["day"]) for row in rows} == {"1970-01-01"}
        versions = sa.text("SELECT quota_timezone, quota_day_starts, quota_month, daily_rollover FROM plan_versions")
        assert await database.read(lambda connection: connection.execute(versions).all()) == [
            ("UTC", "00:00", "calendar", 0)
        ]
    finally:
        await database.close()

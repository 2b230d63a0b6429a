"""What migrations make of the rows that an earlier version has left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from config.clock import utc_now
from policies.subscription import Status
from policies.terms import AccountId
from store import payments, schema, subscriptions
from store.columns import to_micros
from store.engine import Database
from store.schema import migrate
from store.verify import verify

BEGIN = datetime(2025, 3, 1, tzinfo=UTC)

PLAN = {
    "tier": "basic", "name": "Plan", "description": "", "currency": "IDR", "cycle": "monthly", "daily_quota": 10,
    "max_model_tier": "basic", "features": "{}", "created_at": 0, "version": 1,
}  # fmt: skip
ROW = {"created_at": 0, "anchor": 0, "period_start": 0, "period_end": to_micros(BEGIN), "grace_s": 604_800}

LIVES: list[tuple[dict[str, Any], list[tuple[str, str, int]]]] = [
    (
        {"status": "active", "plan_version_id": 1, "amount_due": 0},
        [
            ("subscribed", "incomplete", 1),
            ("paid", "active", 1),
            ("renewal_unpaid", "past_due", 1),
            ("paid", "active", 1),
        ],
    ),
    ({"status": "incomplete", "plan_version_id": 1, "amount_due": 99}, [("subscribed", "incomplete", 1)]),
    (
        {"status": "active", "plan_version_id": 1, "pending_plan_version_id": 2, "amount_due": 150},
        [("subscribed", "incomplete", 1), ("paid", "active", 1), ("plan_change_requested", "active", 1)],
    ),
    (
        {"status": "past_due", "plan_version_id": 2, "amount_due": 299},
        [
            ("subscribed", "incomplete", 1),
            ("paid", "active", 1),
            ("plan_change_requested", "active", 1),
            ("plan_changed", "active", 2),
            ("renewal_unpaid", "past_due", 2),
        ],
    ),
    (
        {"status": "expired", "plan_version_id": 1, "amount_due": 0},
        [("subscribed", "incomplete", 1), ("lapsed", "expired", 1)],
    ),
]
"""A row of each subscription, and its events with the status and the version of the plan after them."""


def _as_of_0001(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.__file__).replace("schema.py", "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "0001")
    for number, price in ((1, 99), (2, 299)):
        _insert(connection, "plan_versions", {"id": number, "plan_id": f"plan-{number}", "price": price, **PLAN})
    for number, (row, events) in enumerate(LIVES, 1):
        account = {"id": number, "kind": "user", "posted": 0, "pending": 0, "version": 0, "revision": 0}
        account |= {"may_overdraw": False, "tags": "[]", "created_at": 0}
        _insert(connection, "accounts", account)
        _insert(connection, "subscriptions", {"id": number, "account_id": number, **ROW, **row})
        for seq, (event, status, version) in enumerate(events, 1):
            values = {"subscription_id": number, "seq": seq, "event": event, "status": status, "at": seq}
            _insert(connection, "subscription_events", {**values, "plan_version_id": version, "actor": "user"})


def _insert(connection: Connection, table: str, values: dict[str, Any]) -> None:
    columns = sa.table(table, *(sa.column(name) for name in values))
    connection.execute(sa.insert(columns).values(values))


async def test_what_was_paid_before_there_was_a_book_is_in_it(empty_database_url: str) -> None:
    """Starts and renewals with the price of their version; what waits is due as it was, and every law is kept."""
    database = Database(empty_database_url, utc_now)
    try:
        await database.write(_as_of_0001)
        await migrate(empty_database_url)
        assert {check.name: check.breaches for check in await database.read(verify) if check.breaches} == {}
        booked = [await database.read(payments.of_account, number, None, 10) for number in range(1, 6)]
        assert [[(row.purpose, row.amount, row.plan_id) for row in rows[::-1]] for rows in booked] == [
            [("start", 99, "plan-1"), ("renew", 99, "plan-1")],
            [],
            [("start", 99, "plan-1")],
            [("start", 99, "plan-1")],
            [],
        ]
        now = BEGIN - timedelta(days=1)
        confirmed = [
            await database.write(subscriptions.confirm, account, f"key {account}", amount, "operator", now)
            for account, amount in ((AccountId(3), 150), (AccountId(4), 299))
        ]
        assert [answer.row.status for answer in confirmed] == [Status.ACTIVE, Status.ACTIVE]
    finally:
        await database.close()

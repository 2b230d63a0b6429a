"""Finding and storing what time has done to subscriptions, on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection

from policies.subscription import CHECKOUT_TIME, GRACE_DEFAULT, Event
from policies.subscription_acts import cancel
from policies.terms import AccountId, Plan
from store import catalogue, subscriptions
from store.accounts import create_user
from store.engine import Database

NOW = datetime(2025, 1, 31, 10, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, lambda: NOW)
    yield opened
    await opened.close()


def _plan(connection: Connection, price: int) -> Plan:
    terms = {
        "tier": "basic",
        "name": "Plan",
        "description": "",
        "price": price,
        "currency": "IDR",
        "cycle": "monthly",
        "daily_quota": 10,
        "monthly_quota": None,
        "max_model_tier": "basic",
        "features": {},
    }
    catalogue.put_plan(connection, f"plan-{price}", terms, 0, True, NOW)
    plan = catalogue.load(connection).plan(f"plan-{price}")
    assert plan is not None
    return plan


def _subscribed(connection: Connection, user_id: str, price: int, paid: bool) -> AccountId:
    account_id = create_user(connection, user_id, None, 0, 0, NOW)[0].account.account_id
    key = f"invoice of {user_id}" if paid else None
    plan = _plan(connection, price)
    subscriptions.subscribe(connection, account_id, plan, GRACE_DEFAULT, user_id, NOW, payment_key=key)
    return account_id


async def test_due_is_what_time_has_changed(database: Database) -> None:
    """A checkout that was given up, a free renewal and an unpaid one; not what merely could have changed."""
    free = await database.write(_subscribed, "free", 0, False)
    paid = await database.write(_subscribed, "paid", 99_000, True)
    unpaid = await database.write(_subscribed, "unpaid", 99_000, False)

    async def due(now: datetime) -> list[AccountId]:
        return (await database.read(subscriptions.due_accounts, now, 0, 10))[0]

    assert await due(NOW + CHECKOUT_TIME - timedelta(seconds=1)) == []
    assert await due(NOW + CHECKOUT_TIME) == [unpaid]
    # From January 31 a month lasts until February 28, at the same time of the day.
    assert await due(NOW + 28 * DAY - timedelta(seconds=1)) == [unpaid]
    assert await due(NOW + 28 * DAY) == [free, paid, unpaid]
    for account_id in (free, paid, unpaid):
        await database.write(subscriptions.store_due, account_id, NOW + 28 * DAY)
    # The paid one is in its grace time: a candidate every time, and due when that ends.
    assert await due(NOW + 35 * DAY - timedelta(seconds=1)) == []
    assert await due(NOW + 35 * DAY) == [paid]


async def test_the_run_goes_through_all_candidates_once(database: Database) -> None:
    """Batch by batch in the order of the accounts, with the place to go on; none when there are no more."""
    ids = [await database.write(_subscribed, f"user-{number}", 99_000, True) for number in range(5)]
    now = NOW + 28 * DAY
    await database.write(subscriptions.store_due, ids[1], now)
    assert await database.read(subscriptions.due_accounts, now, 0, 2) == ([ids[0]], ids[1])
    assert await database.read(subscriptions.due_accounts, now, ids[1], 2) == ([ids[2], ids[3]], ids[3])
    assert await database.read(subscriptions.due_accounts, now, ids[3], 2) == ([ids[4]], None)


async def test_several_events_are_stored_each_with_its_own_status_and_moment(database: Database) -> None:
    """Asked late, the history tells what happened when, not when somebody looked."""
    account_id = await database.write(_subscribed, "paid", 99_000, True)
    events = await database.write(subscriptions.store_due, account_id, NOW + 100 * DAY)
    assert events == [Event.RENEWAL_UNPAID, Event.LAPSED]
    row = await database.read(subscriptions.latest, account_id)
    assert row is not None
    history = await database.read(subscriptions.history, row.subscription_id)
    assert [(event["event"], event["status"], event["at"]) for event in history] == [
        ("subscribed", "incomplete", NOW),
        ("paid", "active", NOW),
        ("renewal_unpaid", "past_due", NOW + 28 * DAY),
        ("lapsed", "expired", NOW + 35 * DAY),
    ]
    assert await database.write(subscriptions.store_due, account_id, NOW + 100 * DAY) == []
    assert len(await database.read(subscriptions.history, row.subscription_id)) == 4


async def test_a_subscription_that_ends_by_cancellation_is_stored_with_its_end(database: Database) -> None:
    """Canceled for the period end: stored as canceled at that moment, however late."""
    account_id = await database.write(_subscribed, "paid", 99_000, True)

    def decide(connection: Connection) -> None:
        subscriptions.change(connection, account_id, lambda row: cancel(row, NOW, False, "enough"), "paid", NOW)

    await database.write(decide)
    assert await database.write(subscriptions.store_due, account_id, NOW + 40 * DAY) == [Event.CANCELED]
    row = await database.read(subscriptions.latest, account_id)
    assert row is not None
    assert (row.ended_at, row.cancel_reason) == (NOW + 28 * DAY, "enough")


async def test_an_account_without_a_subscription_has_nothing_to_store(database: Database) -> None:
    """Pay-as-you-go accounts are no business of this."""
    user, _ = await database.write(create_user, "payg", None, 0, 0, NOW)
    assert await database.write(subscriptions.store_due, user.account.account_id, NOW + 100 * DAY) == []

"""Storing what time has done to subscriptions changes rows and history, and no decision."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobs.process import Outcome, run_job_once
from policies.proration import quote_change
from policies.rulebook import DEFAULT_TIERS
from policies.subscription import Status
from policies.subscription_acts import cancel, change_plan
from store import accounts, catalogue, subscriptions
from store.tables import subscription_events
from store.verify import verify

NAME = "expire_subscriptions"


async def _store_due(house: Any) -> dict[str, int]:
    report = await run_job_once(house.store, house.clock, NAME)
    assert report.outcome is Outcome.DONE
    return dict(report.counts)


async def _decision(house: Any, account_id: Any) -> tuple[Any, ...]:
    """What the gate decides by."""
    account = await house.store.database.read(accounts.find_account, account_id)
    account = account.at(house.clock.now)
    return account.account_type, account.tier("free"), account.plan and account.plan.version_id


async def _history(house: Any, account_id: Any) -> list[tuple[Any, ...]]:
    row = await house.store.database.read(subscriptions.latest, account_id)
    events = await house.store.database.read(subscriptions.history, row.subscription_id)
    return [(event["event"], event["status"], event["actor"], event["at"]) for event in events]


async def _living(house: Any) -> list[Any]:
    """Accounts in all the ways that time can change, and one without anything."""
    names = ("free", "paid", "canceled", "unpaid", "yearly", "upgrading", "on trial", "payg")
    ids = [await house.account(name) for name in names]
    for account_id, plan in zip(ids, ("free-forever", "basic-monthly", "pro-monthly"), strict=False):
        await house.subscribe(account_id, plan)
    await house.subscribe(ids[4], "pro-yearly")
    now = house.clock.now
    await house.store.database.write(
        subscriptions.change, ids[2], lambda row: cancel(row, now, False, None), "canceled", now
    )
    plan = (await house.store.database.read(subscriptions.latest, ids[1])).plan
    write, week = house.store.database.write, timedelta(days=7)
    await write(subscriptions.subscribe, ids[3], plan, week, "unpaid", now)
    await house.subscribe(ids[5], "basic-monthly")
    pro = (await house.store.database.read(catalogue.load)).plan("pro-monthly")
    await write(
        subscriptions.change,
        ids[5],
        lambda row: change_plan(row, quote_change(row, pro, DEFAULT_TIERS, now), now),
        "upgrading",
        now,
    )
    await write(subscriptions.subscribe, ids[6], replace(plan, trial_days=20), week, "on trial", now)
    return ids


async def test_doing_nothing_for_days_changes_no_decision(houses: Any) -> None:
    """With the job every day or never: on every one of fifty days each account may do the same."""
    tidy, untidy = houses
    ids = await _living(tidy)
    assert await _living(untidy) == ids
    for _ in range(50):
        tidy.clock.now += timedelta(days=1)
        await _store_due(tidy)
        for account_id in ids:
            assert await _decision(tidy, account_id) == await _decision(untidy, account_id)


async def test_a_late_job_writes_the_history_that_a_timely_one_would_have_written(houses: Any) -> None:
    """Every event with its own moment and status, whether the job ran at once or ninety days later."""
    timely, late = houses
    ids = await _living(timely)
    await _living(late)
    for _ in range(90):
        timely.clock.now += timedelta(days=1)
        await _store_due(timely)
    await _store_due(late)
    for account_id in ids[:7]:
        assert await _history(timely, account_id) == await _history(late, account_id)
    statuses = [status for _, status, _, _ in await _history(late, ids[1])]
    assert statuses == ["incomplete", "active", "past_due", "expired"]
    assert [check.breaches for check in await late.store.database.read(verify) if check.breaches] == []


async def test_storing_again_stores_nothing(houses: Any) -> None:
    """The job is safe to repeat."""
    house = houses[0]
    await _living(house)
    house.clock.now += timedelta(days=32)
    assert await _store_due(house) == {"subscriptions_stored": 6, "failed": 0}
    assert await _store_due(house) == {"subscriptions_stored": 0, "failed": 0}


async def test_a_lapsed_subscriber_pays_as_they_go_with_their_credits(houses: Any) -> None:
    """When the grace time is over the account is payg again, and nothing of its credits is touched."""
    house = houses[0]
    account_id = await house.account("paid", credits=5)
    await house.subscribe(account_id, "basic-monthly")
    house.clock.now += timedelta(days=31 + 7)
    await _store_due(house)
    row = await house.store.database.read(subscriptions.latest, account_id)
    assert (row.status, row.ended_at) == (Status.EXPIRED, row.period_end + timedelta(days=7))
    assert (await _decision(house, account_id))[0] == "payg"


async def test_who_pays_in_the_grace_time_is_not_touched_by_the_next_run(houses: Any) -> None:
    """Past due, paid, active: the period goes on from its old end."""
    house = houses[0]
    account_id = await house.account("paid")
    await house.subscribe(account_id, "basic-monthly")
    house.clock.now += timedelta(days=33)
    await _store_due(house)
    await house.pay(account_id)
    assert await _store_due(house) == {"subscriptions_stored": 0, "failed": 0}
    row = await house.store.database.read(subscriptions.current, account_id)
    assert (row.status, row.period_start.date().isoformat()) == (Status.ACTIVE, "2025-02-15")


async def test_more_subscriptions_than_one_batch_are_all_stored(houses: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are due and those that only might be are gone through once, however many there are."""
    monkeypatch.setattr("jobs.expire_subscriptions.BATCH", 3)
    house = houses[0]
    for number in range(10):
        await house.subscribe(await house.account(f"user-{number}"), "basic-monthly")
    house.clock.now += timedelta(days=32)
    assert (await _store_due(house))["subscriptions_stored"] == 10
    for number in range(10, 14):
        await house.subscribe(await house.account(f"user-{number}"), "free-forever")
    house.clock.now += timedelta(days=32)
    assert (await _store_due(house))["subscriptions_stored"] == 14


async def test_a_subscription_that_cannot_be_stored_does_not_hold_up_the_others(houses: Any) -> None:
    """A damaged history is logged and counted; the accounts after it are stored."""
    house = houses[0]
    for name in ("damaged", "sound"):
        await house.subscribe(await house.account(name), "basic-monthly")
    last = sa.update(subscription_events).where(
        subscription_events.c.subscription_id == 1, subscription_events.c.seq == 1
    )
    await house.store.database.write(lambda connection: connection.execute(last.values(seq=2**63 - 1)) and None)
    house.clock.now += timedelta(days=32)
    assert await _store_due(house) == {"subscriptions_stored": 1, "failed": 1}
    row = await house.store.database.read(subscriptions.current, 2)
    assert row.status is Status.PAST_DUE

"""Housekeeping drops the windows that nobody can ask for any more, and nothing that a decision depends on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs.process import Outcome, run_job_once
from policies.terms import Metric
from store import reports
from store.verbs import Ended, Refunded, Settle, Usage
from store.verify import verify

NAME = "quota_housekeeping"


async def _use(house: Any, account_id: Any, units: int) -> Any:
    hold_id = await house.reserve(account_id, units)
    await house.store.ledger.settle(Settle(hold_id, account_id, None, Usage(), "done"))
    return hold_id


async def _starts(house: Any, account_id: Any) -> list[datetime]:
    since = datetime(2024, 1, 1, tzinfo=UTC)
    rows = await house.store.database.read(reports.windows, account_id, since)
    return sorted(row["window_start"] for row in rows if row["metric"] == Metric.DAILY)


async def _clean(house: Any) -> int:
    report = await run_job_once(house.store, house.clock, NAME)
    assert report.outcome is Outcome.DONE
    return int(report.counts["windows_dropped"])


async def test_thirty_days_of_history_stay(houses: Any) -> None:
    """A window is dropped when it ended more than thirty days before today, and not a day sooner."""
    house = houses[0]
    account = await house.account()
    first = house.clock.now.replace(hour=0)
    for _ in range(40):
        await _use(house, account, 1)
        house.clock.now += timedelta(days=1)
    # Ten daily windows. January's monthly one ends on the 1st of February, which is not thirty days ago yet.
    assert await _clean(house) == 10
    assert await _starts(house, account) == [first + timedelta(days=day) for day in range(10, 40)]


async def test_cleaning_again_drops_nothing(houses: Any) -> None:
    """The job is safe to repeat."""
    house = houses[0]
    await _use(house, await house.account(), 1)
    house.clock.now += timedelta(days=100)
    assert [await _clean(house), await _clean(house)] == [2, 0]


async def test_a_window_with_something_held_stays_until_the_hold_has_ended(houses: Any) -> None:
    """A job of the backend that takes longer than the history is settled in the window it took from."""
    house = houses[0]
    account = await house.account()
    hold_id = await house.reserve(account, 3, lasts=timedelta(days=200))
    house.clock.now += timedelta(days=100)
    assert await _clean(house) == 0
    await house.store.ledger.settle(Settle(hold_id, account, 2, Usage(), "done"))
    assert [check.breaches for check in await house.store.database.read(verify) if check.breaches] == []
    assert await _clean(house) == 2
    assert [check.breaches for check in await house.store.database.read(verify) if check.breaches] == []


async def test_what_happens_to_a_hold_after_its_window_was_dropped_is_still_booked(houses: Any) -> None:
    """A late refund and a repeated settlement find no window, and need none."""
    house = houses[0]
    account = await house.account()
    hold_id = await _use(house, account, 3)
    house.clock.now += timedelta(days=100)
    assert await _clean(house) == 2
    repeated = await house.store.ledger.settle(Settle(hold_id, account, None, Usage(), "again"))
    assert isinstance(repeated, Ended)
    assert (repeated.changed, repeated.charged, repeated.available) == (False, 3, 0)
    refunded = await house.store.ledger.refund(hold_id, account, None, "goodwill")
    assert isinstance(refunded, Refunded)
    assert refunded.amount == 3
    assert [check.breaches for check in await house.store.database.read(verify) if check.breaches] == []


async def test_many_accounts_are_cleaned_in_small_batches(houses: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More accounts than fit in one transaction: every one is reached, in one run."""
    monkeypatch.setattr("jobs.quota_housekeeping.BATCH", 10)
    house = houses[0]
    accounts = [await house.account(f"user-{number}") for number in range(23)]
    for account in accounts:
        await _use(house, account, 1)
    house.clock.now += timedelta(days=100)
    await _use(house, accounts[15], 1)
    assert await _clean(house) == 2 * 23
    assert len(await _starts(house, accounts[15])) == 1


async def test_the_quota_of_a_day_is_full_without_the_job(houses: Any) -> None:
    """With the job every night or never: what can be reserved on each day is the same."""
    tidy, untidy = houses
    for house in houses:
        await house.account()
    for day in range(35):
        lefts = []
        for house in houses:
            await _use(house, 1, 10 if day % 2 else 4)
            _, used, held = await house.store.database.read(reports.window, 1, Metric.DAILY, house.clock.now)
            lefts.append(10 - used - held)
        assert lefts[0] == lefts[1] == (0 if day % 2 else 6)
        await _clean(tidy)
        tidy.clock.now += timedelta(days=1)
    assert untidy.clock is tidy.clock
    monthly = [await house.store.database.read(reports.window, 1, Metric.MONTHLY, house.clock.now) for house in houses]
    assert monthly[0] == monthly[1]

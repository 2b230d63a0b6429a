"""Housekeeping drops the windows that nobody can ask for any more, and nothing that a decision depends on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jobs.process import Outcome, run_job_once
from policies.quota import ROLLOVER_WINDOWS, QuotaTerms
from policies.terms import Metric
from policies.windows import Calendar
from store.quota_reports import windows, windows_now
from store.verbs import Ended, Refunded, Settle, Usage
from store.verify import verify
from tests.jobs.conftest import QUOTA

NAME = "quota_housekeeping"


async def _use(house: Any, account_id: Any, units: int, terms: QuotaTerms = QUOTA) -> Any:
    hold_id = await house.reserve(account_id, units, terms=terms)
    await house.store.ledger.settle(Settle(hold_id, account_id, None, Usage(), "done"))
    return hold_id


async def _starts(house: Any, account_id: Any) -> list[datetime]:
    since = datetime(2024, 1, 1, tzinfo=UTC)
    rows = await house.store.database.read(windows, account_id, since)
    return sorted(row["window_start"] for row in rows if row["metric"] == Metric.DAILY)


async def _clean(house: Any) -> int:
    report = await run_job_once(house.store, house.clock, NAME)
    assert report.outcome is Outcome.DONE
    return int(report.counts["windows_dropped"])


async def test_thirty_days_of_history_stay(houses: Any) -> None:
    """A daily window is dropped thirty-five days after its end, and not a moment sooner: thirty of them are shown."""
    house = houses[0]
    account = await house.account()
    first = house.clock.now.replace(hour=0)
    for _ in range(40):
        await _use(house, account, 1)
        house.clock.now += timedelta(days=1)
    # Five days. January's month is kept for longer.
    assert await _clean(house) == 5
    assert await _starts(house, account) == [first + timedelta(days=day) for day in range(5, 40)]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "UTC", "Etc/GMT+12"])
@pytest.mark.parametrize("hour", [0, 11, 23])
async def test_thirty_days_stay_in_every_zone(houses: Any, zone: str, hour: int) -> None:
    """Wherever the day began, and at whatever hour the job runs, none of the thirty days is dropped."""
    house = houses[0]
    account, terms = await house.account(), replace(QUOTA, calendar=Calendar(ZoneInfo(zone)))
    house.clock.now = house.clock.now.replace(hour=hour)
    for _ in range(45):
        await _use(house, account, 1, terms)
        house.clock.now += timedelta(days=1)
    house.clock.now -= timedelta(days=1)
    assert await _clean(house) > 0
    (today, *_) = await house.store.database.read(windows_now, account, terms, house.clock.now)
    starts = await _starts(house, account)
    assert starts[-30:] == [today.start - timedelta(days=back) for back in reversed(range(30))]
    assert len(starts) < 40


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
    for day in range(40):
        lefts = []
        for house in houses:
            await _use(house, 1, 10 if day % 2 else 4)
            today, _ = await house.store.database.read(windows_now, 1, QUOTA, house.clock.now)
            lefts.append(today.allowed - today.in_use)
        assert lefts[0] == lefts[1] == (0 if day % 2 else 6)
        await _clean(tidy)
        tidy.clock.now += timedelta(days=1)
    assert untidy.clock is tidy.clock
    monthly = [(await house.store.database.read(windows_now, 1, QUOTA, house.clock.now))[1] for house in houses]
    assert monthly[0] == monthly[1]


@pytest.mark.parametrize("pause", [1, 20, 34, 36, 70, 200])
async def test_what_is_carried_over_does_not_depend_on_the_job(houses: Any, pause: int) -> None:
    """After any pause, under the largest rollover that a plan can have: what was dropped would have changed nothing."""
    tidy, untidy = houses
    caps = (10 * ROLLOVER_WINDOWS[Metric.DAILY], 100 * ROLLOVER_WINDOWS[Metric.MONTHLY])
    for house in houses:
        await house.account()
    begun = tidy.clock.now - timedelta(days=3)
    terms = QuotaTerms(10, 100, 1, Calendar(month_anchor=begun), *caps, since=begun)
    for step in (1, 3, pause, 2):
        for house in houses:
            await _use(house, 1, 7, terms)
        tidy.clock.now += timedelta(days=step)
        await _clean(tidy)
        shown = [await house.store.database.read(windows_now, 1, terms, tidy.clock.now) for house in houses]
        assert shown[0] == shown[1]
    dropped = len(await _starts(untidy, 1)) - len(await _starts(tidy, 1))
    assert (dropped > 0) == (pause > 33)

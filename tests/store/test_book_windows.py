"""One window at a time, whatever changes under it: zones, anchors, plans, clocks; and what is carried over."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from policies.quota import CLOCK_STEP, QuotaTerms
from policies.terms import AccountId, Metric
from policies.windows import Calendar
from store.columns import to_micros
from store.verbs import Hold, LacksQuota, Settle, Usage
from tests.store.till import NOON, QUOTA, Till, reserving, terms

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MIDNIGHT = datetime(2025, 3, 11, tzinfo=UTC)
JAKARTA = Calendar(ZoneInfo("Asia/Jakarta"))
BERLIN = Calendar(ZoneInfo("Europe/Berlin"))
ROLLOVER = terms(10, daily_rollover=20)


async def _use(till: Till, account: AccountId, units: int, quota: QuotaTerms) -> Hold:
    return await till.settled(account, 0, quota=units, fundings=QUOTA, terms=quota)


async def _left(till: Till, account: AccountId, quota: QuotaTerms) -> int:
    """What is left as it is shown, which must be what can be had, and until when."""
    tightest = min(await till.now_in(account, quota), key=lambda row: row.allowed - row.in_use)
    left = tightest.allowed - tightest.in_use
    refused = await till.reserve(account, quota=left + 1, fundings=QUOTA, terms=quota)
    assert refused == LacksQuota(tightest.metric, tightest.in_use, tightest.allowed, tightest.end)
    await till.release(await till.hold(account, quota=left, fundings=QUOTA, terms=quota))
    return left


# Zones.


async def test_the_day_of_a_zone_ends_at_its_midnight(till: Till) -> None:
    """The last microsecond before 17:00 UTC is the old day in Jakarta."""
    account, quota = await till.account(), terms(10, calendar=JAKARTA)
    till.now = NOON.replace(hour=17) - timedelta(microseconds=1)
    await _use(till, account, 10, quota)
    refused = await till.reserve(account, quota=1, fundings=QUOTA, terms=quota)
    assert refused == LacksQuota(Metric.DAILY, used=10, limit=10, resets_at=NOON.replace(hour=17))
    till.now = NOON.replace(hour=17)
    assert await _left(till, account, quota) == 10


async def test_a_hold_that_is_open_at_local_midnight_ends_in_its_day(till: Till) -> None:
    """The new day is untouched by it."""
    account, quota = await till.account(), terms(10, 100, calendar=JAKARTA)
    hold = await till.hold(account, quota=4, fundings=QUOTA, terms=quota)
    till.now = NOON.replace(hour=18)
    assert await _left(till, account, terms(10, calendar=JAKARTA)) == 10
    await till.settle(hold, 3)
    assert await till.windows(account) == [
        ("02-28", "monthly", 3, 0),
        ("03-09", "daily", 3, 0),
        ("03-10", "daily", 0, 0),
    ]


@pytest.mark.parametrize(("day", "hours"), [("2025-03-30", 23), ("2025-10-26", 25)])
async def test_a_day_on_which_clocks_are_set_is_one_window(till: Till, day: str, hours: int) -> None:
    """Its first moment and its last share one quota, and the next day has its own."""
    account, quota = await till.account(), terms(10, calendar=BERLIN)
    start = datetime.fromisoformat(day).replace(tzinfo=BERLIN.zone).astimezone(UTC)
    till.now = start
    await _use(till, account, 6, quota)
    till.now = start + timedelta(hours=hours) - timedelta(microseconds=1)
    assert await _left(till, account, quota) == 4
    till.now = start + timedelta(hours=hours)
    assert await _left(till, account, quota) == 10


# What moves in the middle of a window.


async def test_a_plan_with_another_zone_waits_for_the_window_that_runs(till: Till) -> None:
    """Neither at the midnight of the new zone, nor by going to and fro, is there a second window beside it."""
    account, utc, jakarta = await till.account(), terms(10), terms(10, version=2, calendar=JAKARTA)
    await _use(till, account, 10, utc)
    for till.now in (NOON, NOON.replace(hour=17), MIDNIGHT - timedelta(microseconds=1)):
        for quota in (jakarta, utc, jakarta):
            refused = await till.reserve(account, quota=1, fundings=QUOTA, terms=quota)
            assert refused == LacksQuota(Metric.DAILY, used=10, limit=10, resets_at=MIDNIGHT)
    till.now = MIDNIGHT
    # Seventeen hours of the day of Jakarta are left: its share of ten, rounded up.
    assert await _left(till, account, jakarta) == 8
    till.now = MIDNIGHT + 17 * HOUR
    assert await _left(till, account, jakarta) == 10
    assert await till.days(account) == [
        ("10 00:00", "11 00:00", 10, 0),
        ("11 00:00", "11 17:00", 8, 0),
        ("11 17:00", "12 17:00", 10, 0),
    ]


async def test_the_share_of_a_short_window_follows_the_plan(till: Till) -> None:
    """An upgrade in it raises the share, and `used` stays."""
    account, jakarta = await till.account(), terms(24, version=2, calendar=JAKARTA)
    await _use(till, account, 1, terms(10))
    till.now = MIDNIGHT
    await _use(till, account, 16, jakarta)
    assert await _left(till, account, jakarta) == 1
    assert await _left(till, account, replace(jakarta, daily=48, plan_version_id=3)) == 34 - 16
    assert (await till.reserve(account, quota=1, fundings=QUOTA, terms=terms(10, calendar=JAKARTA))).limit == 8


async def test_a_new_anchor_waits_for_the_month_that_runs(till: Till) -> None:
    """Subscribing anew every few days does not renew the month, nor does it gain more than the time is worth."""
    account = await till.account()
    first = terms(100, 31, calendar=Calendar(month_anchor=NOON))
    await _use(till, account, 31, first)
    for days in (1, 5, 30):
        till.now = NOON + days * DAY
        again = terms(100, 31, calendar=Calendar(month_anchor=till.now))
        refused = await till.reserve(account, quota=1, fundings=QUOTA, terms=again)
        assert refused == LacksQuota(Metric.MONTHLY, used=31, limit=31, resets_at=datetime(2025, 4, 10, tzinfo=UTC))
    till.now = datetime(2025, 4, 10, tzinfo=UTC)
    # The anchor is the 9th of April now: 29 of 30 days are left of its month.
    assert await _left(till, account, again) == 30


async def test_resubscribing_in_the_same_day_goes_on_in_the_same_window(till: Till) -> None:
    """Another lifetime of a subscription, which begins this moment, has the window of the one before."""
    account = await till.account()
    await till.plan_version(1, daily_rollover=20)
    await _use(till, account, 27, replace(ROLLOVER, since=NOON - 40 * DAY))
    till.now += HOUR
    assert await _left(till, account, replace(ROLLOVER, since=till.now)) == 3
    till.now += DAY
    assert await _left(till, account, replace(ROLLOVER, since=till.now)) == 10


# Clocks.


async def test_a_clock_that_steps_back_finds_the_window_of_later(till: Till) -> None:
    """An earlier one is neither opened nor used again: what it had left was carried over."""
    account = await till.account()
    await till.plan_version(1, daily_rollover=20)
    await _use(till, account, 4, ROLLOVER)
    till.now = MIDNIGHT + HOUR
    await _use(till, account, 1, ROLLOVER)
    till.now = MIDNIGHT - HOUR
    assert await _left(till, account, ROLLOVER) == 15
    await _use(till, account, 15, ROLLOVER)
    refused = await till.reserve(account, quota=1, fundings=QUOTA, terms=ROLLOVER)
    assert refused == LacksQuota(Metric.DAILY, used=16, limit=16, resets_at=MIDNIGHT + DAY)
    assert await till.windows(account) == [("03-10", "daily", 4, 0), ("03-11", "daily", 16, 0)]


async def test_a_clock_that_steps_back_opens_no_window_before_the_one_that_is_open(till: Till) -> None:
    """Also where nothing was asked for on the day before."""
    account = await till.account()
    till.now = MIDNIGHT
    await _use(till, account, 10, terms(10))
    till.now = MIDNIGHT - timedelta(seconds=1)
    assert isinstance(await till.reserve(account, quota=1, fundings=QUOTA, terms=terms(10)), LacksQuota)
    assert len(await till.windows(account)) == 1


async def test_a_clock_that_was_far_ahead_locks_nobody_out(till: Till) -> None:
    """Its windows count for nothing until their time has nearly come, and holds on them still end there."""
    account = await till.account()
    till.now = NOON + 365 * DAY
    await _use(till, account, 10, terms(10))
    hold = await till.release(await till.hold(account, quota=0, fundings=QUOTA, terms=terms(10)))
    assert hold.changed
    till.now = NOON
    for _ in range(3):
        assert await _left(till, account, terms(10)) == 10
        till.now += DAY
    till.now = NOON + 365 * DAY
    assert await _left(till, account, terms(10)) == 0


async def test_a_hold_on_a_window_of_a_clock_that_was_far_ahead_ends_there(till: Till) -> None:
    """Wherever a hold was taken from, it finds its window."""
    account = await till.account()
    till.now = NOON + 365 * DAY
    hold = await till.hold(account, quota=3, fundings=QUOTA, terms=terms(10))
    till.now = NOON
    await till.run(
        reserving(900, account, quota=2, fundings=QUOTA, terms=terms(10)),
        Settle(hold.hold_id, account, None, Usage(), "done"),
    )
    assert [row[2:] for row in await till.windows(account)] == [(0, 2), (3, 0)]


async def test_how_far_a_clock_may_step_back(till: Till) -> None:
    """By a day: a window that begins within one is in force, a microsecond later it is not."""
    assert CLOCK_STEP == DAY
    account = await till.account()
    till.now = MIDNIGHT + DAY
    await _use(till, account, 4, terms(10))
    till.now = MIDNIGHT + DAY - CLOCK_STEP
    assert [row.used for row in await till.now_in(account, terms(10))] == [4]
    till.now -= timedelta(microseconds=1)
    assert [row.used for row in await till.now_in(account, terms(10))] == [0]


# Rollover.


async def test_what_was_left_is_carried_into_the_next_window(till: Till) -> None:
    """It stands in the window's row, beside the plan's own part, up to the cap."""
    account = await till.account()
    await till.plan_version(1, daily_rollover=12)
    quota = terms(10, daily_rollover=12)
    await _use(till, account, 3, quota)
    for expected in (17, 22, 22):
        till.now += DAY
        assert await _left(till, account, quota) == expected
    assert [row[2:] for row in await till.days(account)] == [(10, 0), (10, 7), (10, 12), (10, 12)]
    await _use(till, account, 22, quota)
    till.now += DAY
    assert await _left(till, account, quota) == 10


async def test_days_without_a_request_count_without_a_row(till: Till) -> None:
    """Also when the last one with a row is long ago, and when there never was one since the plan began."""
    await till.plan_version(1, daily_rollover=35)
    quota = terms(10, daily_rollover=35, since=NOON)
    used, unused = await till.account(), await till.account()
    await _use(till, used, 9, quota)
    for days, left in ((1, 11), (3, 31), (4, 41), (200, 45)):
        till.now = NOON + days * DAY
        assert [row.allowed for row in await till.now_in(used, quota)] == [left]
    assert await _left(till, used, quota) == 45
    assert await _left(till, unused, quota) == 45
    assert len(await till.days(used)) == 2


async def test_what_is_held_is_not_carried_and_does_not_come_back_into_the_new_window(till: Till) -> None:
    """`carried` is fixed when the window is opened: releases and refunds into the old one change the old one."""
    account = await till.account()
    await till.plan_version(1, daily_rollover=20)
    settled = await _use(till, account, 2, ROLLOVER)
    hold = await till.hold(account, quota=3, fundings=QUOTA, terms=ROLLOVER, lasts=3 * DAY)
    till.now += DAY
    assert await _left(till, account, ROLLOVER) == 15
    await till.release(hold)
    await till.refund(settled)
    assert await _left(till, account, ROLLOVER) == 15
    assert await till.windows(account) == [("03-10", "daily", 0, 0), ("03-11", "daily", 0, 0)]


async def test_a_refund_before_the_new_window_is_opened_is_carried(till: Till) -> None:
    """What was left counts at the moment at which the new window is first asked of, not at midnight."""
    account = await till.account()
    await till.plan_version(1, daily_rollover=20)
    settled = await _use(till, account, 4, ROLLOVER)
    till.now += DAY
    assert [row.carried for row in await till.now_in(account, ROLLOVER)] == [6]
    await till.refund(settled)
    assert await _left(till, account, ROLLOVER) == 20


async def test_a_change_of_plan_moves_the_plans_own_part_only(till: Till) -> None:
    """What was carried in stays until the window ends, also under a plan without rollover."""
    account = await till.account()
    await till.plan_version(1, daily_rollover=20)
    await _use(till, account, 4, ROLLOVER)
    till.now += DAY
    assert await _left(till, account, ROLLOVER) == 16
    assert await _left(till, account, terms(50, version=2, since=till.now)) == 56
    assert await _left(till, account, terms(3, version=3, since=till.now)) == 9
    till.now += DAY
    assert await _left(till, account, terms(3, version=3, since=till.now - DAY)) == 3


async def test_day_and_month_carry_each_by_themselves(till: Till) -> None:
    """And still apply together."""
    account = await till.account()
    await till.plan_version(1, daily_rollover=20, monthly_rollover=15)
    quota = terms(10, 30, daily_rollover=20, monthly_rollover=15)
    await _use(till, account, 5, quota)
    till.now = datetime(2025, 4, 1, 12, tzinfo=UTC)
    day, month = await till.now_in(account, quota)
    assert (day.carried, day.allowed, month.carried, month.allowed) == (20, 30, 15, 45)
    assert await _left(till, account, quota) == 30


# Loading.


async def test_the_newest_window_is_found_beside_the_window_of_an_older_hold(till: Till) -> None:
    """In one batch with the end of a hold from before it, after days without a request."""
    account = await till.account()
    await till.plan_version(1, daily_rollover=20)
    hold = await till.hold(account, quota=10, fundings=QUOTA, terms=ROLLOVER)
    till.now += DAY
    await _use(till, account, 4, ROLLOVER)
    till.now += 5 * DAY
    late = replace(ROLLOVER, daily_rollover=300)
    settle = Settle(hold.hold_id, account, 1, Usage(), "done")
    _, refused = await till.run(settle, reserving(900, account, quota=99, fundings=QUOTA, terms=late))
    # Six of the 11th, and ten of each day from the 12th to the 15th; not nine of the 10th.
    assert refused.limit == 10 + 6 + 4 * 10
    await till.tamper("UPDATE plan_versions SET daily_rollover = 300")


async def test_first_requests_in_one_batch_open_one_window(till: Till) -> None:
    """The second sees what the first has taken."""
    account = await till.account()
    verbs = [reserving(number, account, quota=4, fundings=QUOTA, terms=terms(10, 100)) for number in range(900, 904)]
    outcomes = await till.run(*verbs)
    assert [isinstance(outcome, Hold) for outcome in outcomes] == [True, True, False, False]
    assert await till.windows(account) == [("03-01", "monthly", 0, 8), ("03-10", "daily", 0, 8)]


async def test_a_window_of_more_than_a_day_is_found_to_its_end(till: Till) -> None:
    """In the last hour of a day of 25 it is not among the windows that began within a day."""
    account, quota = await till.account(), terms(10, calendar=BERLIN)
    start = datetime(2025, 10, 25, 22, tzinfo=UTC)
    till.now = start
    await _use(till, account, 9, quota)
    till.now = start + 24 * HOUR + timedelta(minutes=30)
    assert await _left(till, account, quota) == 1
    (row,) = await till.rows("SELECT window_start, window_end FROM quota_windows WHERE account_id = :id", id=account)
    assert (row["window_start"], row["window_end"]) == (to_micros(start), to_micros(start + 25 * HOUR))

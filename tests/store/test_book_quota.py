"""Quota: windows by day and month, taken together, never refilled by anything but their end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from policies.holds import HoldState
from policies.terms import Funding, Metric, OnDeadline
from store.verbs import Hold, LacksCredits, LacksQuota
from tests.store.till import CREDITS, NOON, QUOTA, Till, reserving, terms

pytestmark = pytest.mark.asyncio(loop_scope="session")

MIDNIGHT = datetime(2025, 3, 11, tzinfo=UTC)
NEXT_MONTH = datetime(2025, 4, 1, tzinfo=UTC)
OVERFLOW = (*QUOTA, *CREDITS)


async def test_quota_is_taken_from_the_window_of_the_day(till: Till) -> None:
    """The window is made on first use, and the answer says what is left of it."""
    account = await till.account()
    hold = await till.hold(account, quota=3, fundings=QUOTA, terms=terms(10))
    assert (hold.funding, hold.amount, hold.available) == (Funding.QUOTA, 3, 7)
    assert await till.windows(account) == [("03-10", "daily", 0, 3)]
    ended = await till.settle(hold)
    assert (ended.charged, ended.available) == (3, 7)
    assert await till.windows(account) == [("03-10", "daily", 3, 0)]
    assert await till.entries(account) == []


async def test_the_last_unit_can_be_used_and_no_more(till: Till) -> None:
    """Exactly the limit passes; the refusal says what was used, of how much, and until when."""
    account = await till.account()
    for _ in range(2):
        await till.settled(account, 0, quota=5, fundings=QUOTA, terms=terms(10))
    refused = await till.reserve(account, quota=1, fundings=QUOTA, terms=terms(10))
    assert refused == LacksQuota(Metric.DAILY, used=10, limit=10, resets_at=MIDNIGHT)


async def test_held_quota_counts_as_used(till: Till) -> None:
    """Requests that are still running cannot be overtaken by more of them."""
    account = await till.account()
    await till.hold(account, quota=8, fundings=QUOTA, terms=terms(10))
    refused = await till.reserve(account, quota=3, fundings=QUOTA, terms=terms(10))
    assert refused == LacksQuota(Metric.DAILY, used=8, limit=10, resets_at=MIDNIGHT)


async def test_a_model_without_quota_cost_passes_an_exhausted_window(till: Till) -> None:
    """Nothing is taken for nothing."""
    account = await till.account()
    await till.settled(account, 0, quota=10, fundings=QUOTA, terms=terms(10))
    assert isinstance(await till.reserve(account, quota=0, fundings=QUOTA, terms=terms(10)), Hold)


async def test_a_plan_without_quota_refuses(till: Till) -> None:
    """A limit of zero is a limit."""
    account = await till.account()
    refused = await till.reserve(account, quota=1, fundings=QUOTA, terms=terms(0))
    assert refused == LacksQuota(Metric.DAILY, used=0, limit=0, resets_at=MIDNIGHT)


async def test_a_day_ends_at_midnight_utc(till: Till) -> None:
    """The last microsecond belongs to the old window, midnight to a new and empty one."""
    account = await till.account()
    till.now = MIDNIGHT - timedelta(microseconds=1)
    await till.settled(account, 0, quota=10, fundings=QUOTA, terms=terms(10))
    assert isinstance(await till.reserve(account, quota=1, fundings=QUOTA, terms=terms(10)), LacksQuota)
    till.now = MIDNIGHT
    assert (await till.hold(account, quota=1, fundings=QUOTA, terms=terms(10))).available == 9


@pytest.mark.parametrize("end", ["settle", "release", "expire", "refund"])
async def test_a_hold_ends_in_the_window_it_was_taken_from(till: Till, end: str) -> None:
    """After midnight too: the new day neither pays for the old one nor gets anything from it."""
    account = await till.account()
    hold = await till.hold(account, quota=4, fundings=QUOTA, terms=terms(10, 100), lasts=MIDNIGHT - till.now)
    till.now = MIDNIGHT + timedelta(hours=1)
    other = await till.hold(account, quota=1, fundings=QUOTA, terms=terms(10, 100))
    if end == "refund":
        await till.settle(hold)
    await getattr(till, end)(hold)
    used = 4 if end == "settle" else 0
    assert await till.windows(account) == [
        ("03-01", "monthly", used, 1),
        ("03-10", "daily", used, 0),
        ("03-11", "daily", 0, 1),
    ]
    assert other.available == 9


async def test_a_month_ends_with_its_last_day(till: Till) -> None:
    """The first moment of April has a new month, and a new day."""
    account = await till.account()
    till.now = NEXT_MONTH - timedelta(microseconds=1)
    await till.settled(account, 0, quota=5, fundings=QUOTA, terms=terms(10, 5))
    refused = await till.reserve(account, quota=1, fundings=QUOTA, terms=terms(10, 5))
    assert refused == LacksQuota(Metric.MONTHLY, used=5, limit=5, resets_at=NEXT_MONTH)
    till.now = NEXT_MONTH
    assert (await till.hold(account, quota=1, fundings=QUOTA, terms=terms(10, 5))).available == 4


async def test_the_tighter_of_day_and_month_refuses(till: Till) -> None:
    """Both are taken or none, and the answer names the one that was in the way."""
    account = await till.account()
    await till.settled(account, 0, quota=6, fundings=QUOTA, terms=terms(10, 15))
    refused = await till.reserve(account, quota=5, fundings=QUOTA, terms=terms(10, 15))
    assert refused == LacksQuota(Metric.DAILY, used=6, limit=10, resets_at=MIDNIGHT)
    assert await till.windows(account) == [("03-01", "monthly", 6, 0), ("03-10", "daily", 6, 0)]
    till.now = MIDNIGHT
    refused = await till.reserve(account, quota=10, fundings=QUOTA, terms=terms(10, 15))
    assert refused == LacksQuota(Metric.MONTHLY, used=6, limit=15, resets_at=NEXT_MONTH)
    assert (await till.hold(account, quota=9, fundings=QUOTA, terms=terms(10, 15))).available == 0


async def test_what_is_left_is_that_of_the_tightest_window(till: Till) -> None:
    """An answer never promises what the other window would refuse."""
    account = await till.account()
    assert (await till.hold(account, quota=1, fundings=QUOTA, terms=terms(10, 5))).available == 4
    assert (await till.hold(account, quota=1, fundings=QUOTA, terms=terms(3, 100))).available == 1


async def test_an_upgrade_raises_the_limit_and_keeps_what_was_used(till: Till) -> None:
    """No second quota by changing plans."""
    account = await till.account()
    await till.settled(account, 0, quota=10, fundings=QUOTA, terms=terms(10, version=1))
    assert (await till.hold(account, quota=1, fundings=QUOTA, terms=terms(50, version=2))).available == 39
    refused = await till.reserve(account, quota=40, fundings=QUOTA, terms=terms(50, version=2))
    assert (refused.used, refused.limit) == (11, 50)


async def test_a_downgrade_below_what_was_used_refuses_until_the_window_ends(till: Till) -> None:
    """Nothing is owed for it, and what is left is zero and not less."""
    account = await till.account()
    open_hold = await till.hold(account, quota=20, fundings=QUOTA, terms=terms(50, version=1))
    refused = await till.reserve(account, quota=1, fundings=QUOTA, terms=terms(10, version=2))
    assert refused == LacksQuota(Metric.DAILY, used=20, limit=10, resets_at=MIDNIGHT)
    ended = await till.settle(open_hold)
    assert (ended.charged, ended.available) == (20, 0)
    till.now = MIDNIGHT
    assert isinstance(await till.reserve(account, quota=10, fundings=QUOTA, terms=terms(10, version=2)), Hold)


async def test_a_monthly_limit_counts_from_the_plan_that_brought_it(till: Till) -> None:
    """Without a monthly limit no month is counted; a plan that has one starts with an empty month."""
    account = await till.account()
    await till.settled(account, 0, quota=5, fundings=QUOTA, terms=terms(10))
    hold = await till.hold(account, quota=2, fundings=QUOTA, terms=terms(10, 100, version=2))
    await till.settle(hold)
    assert await till.windows(account) == [("03-01", "monthly", 2, 0), ("03-10", "daily", 7, 0)]


async def test_used_up_quota_overflows_to_credits_where_that_is_allowed(till: Till) -> None:
    """The hold pins its payer: it is settled and refunded in credits."""
    account = await till.account(100)
    await till.settled(account, 0, quota=10, fundings=OVERFLOW, terms=terms(10))
    hold = await till.hold(account, 30, fundings=OVERFLOW, terms=terms(10))
    assert (hold.funding, hold.amount, hold.available) == (Funding.CREDITS, 30, 70)
    assert (await till.settle(hold, 20)).charged == 20
    assert (await till.refund(hold)).available == 100


async def test_quota_is_taken_before_credits(till: Till) -> None:
    """The first funding that has enough pays all of it; a call is never split."""
    account = await till.account(100)
    assert (await till.hold(account, 30, quota=10, fundings=OVERFLOW, terms=terms(10))).funding is Funding.QUOTA
    assert (await till.grants(account)) == [(100, 0)]


async def test_when_neither_pays_the_first_refusal_is_the_answer(till: Till) -> None:
    """Who has a plan is told about its quota, and that credits were lacking too."""
    account = await till.account(5)
    refused = await till.reserve(account, 30, quota=11, fundings=OVERFLOW, terms=terms(10))
    assert refused == LacksQuota(Metric.DAILY, 0, 10, MIDNIGHT, credits=LacksCredits(required=30, current=5))
    refused = await till.reserve(account, 30, quota=11, fundings=(*CREDITS, *QUOTA), terms=terms(10))
    assert refused == LacksCredits(required=30, current=5)


async def test_quota_is_never_charged_above_the_hold(till: Till) -> None:
    """A quota price is flat: a true amount above it takes what was held."""
    account = await till.account()
    hold = await till.hold(account, quota=2, fundings=QUOTA, terms=terms(10))
    assert (await till.settle(hold, 500)).charged == 2


async def test_a_part_settlement_returns_units_to_the_window(till: Till) -> None:
    """A job that half succeeded costs half."""
    account = await till.account()
    ended = await till.settle(await till.hold(account, quota=6, fundings=QUOTA, terms=terms(10)), 2)
    assert (ended.charged, ended.available) == (2, 8)


async def test_a_quota_refund_opens_the_window_again(till: Till) -> None:
    """In the day and the month, and never more than was settled."""
    account = await till.account()
    hold = await till.settled(account, 0, quota=6, fundings=QUOTA, terms=terms(10, 10))
    assert (await till.refund(hold, 4)).available == 8
    assert (await till.refund(hold)).amount == 2
    assert await till.windows(account) == [("03-01", "monthly", 0, 0), ("03-10", "daily", 0, 0)]


async def test_the_deadline_rule_quote_uses_quota_up(till: Till) -> None:
    """In the window of the reservation."""
    account = await till.account()
    hold = await till.hold(
        account, quota=6, fundings=QUOTA, terms=terms(10), on_deadline=OnDeadline.QUOTE, lasts=MIDNIGHT - till.now
    )
    till.now = MIDNIGHT
    assert (await till.expire(hold)).state is HoldState.SETTLED
    assert await till.windows(account) == [("03-10", "daily", 6, 0)]


async def test_the_windows_of_accounts_are_their_own(till: Till) -> None:
    """Two accounts in one batch, each with its own limit."""
    one, other = await till.account(), await till.account()
    outcomes = await till.run(
        reserving(80, one, quota=5, fundings=QUOTA, terms=terms(5)),
        reserving(81, other, quota=5, fundings=QUOTA, terms=terms(5)),
        reserving(82, one, quota=1, fundings=QUOTA, terms=terms(5)),
    )
    assert [isinstance(outcome, Hold) for outcome in outcomes] == [True, True, False]


async def test_a_clock_that_steps_back_over_midnight_opens_no_second_window(till: Till) -> None:
    """The old window is as it was left, and so is the new one afterwards."""
    account = await till.account()
    await till.settled(account, 0, quota=10, fundings=QUOTA, terms=terms(10))
    till.now = MIDNIGHT
    await till.settled(account, 0, quota=10, fundings=QUOTA, terms=terms(10))
    till.now = NOON
    assert isinstance(await till.reserve(account, quota=1, fundings=QUOTA, terms=terms(10)), LacksQuota)
    till.now = MIDNIGHT
    assert isinstance(await till.reserve(account, quota=1, fundings=QUOTA, terms=terms(10)), LacksQuota)


async def test_a_settled_hold_whose_window_has_left_the_history_is_still_refunded(till: Till) -> None:
    """Nothing depends on a window that is long over, and the answer says that nothing is left in it."""
    account = await till.account()
    hold = await till.settled(account, 0, quota=6, fundings=QUOTA, terms=terms(10))
    await till.tamper("DELETE FROM quota_windows")
    refunded = await till.refund(hold)
    assert (refunded.amount, refunded.available) == (6, 0)

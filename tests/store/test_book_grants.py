"""Grants: spent in their order, given once for each key, refilled where they were spent, booked out when lapsed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from policies.spending import SpendBy
from policies.terms import HoldId
from store import reports
from store.verbs import GrantCredits, Granted, GrantSource, LacksCredits, Refused
from tests.store.till import NOON, Till, reserving

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOUR = timedelta(hours=1)


async def test_grants_are_spent_by_priority_then_expiry_then_age(till: Till) -> None:
    """Lowest priority number first; of equals what expires soonest; of those the oldest."""
    account = await till.account()
    for priority, expires_at in [(100, None), (100, NOON + 2 * HOUR), (100, NOON + HOUR), (1, None), (100, None)]:
        await till.grant(account, 10, priority=priority, expires_at=expires_at)
    spent = []
    for _ in range(5):
        before = await till.grants(account)
        await till.settled(account, 10)
        after = await till.grants(account)
        spent.append([index for index, pair in enumerate(before) if after[index] != pair])
    assert spent == [[3], [2], [1], [0], [4]]


async def test_gifts_are_spent_before_purchases(till: Till) -> None:
    """Of grants that lapse at the same time, or never."""
    account = await till.account(10)
    await till.grant(account, 10, source=GrantSource.PROMO)
    await till.settled(account, 5)
    assert await till.grants(account) == [(10, 0), (5, 0)]


async def test_another_order_is_followed_everywhere(till: Till) -> None:
    """By holds, overruns, deductions and reports alike."""
    till.order = (SpendBy.SOURCE,)
    account = await till.account()
    await till.grant(account, 10, expires_at=NOON + HOUR)
    await till.grant(account, 10, priority=200, source=GrantSource.PROMO)
    await till.deduct(account, 1)
    await till.settle(await till.hold(account, 2), 4)
    assert await till.grants(account) == [(10, 0), (5, 0)]
    rows = await till.database.read(reports.grants, account, till.order)
    assert [row["source"] for row in rows] == ["promo", "purchase"]


async def test_a_release_goes_back_to_exactly_the_grants_it_came_from(till: Till) -> None:
    """Also when other holds have taken from the same grants meanwhile."""
    account = await till.account(10, 10, 10)
    first, second = await till.hold(account, 15), await till.hold(account, 10)
    assert await till.grants(account) == [(0, 10), (0, 10), (5, 5)]
    await till.release(first)
    assert await till.grants(account) == [(10, 0), (5, 5), (5, 5)]
    await till.release(second)
    assert await till.grants(account) == [(10, 0), (10, 0), (10, 0)]


async def test_a_part_settled_hold_spends_what_it_took_first(till: Till) -> None:
    """The rest returns to the grants that were taken last."""
    account = await till.account(10, 10, 10)
    await till.settle(await till.hold(account, 25), 12)
    assert await till.grants(account) == [(0, 0), (8, 0), (10, 0)]


async def test_a_refund_refills_what_was_spent_last_first(till: Till) -> None:
    """Several refunds go on where the one before ended."""
    account = await till.account(10, 10, 10)
    hold = await till.settled(account, 25)
    steps = []
    for amount in (3, 4, 10, 8):
        await till.refund(hold, amount)
        steps.append(await till.grants(account))
    assert steps == [
        [(0, 0), (0, 0), (8, 0)],
        [(0, 0), (2, 0), (10, 0)],
        [(2, 0), (10, 0), (10, 0)],
        [(10, 0), (10, 0), (10, 0)],
    ]


async def test_a_refund_reaches_a_grant_that_had_nothing_left(till: Till) -> None:
    """Spent grants are not forgotten."""
    account = await till.account(10)
    hold = await till.settled(account, 10)
    await till.settled(await till.account(5), 5)
    assert (await till.refund(hold)).available == 10
    assert await till.grants(account) == [(10, 0)]


@pytest.mark.parametrize("part", [0, 1, 29, 30])
async def test_a_refund_gives_back_a_part(till: Till, part: int) -> None:
    """Any part of what was settled, also nothing."""
    account = await till.account(100)
    hold = await till.settled(account, 30)
    refunded = await till.refund(hold, part)
    assert (refunded.amount, refunded.available) == (part, 70 + part)


async def test_a_refund_without_an_amount_gives_back_what_is_left(till: Till) -> None:
    """After a part it is the rest, and after that nothing."""
    account = await till.account(100)
    hold = await till.settled(account, 30)
    assert [(await till.refund(hold, amount)).amount for amount in (10, None, None)] == [10, 20, 0]
    assert (await till.balance(account)).posted == 100


async def test_no_more_is_refunded_than_was_settled(till: Till) -> None:
    """Refunds together are bounded by the settled amount, in one batch and over several."""
    account = await till.account(100)
    hold = await till.settled(account, 30)
    assert await till.refund(hold, 31) is Refused.ABOVE_SETTLED
    await till.refund(hold, 20)
    assert await till.refund(hold, 11) is Refused.ABOVE_SETTLED
    assert (await till.balance(account)).posted == 90


async def test_only_a_settled_hold_can_be_refunded(till: Till) -> None:
    """An open hold is released, and a released one has nothing to give back."""
    account = await till.account(100)
    hold = await till.hold(account, 30)
    assert await till.refund(hold) is Refused.NOT_SETTLED
    await till.release(hold)
    assert await till.refund(hold) is Refused.NOT_SETTLED
    assert (await till.balance(account)).posted == 100


async def test_a_lapsed_grant_pays_for_nothing(till: Till) -> None:
    """At its very moment of expiry a grant is gone, without any job, and booked as expired at the next verb."""
    account = await till.account(10)
    await till.grant(account, 50, expires_at=NOON + HOUR)
    till.now = NOON + HOUR
    assert (await till.balance(account)).available == 10
    assert await till.reserve(account, 11) == LacksCredits(required=11, current=10)
    assert await till.entries(account) == [("grant", 10, 10), ("grant", 50, 60), ("expire", -50, 10)]


async def test_a_grant_pays_until_it_lapses(till: Till) -> None:
    """One microsecond before its expiry a grant still pays."""
    account = await till.account()
    await till.grant(account, 50, expires_at=NOON + HOUR)
    till.now = NOON + HOUR - timedelta(microseconds=1)
    assert (await till.hold(account, 50)).available == 0


async def test_a_hold_keeps_what_it_took_from_a_grant_that_lapses_meanwhile(till: Till) -> None:
    """The admission is final: the request is settled from the grant although it has lapsed."""
    account = await till.account(10)
    await till.grant(account, 50, expires_at=NOON + HOUR, priority=1)
    hold = await till.hold(account, 30)
    till.now = NOON + 2 * HOUR
    ended = await till.settle(hold)
    assert (ended.charged, ended.available) == (30, 10)
    assert await till.grants(account) == [(10, 0), (0, 0)]


async def test_the_returned_part_of_a_lapsed_grant_is_booked_as_expired(till: Till) -> None:
    """What a release or a part settlement returns to a lapsed grant is not available again."""
    account = await till.account(10)
    await till.grant(account, 50, expires_at=NOON + HOUR, priority=1)
    released, part_settled = await till.hold(account, 20), await till.hold(account, 30)
    till.now = NOON + 2 * HOUR
    assert (await till.release(released)).available == 10
    assert (await till.settle(part_settled, 25)).available == 10
    assert await till.entries(account) == [
        ("grant", 10, 10),
        ("grant", 50, 60),
        ("expire", -20, 40),
        ("usage", -25, 15),
        ("expire", -5, 10),
    ]


async def test_a_refund_to_a_lapsed_grant_is_booked_as_expired(till: Till) -> None:
    """It goes back to exactly where it came from, which is over; the answer does not promise it as available."""
    account = await till.account(10)
    await till.grant(account, 50, expires_at=NOON + HOUR, priority=1)
    hold = await till.settled(account, 55)
    till.now = NOON + 2 * HOUR
    assert (await till.refund(hold)).available == 10
    assert (await till.entries(account))[-2:] == [("refund", 55, 60), ("expire", -50, 10)]


async def test_an_overrun_takes_nothing_from_a_lapsed_grant(till: Till) -> None:
    """An overrun is a new taking, by the rules of its moment."""
    account = await till.account(10)
    await till.grant(account, 50, expires_at=NOON + HOUR, priority=1)
    hold = await till.hold(account, 20)
    till.now = NOON + 2 * HOUR
    assert (await till.settle(hold, 100)).charged == 30


async def test_a_grant_with_the_same_key_is_given_once(till: Till) -> None:
    """The second answers with the first, whatever amount it asks for, also when the first is spent."""
    account = await till.account()
    first = await till.grant(account, 50, key="payment 1")
    await till.settled(account, 50)
    second = await till.grant(account, 70, key="payment 1")
    assert (second.grant_id, second.amount, second.changed) == (first.grant_id, 50, False)
    assert (await till.balance(account)).posted == 0


async def test_a_grant_with_the_same_key_is_given_once_within_a_batch(till: Till) -> None:
    """Two confirmations of one payment that arrive together add it once."""
    account = await till.account()
    purchases = [GrantCredits(n, account, 50, GrantSource.PURCHASE, "payment 1", "") for n in (71, 72)]
    assert await till.run(*purchases) == [Granted(71, 50, 50, changed=True), Granted(71, 50, 50, changed=False)]


async def test_a_key_belongs_to_one_account(till: Till) -> None:
    """Another account may use the same key, for example the one of the welcome bonus."""
    one, other = await till.account(), await till.account()
    assert (await till.grant(one, 50, key="welcome")).changed
    assert (await till.grant(other, 50, key="welcome")).changed


async def test_a_grant_pays_for_a_request_behind_it_in_the_batch(till: Till) -> None:
    """Credits count from the moment they are granted."""
    account = await till.account()
    grant = GrantCredits(71, account, 50, GrantSource.PURCHASE, "payment 1", "")
    outcomes = await till.run(reserving(80, account, 50), grant, reserving(81, account, 50))
    assert outcomes[0] == LacksCredits(50, 0)
    assert outcomes[2].hold_id == HoldId(81)  # type: ignore[union-attr]


async def test_a_deduction_takes_in_spend_order(till: Till) -> None:
    """What an operator takes away comes from where a request would take it."""
    account = await till.account(10, 10)
    taken = await till.deduct(account, 15)
    assert (taken.amount, taken.balance) == (-15, 5)
    assert await till.grants(account) == [(0, 0), (5, 0)]


async def test_a_deduction_takes_no_more_than_is_available(till: Till) -> None:
    """Held credits are not available; a deduction that is too large takes nothing."""
    account = await till.account(100)
    await till.hold(account, 60)
    assert await till.deduct(account, 41) == LacksCredits(required=41, current=40)
    assert (await till.deduct(account, 40)).balance == 60


async def test_the_largest_amounts_add_up(till: Till) -> None:
    """A thousand million credits in one grant, many times, on both databases."""
    largest = 10**15
    account = await till.account(*[largest] * 5)
    hold = await till.settled(account, largest)
    assert (await till.balance(account)).available == 4 * largest
    assert (await till.refund(hold)).available == 5 * largest


async def test_a_clock_that_steps_back_loses_nothing(till: Till) -> None:
    """Credits from after the step cannot be spent before it; they are still there when their time comes again."""
    account = await till.account(10)
    till.now = NOON - HOUR
    assert await till.reserve(account, 5) == LacksCredits(required=5, current=0)
    till.now = NOON
    assert (await till.hold(account, 10)).available == 0

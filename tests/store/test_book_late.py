"""Settlements that come after their hold has expired: never a resurrection, and at most one late charge."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from policies.holds import HoldState
from policies.terms import AccountId, OnDeadline, OnLate
from store.verbs import Ended, Hold, LacksCredits, Refused, Settle, Usage
from tests.store.till import QUOTA, Till, reserving, terms

pytestmark = pytest.mark.asyncio(loop_scope="session")

LATE = {"on_late": OnLate.CHARGE}


async def expired(till: Till, account: AccountId, credits: int = 0, **details: Any) -> Hold:
    """A hold that was swept at its deadline."""
    hold = await till.hold(account, credits, **details)
    till.now += timedelta(hours=1)
    assert (await till.expire(hold)).state is HoldState.EXPIRED
    return hold


async def test_a_late_settlement_is_charged_where_the_rule_says_so(till: Till) -> None:
    """By an entry of its own that names the hold, from what the account has now; the hold stays expired."""
    account = await till.account(100)
    hold = await expired(till, account, 30, **LATE)
    late = await till.settle(hold, 20)
    assert late == Ended(hold.hold_id, HoldState.EXPIRED, hold.funding, 20, 80, changed=True)
    assert await till.entries(account) == [("grant", 100, 100), ("late", -20, 80)]
    (row,) = await till.rows("SELECT hold_id FROM ledger_entries WHERE kind = 'late'")
    assert row["hold_id"] == hold.hold_id


async def test_a_late_settlement_is_nothing_by_default(till: Till) -> None:
    """What expired was given back, and stays given back."""
    account = await till.account(100)
    hold = await expired(till, account, 30)
    late = await till.settle(hold, 20)
    assert (late.state, late.charged, late.changed) == (HoldState.EXPIRED, 0, False)
    assert await till.entries(account) == [("grant", 100, 100)]


async def test_a_hold_is_charged_late_once(till: Till) -> None:
    """Again, with whatever amount, in the same batch or later, the first outcome is returned."""
    account = await till.account(100)
    hold = await expired(till, account, 30, **LATE)
    first, second = await till.run(*(Settle(hold.hold_id, account, n, Usage(), "late") for n in (20, 25)))
    third = await till.settle(hold, 30)
    assert isinstance(first, Ended)
    assert isinstance(second, Ended)
    assert [(end.charged, end.changed) for end in (first, second, third)] == [(20, True), (20, False), (20, False)]
    assert (await till.balance(account)).posted == 80


async def test_a_late_charge_takes_what_there_is_and_no_more(till: Till) -> None:
    """What is held by others is not touched, nobody owes anything, and nothing more is taken when credits come in."""
    account = await till.account(100)
    hold = await expired(till, account, 30, **LATE)
    other = await till.hold(account, 90, lasts=timedelta(days=1))
    late = await till.settle(hold, 50)
    assert (late.charged, late.available) == (10, 0)
    await till.grant(account, 100)
    assert (await till.settle(hold, 50)).charged == 10
    assert (await till.settle(other)).charged == 90


async def test_a_late_charge_of_nothing_is_one_too(till: Till) -> None:
    """An account that had spent everything is not charged later instead."""
    account = await till.account(30)
    hold = await expired(till, account, 30, **LATE)
    await till.deduct(account, 30)
    assert (await till.settle(hold, 20)).charged == 0
    await till.grant(account, 100)
    late = await till.settle(hold, 20)
    assert (late.charged, late.changed) == (0, False)
    assert (await till.balance(account)).available == 100


async def test_a_late_charge_has_a_usage_event(till: Till) -> None:
    """What was measured late is listed like everything else that was used."""
    account = await till.account(100)
    hold = await expired(till, account, 30, **LATE)
    await till.settle(hold, 20, Usage({"seconds": "4"}, False, 200, 9))
    (event,) = await till.rows("SELECT id, quoted, charged, units FROM usage_events")
    assert tuple(event.values()) == (hold.hold_id, 30, 20, '{"seconds":"4"}')


async def test_a_late_charge_can_be_refunded(till: Till) -> None:
    """To the grant that it was taken from, which need not be the one that the hold had."""
    account = await till.account(30)
    hold = await expired(till, account, 30, **LATE)
    await till.deduct(account, 30)
    await till.grant(account, 50)
    await till.settle(hold, 20)
    assert await till.grants(account) == [(0, 0), (30, 0)]
    assert await till.refund(hold, 21) is Refused.ABOVE_SETTLED
    await till.refund(hold)
    assert await till.grants(account) == [(0, 0), (50, 0)]
    assert await till.refund(hold, 1) is Refused.ABOVE_SETTLED


async def test_what_was_not_charged_cannot_be_refunded(till: Till) -> None:
    """An expired hold without a late charge has nothing to give back."""
    hold = await expired(till, await till.account(100), 30, **LATE)
    assert await till.refund(hold) is Refused.NOT_SETTLED


async def test_late_quota_is_used_in_the_windows_of_its_reservation(till: Till) -> None:
    """Also after midnight, and only as far as they have room."""
    account = await till.account()
    hold = await till.hold(account, quota=6, fundings=QUOTA, terms=terms(10), **LATE)
    till.now += timedelta(hours=1)
    await till.expire(hold)
    await till.settled(account, 0, quota=7, fundings=QUOTA, terms=terms(10))
    till.now += timedelta(days=1)
    late = await till.settle(hold)
    assert (late.state, late.charged, late.available) == (HoldState.EXPIRED, 3, 0)
    assert await till.windows(account) == [("03-10", "daily", 10, 0)]
    await till.refund(hold)
    assert await till.windows(account) == [("03-10", "daily", 7, 0)]


async def test_a_released_hold_is_not_charged_late(till: Till) -> None:
    """A release is a decision, of the gate or of an operator, and not the silence of a process."""
    account = await till.account(100)
    hold = await till.hold(account, 30, **LATE)
    await till.release(hold)
    assert (await till.settle(hold)).state is HoldState.RELEASED
    assert (await till.balance(account)).posted == 100


async def test_a_hold_that_was_charged_its_quote_is_not_charged_again(till: Till) -> None:
    """The rule `quote` has settled it at its deadline; what is measured later changes nothing."""
    account = await till.account(100)
    hold = await till.hold(account, 30, on_deadline=OnDeadline.QUOTE, **LATE)
    till.now += timedelta(hours=1)
    await till.expire(hold)
    late = await till.settle(hold, 90)
    assert (late.state, late.charged, late.changed) == (HoldState.SETTLED, 30, False)


async def test_a_late_charge_and_a_request_compete_for_the_same_credits(till: Till) -> None:
    """In one batch, in their order: what the late charge has taken is not there for the request behind it."""
    account = await till.account(30)
    hold = await expired(till, account, 30, **LATE)
    late = Settle(hold.hold_id, account, 20, Usage(), "late")
    ended, refused = await till.run(late, reserving(till.hold_id(), account, 20))
    assert isinstance(ended, Ended)
    assert refused == LacksCredits(20, 10)

"""Holds on credits: taken whole or not at all, ended once, and what is not used goes back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy.exc import IntegrityError

from policies.holds import HoldState
from policies.terms import Funding, HoldId, OnDeadline
from store.verbs import Ended, Expire, Extend, Hold, LacksCredits, Refund, Refused, Release, Settle, Usage
from tests.store.till import NOON, Till, reserving

pytestmark = pytest.mark.asyncio(loop_scope="session")

QUOTE = OnDeadline.QUOTE


async def test_a_hold_sets_its_amount_aside(till: Till) -> None:
    """What is held is neither spent nor available."""
    account = await till.account(100)
    hold = await till.hold(account, 30)
    assert (hold.funding, hold.amount, hold.available) == (Funding.CREDITS, 30, 70)
    balance = await till.balance(account)
    assert (balance.posted, balance.pending, balance.available) == (100, 30, 70)


async def test_the_last_credit_can_be_held(till: Till) -> None:
    """A request for exactly what is there passes."""
    account = await till.account(100)
    assert (await till.hold(account, 100)).available == 0


async def test_one_micro_credit_too_little_is_refused(till: Till) -> None:
    """A refusal names what is required and what is there, and takes nothing."""
    account = await till.account(99)
    assert await till.reserve(account, 100) == LacksCredits(required=100, current=99)
    assert await till.grants(account) == [(99, 0)]


async def test_held_credits_cannot_be_held_again(till: Till) -> None:
    """Two requests cannot have the same credits."""
    account = await till.account(100)
    await till.hold(account, 60)
    assert await till.reserve(account, 60) == LacksCredits(required=60, current=40)


async def test_a_refused_large_request_lets_a_small_one_behind_it_pass(till: Till) -> None:
    """Within one batch each verb is decided for itself, in the order of arrival."""
    account = await till.account(100)
    outcomes = await till.run(*(reserving(index + 10, account, amount) for index, amount in enumerate((60, 50, 40, 1))))
    assert [isinstance(outcome, Hold) for outcome in outcomes] == [True, False, True, False]


async def test_a_free_call_needs_no_credits(till: Till) -> None:
    """A hold of nothing is a hold: it settles, and has its usage event."""
    account = await till.account()
    hold = await till.hold(account, 0)
    ended = await till.settle(hold)
    assert (ended.state, ended.charged) == (HoldState.SETTLED, 0)
    assert await till.entries(account) == []
    assert len(await till.rows("SELECT id FROM usage_events")) == 1


async def test_a_negative_quote_changes_nothing(till: Till) -> None:
    """The schema refuses what would add credits, as a fault and not as an answer."""
    account = await till.account(100)
    with pytest.raises(IntegrityError):
        await till.reserve(account, -5)
    assert await till.grants(account) == [(100, 0)]


async def test_a_decision_on_an_account_that_changed_since_is_stale(till: Till) -> None:
    """A hold is taken for the account as it was decided on, or not at all."""
    account = await till.account(100)
    await till.tamper("UPDATE accounts SET revision = 7")
    assert await till.reserve(account, 1, revision=6) is Refused.STALE
    assert await till.reserve(account, 1, revision=8) is Refused.STALE
    assert isinstance(await till.reserve(account, 1, revision=7), Hold)


async def test_an_account_that_does_not_exist_has_nothing(till: Till) -> None:
    """An unknown account is an answer, for every verb."""
    strange = till.hold_id(), 10**9
    verbs = [Settle(*strange, None, Usage(), ""), Release(*strange, ""), Expire(*strange), Refund(*strange, None, "")]
    assert await till.run(reserving(1, 10**9, 1), *verbs) == [Refused.UNKNOWN_ACCOUNT] * 5
    assert await till.rows("SELECT id FROM holds") == []


async def test_a_hold_that_does_not_exist_cannot_end(till: Till) -> None:
    """An unknown hold is an answer, for every verb."""
    account = await till.account(100)
    nothing = HoldId(10**9), account
    verbs = [Settle(*nothing, None, Usage(), ""), Release(*nothing, ""), Expire(*nothing), Refund(*nothing, None, "")]
    verbs.append(Extend(*nothing, timedelta(minutes=1)))
    assert await till.run(*verbs) == [Refused.UNKNOWN_HOLD] * 5


async def test_nobody_ends_the_hold_of_another_account(till: Till) -> None:
    """A hold's id alone opens nothing."""
    owner, other = await till.account(100), await till.account(100)
    hold = await till.hold(owner, 30)
    theirs = hold.hold_id, other
    verbs = [Settle(*theirs, None, Usage(), ""), Release(*theirs, ""), Expire(*theirs), Refund(*theirs, None, "")]
    assert await till.run(*verbs) == [Refused.UNKNOWN_HOLD] * 4
    assert (await till.settle(hold)).charged == 30


@pytest.mark.parametrize(("amount", "charged"), [(None, 30), (30, 30), (29, 29), (1, 1), (0, 0)])
async def test_settling_takes_the_true_amount_and_returns_the_rest(
    till: Till, amount: int | None, charged: int
) -> None:
    """Without a true amount the quote is taken."""
    account = await till.account(100)
    ended = await till.settle(await till.hold(account, 30), amount)
    assert ended == Ended(ended.hold_id, HoldState.SETTLED, Funding.CREDITS, charged, 100 - charged, changed=True)
    assert await till.grants(account) == [(100 - charged, 0)]


async def test_a_true_cost_above_the_hold_is_charged(till: Till) -> None:
    """The caller has had the service, so the overrun is taken from what is available."""
    account = await till.account(100)
    ended = await till.settle(await till.hold(account, 30), 45)
    assert (ended.charged, ended.available) == (45, 55)


async def test_an_overrun_stops_at_what_is_available(till: Till) -> None:
    """Nobody is brought below zero, and the holds of other requests are not touched."""
    account = await till.account(100)
    other, hold = await till.hold(account, 50), await till.hold(account, 30)
    ended = await till.settle(hold, 1_000)
    assert (ended.charged, ended.available) == (50, 0)
    assert (await till.settle(other)).charged == 50


async def test_an_overrun_takes_from_the_grants_in_their_order(till: Till) -> None:
    """What an overrun took is recorded part by part, like the hold itself, and refunded there."""
    account = await till.account(10, 10, 10)
    hold = await till.hold(account, 5)
    assert (await till.settle(hold, 22)).charged == 22
    assert await till.grants(account) == [(0, 0), (0, 0), (8, 0)]
    await till.refund(hold)
    assert await till.grants(account) == [(10, 0), (10, 0), (10, 0)]


async def test_a_hold_settles_once(till: Till) -> None:
    """Settling again, with whatever amount, returns the first outcome and charges nothing."""
    account = await till.account(100)
    hold = await till.hold(account, 30)
    first = await till.settle(hold, 20)
    second = await till.settle(hold, 30)
    assert (second.charged, second.changed) == (first.charged, False) == (20, False)
    assert (await till.balance(account)).posted == 80


async def test_a_hold_settles_once_within_a_batch(till: Till) -> None:
    """Two settlements that arrive together charge once."""
    account = await till.account(100)
    hold = await till.hold(account, 30)
    settle = Settle(hold.hold_id, account, None, Usage(), "done")
    first, second = await till.run(settle, settle)
    assert isinstance(first, Ended)
    assert isinstance(second, Ended)
    assert (first.changed, second.changed) == (True, False)


async def test_a_released_hold_is_not_settled(till: Till) -> None:
    """Who ends a hold first decides; the later one reads what was decided."""
    account = await till.account(100)
    hold = await till.hold(account, 30)
    assert (await till.release(hold)).state is HoldState.RELEASED
    late = await till.settle(hold)
    assert (late.state, late.charged, late.changed) == (HoldState.RELEASED, 0, False)
    assert await till.entries(account) == [("grant", 100, 100)]


async def test_a_settled_hold_is_not_released(till: Till) -> None:
    """A release that comes after the settlement gives nothing back."""
    account = await till.account(100)
    hold = await till.hold(account, 30)
    await till.settle(hold)
    late = await till.release(hold)
    assert (late.state, late.charged, late.changed) == (HoldState.SETTLED, 30, False)


async def test_a_hold_is_released_once(till: Till) -> None:
    """Releasing again gives nothing more."""
    account = await till.account(100)
    hold = await till.hold(account, 30)
    assert [(await till.release(hold)).changed for _ in range(3)] == [True, False, False]
    assert await till.grants(account) == [(100, 0)]


async def test_a_hold_can_be_taken_and_ended_in_one_batch(till: Till) -> None:
    """The order of arrival is the order of effect, also for rows that the batch itself makes."""
    account = await till.account(100)
    hold = HoldId(50), account
    outcomes = await till.run(
        reserving(50, account, 100),
        reserving(51, account, 100),
        Settle(*hold, 40, Usage(), "done"),
        reserving(52, account, 60),
        Refund(*hold, None, "sorry"),
        reserving(53, account, 40),
    )
    assert [isinstance(outcome, LacksCredits) for outcome in outcomes] == [False, True, False, False, False, False]


async def test_the_same_request_twice_in_a_batch_has_one_hold(till: Till) -> None:
    """A request id has at most one hold."""
    account = await till.account(100)
    first, second = await till.run(reserving(50, account, 30), reserving(50, account, 30))
    assert first == second
    assert (await till.balance(account)).pending == 30


async def test_a_request_id_is_never_used_again(till: Till) -> None:
    """In a later transaction the second hold of a request is a fault, and takes nothing."""
    account = await till.account(100)
    await till.run(reserving(50, account, 30))
    with pytest.raises(Exception, match=r"(?i)unique"):
        await till.run(reserving(50, account, 30))
    assert (await till.balance(account)).pending == 30


async def test_a_hold_does_not_expire_before_its_deadline(till: Till) -> None:
    """A sweeper that comes early changes nothing."""
    account = await till.account(100)
    hold = await till.hold(account, 30, lasts=timedelta(seconds=1))
    assert await till.expire(hold) is Refused.NOT_DUE
    assert (await till.balance(account)).pending == 30


async def test_a_hold_expires_at_its_deadline(till: Till) -> None:
    """The rule `release` gives everything back."""
    account = await till.account(100)
    hold = await till.hold(account, 30)
    till.now = NOON + timedelta(minutes=10)
    ended = await till.expire(hold)
    assert (ended.state, ended.charged, ended.available) == (HoldState.EXPIRED, 0, 100)


async def test_the_rule_quote_charges_the_quote_at_the_deadline(till: Till) -> None:
    """It is marked as estimated, since nobody has measured it."""
    account = await till.account(100)
    hold = await till.hold(account, 30, on_deadline=QUOTE)
    till.now = NOON + timedelta(minutes=10)
    ended = await till.expire(hold)
    assert (ended.state, ended.charged, ended.changed) == (HoldState.SETTLED, 30, True)
    (event,) = await till.rows("SELECT charged, estimated FROM usage_events")
    assert (event["charged"], bool(event["estimated"])) == (30, True)


@pytest.mark.parametrize("rule", list(OnDeadline))
async def test_two_sweepers_expire_a_hold_once(till: Till, rule: OnDeadline) -> None:
    """The second finds the outcome of the first, in the same batch and in a later one."""
    account = await till.account(100)
    hold = await till.hold(account, 30, on_deadline=rule)
    till.now = NOON + timedelta(hours=1)
    expire = Expire(hold.hold_id, account)
    first, second = await till.run(expire, expire)
    third = await till.expire(hold)
    assert [outcome.changed for outcome in (first, second, third)] == [True, False, False]  # type: ignore[union-attr]
    assert (await till.balance(account)).posted == (70 if rule is QUOTE else 100)


async def test_a_settlement_after_the_deadline_and_before_the_sweeper_counts(till: Till) -> None:
    """A deadline alone ends nothing: whoever comes first does."""
    account = await till.account(100)
    hold = await till.hold(account, 30)
    till.now = NOON + timedelta(hours=1)
    assert (await till.settle(hold, 20)).charged == 20
    assert (await till.expire(hold)).state is HoldState.SETTLED


async def test_a_settlement_after_the_sweeper_does_not_bring_the_hold_back(till: Till) -> None:
    """What expired stays expired."""
    account = await till.account(100)
    hold = await till.hold(account, 30)
    till.now = NOON + timedelta(hours=1)
    await till.expire(hold)
    late = await till.settle(hold, 30)
    assert (late.state, late.charged, late.changed) == (HoldState.EXPIRED, 0, False)


async def test_a_sign_of_life_gives_a_hold_time(till: Till) -> None:
    """From the moment of the sign, and it changes nothing else."""
    account = await till.account(100)
    hold = await till.hold(account, 30, lasts=timedelta(minutes=10))
    till.now = NOON + timedelta(minutes=9)
    assert await till.extend(hold, timedelta(minutes=10)) == hold
    till.now = NOON + timedelta(minutes=18)
    assert await till.expire(hold) is Refused.NOT_DUE
    till.now = NOON + timedelta(minutes=19)
    assert (await till.expire(hold)).state is HoldState.EXPIRED


async def test_a_sign_of_life_takes_no_time_away(till: Till) -> None:
    """Neither a shorter one, nor one by a clock that was set back."""
    account = await till.account(100)
    hold = await till.hold(account, 30, lasts=timedelta(minutes=10))
    await till.extend(hold, timedelta(minutes=1))
    till.now = NOON - timedelta(days=1)
    await till.extend(hold, timedelta(minutes=10))
    till.now = NOON + timedelta(minutes=9)
    assert await till.expire(hold) is Refused.NOT_DUE


async def test_a_sign_of_life_before_the_sweeper_saves_an_overdue_hold(till: Till) -> None:
    """A deadline alone ends nothing."""
    account = await till.account(100)
    hold = await till.hold(account, 30)
    till.now = NOON + timedelta(hours=1)
    assert await till.extend(hold) == hold
    assert await till.expire(hold) is Refused.NOT_DUE


@pytest.mark.parametrize("end", ["settle", "release", "expire"])
async def test_a_sign_of_life_brings_no_hold_back(till: Till, end: str) -> None:
    """Whoever sends it learns that the hold is over."""
    account = await till.account(100)
    hold = await till.hold(account, 30)
    till.now = NOON + timedelta(hours=1)
    await getattr(till, end)(hold)
    assert await till.extend(hold) is Refused.NOT_OPEN
    assert await till.rows("SELECT id FROM holds WHERE state = 'reserved'") == []


async def test_a_usage_event_tells_the_whole_exchange(till: Till) -> None:
    """Who, what, by which route, at which price, how it went, and when."""
    account = await till.account(100)
    hold = await till.hold(account, 30)
    await till.settle(hold, 20, Usage({"seconds": "4"}, False, 200, 1234))
    (event,) = await till.rows("SELECT * FROM usage_events")
    assert (event["id"], event["account_id"], event["user_id"]) == (hold.hold_id, account, "user")
    assert (event["model_key"], event["action"], event["route_id"]) == ("app:model", "generate", "route")
    assert (event["funding"], event["quoted"], event["charged"]) == ("credits", 30, 20)
    assert (event["units"], event["upstream_status"], event["latency_ms"]) == ('{"seconds":"4"}', 200, 1234)


async def test_entries_tell_the_story_of_a_balance(till: Till) -> None:
    """One entry for each change of the balance, with the balance after it; holds and releases change none."""
    account = await till.account(100)
    await till.release(await till.hold(account, 50))
    hold = await till.settled(account, 30)
    await till.refund(hold, 10)
    await till.deduct(account, 5)
    assert await till.entries(account) == [
        ("grant", 100, 100),
        ("usage", -30, 70),
        ("refund", 10, 80),
        ("adjust", -5, 75),
    ]

"""What time does to a subscription is the same whenever and however often it is asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.proration import quote_change
from policies.subscription import MOVES, Event, Status, Subscription, elapsed, resolve, start
from policies.subscription_acts import cancel, change_plan, pay
from policies.terms import AccountId, Cycle, Plan, Tier

NOW = datetime(2025, 1, 31, 10, 0, tzinfo=UTC)
TIERS = (Tier("free"), Tier("basic"), Tier("pro"))


def _plan(number: int, tier: str, price: int, cycle: Cycle = Cycle.MONTHLY) -> Plan:
    return Plan(
        version_id=number,
        plan_id=f"plan-{number}",
        version=1,
        tier=Tier(tier),
        name=f"Plan {number}",
        description="",
        price=price,
        currency="IDR",
        cycle=cycle,
        daily_quota=10 * number,
        monthly_quota=None,
        max_model_tier=Tier(tier),
        features={},
        active=True,
        order=number,
        created_at=NOW,
    )


FREE, BASIC, PRO = _plan(1, "free", 0), _plan(2, "basic", 99_000), _plan(3, "pro", 299_000)
PRO_YEARLY = _plan(4, "pro", 2_870_000, Cycle.YEARLY)
PLANS = (FREE, BASIC, PRO, PRO_YEARLY)


def _active(plan: Plan) -> Subscription:
    row = start(1, AccountId(1), plan, NOW, None)
    return row if plan.is_free else pay(row, NOW)[0]


@st.composite
def rows(draw: st.DrawFn) -> Subscription:
    """Subscriptions in every state that people can bring them into."""
    plan = draw(st.sampled_from(PLANS))
    if not plan.is_free and draw(st.booleans()):
        return start(1, AccountId(1), plan, NOW, None)
    row = _active(plan)
    if draw(st.booleans()):
        row = cancel(row, NOW, False, None)[0]
    other = draw(st.sampled_from([other for other in PLANS if other is not plan]))
    if draw(st.booleans()):
        row = change_plan(row, quote_change(row, other, TIERS, NOW), NOW)[0]
    return row


moments = st.integers(0, 800 * 24).map(lambda hours: NOW + timedelta(hours=hours))


@given(rows(), moments, moments)
def test_storing_in_between_changes_nothing(row: Subscription, one: datetime, other: datetime) -> None:
    """The row resolved at some moment and then at a later one is the row resolved at the later one."""
    earlier, later = sorted((one, other))
    between, first = resolve(row, earlier)
    after, second = resolve(between, later)
    assert (after, first + second) == resolve(row, later)


@given(rows(), moments)
def test_every_step_is_a_move_of_the_table_at_a_moment_of_the_row(row: Subscription, now: datetime) -> None:
    """Steps follow each other in time, none lies ahead, and each leads where the table says."""
    status, last = row.status, row.created_at
    for step in elapsed(row, now):
        assert MOVES[status, step.event] is step.row.status
        assert last <= step.at <= now
        status, last = step.row.status, step.at


def test_an_unpaid_renewal_and_its_lapse_have_their_own_moments() -> None:
    """Past due from the end of the period, lapsed when the grace time is over, also if asked a year later."""
    row = _active(BASIC)
    steps = elapsed(row, NOW + timedelta(days=365))
    assert [(step.event, step.at, step.row.status) for step in steps] == [
        (Event.RENEWAL_UNPAID, row.period_end, Status.PAST_DUE),
        (Event.LAPSED, row.grace_until, Status.EXPIRED),
    ]


@pytest.mark.parametrize("other", [PRO_YEARLY, BASIC], ids=["upgrade", "downgrade"])
def test_who_changes_the_plan_after_canceling_stays(other: Plan) -> None:
    """What was paid for, or chosen for the next period, is not cut off by an earlier cancellation."""
    row = cancel(_active(PRO), NOW, False, "too dear")[0]
    change = quote_change(row, other, TIERS, NOW)
    row = change_plan(row, change, NOW)[0]
    if change.amount_due:
        row = pay(row, NOW)[0]
    assert (row.cancel_at, row.canceled_at, row.cancel_reason) == (None, None, None)
    after = resolve(row, NOW + timedelta(days=29))[0]
    assert (after.entitled, after.plan) == (True, other)


def test_an_upgrade_that_is_not_paid_does_not_withdraw_a_cancellation() -> None:
    """Asking what another plan would be like is no reason to go on being charged."""
    row = cancel(_active(PRO), NOW, False, None)[0]
    row = change_plan(row, quote_change(row, PRO_YEARLY, TIERS, NOW), NOW)[0]
    after = resolve(row, row.period_end)[0]
    assert (after.status, after.ended_at) == (Status.CANCELED, row.period_end)
    assert replace(after, amount_due=0, pending_plan=None) == after

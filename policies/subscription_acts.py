"""What people do to a subscription: pay, cancel, resume, change the plan. Pure functions of (row, now).

Each takes a row that was resolved at `now` and returns the row after it with the event to write down, or raises
NotPossible. They are applied by `store.subscriptions`, inside the transaction that stores the result.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from enum import StrEnum

from policies.proration import Direction, PlanChange, keeps_period, require_one_currency, unused
from policies.subscription import (
    CHECKOUT_TIME,
    MOVES,
    Event,
    NotPossible,
    Status,
    Subscription,
    add_cycles,
    next_period_end,
    without_pending,
)
from policies.terms import Plan


class Purpose(StrEnum):
    """What a payment is for."""

    START = "start"
    RENEW = "renew"
    UPGRADE = "upgrade"


def purpose_of(row: Subscription) -> Purpose:
    """What a payment of the amount that is due would be for."""
    if row.pending_plan is not None:
        return Purpose.UPGRADE
    return Purpose.RENEW if row.status is Status.PAST_DUE else Purpose.START


def pay(row: Subscription, now: datetime) -> tuple[Subscription, Event]:
    """A confirmed payment of `amount_due`: starts, renews or upgrades, whichever is waiting for it.

    What was left to pay has used the whole credit up.
    """
    if (row.status, Event.PAID) not in MOVES or row.amount_due == 0:
        raise NotPossible(f"Nothing is due on a subscription that is {row.status}")
    if row.pending_plan is not None:
        return _take_plan(row, row.pending_plan, now, carried=0), Event.PAID
    if row.status is Status.PAST_DUE:
        row = replace(row, period_start=row.period_end, period_end=next_period_end(row))
    else:
        # Who pays during the trial keeps the rest of it.
        row = _begin_period(row, row.trial_end or now)
        # During the trial the plan has counted already.
        row = row if row.trial_end else replace(row, plan_since=now)
    return replace(row, status=MOVES[row.status, Event.PAID], amount_due=0, carried=0), Event.PAID


def cancel(
    row: Subscription, now: datetime, immediately: bool, reason: str | None, *, refund: bool = False
) -> tuple[Subscription, Event]:
    """Ends at the period end, or now. A subscription that is not entitled or in its grace time ends now.

    With `refund`, what is unused when it ends now, and the credit, are quoted to be paid back; otherwise the unused
    time is given up, and the credit waits for the next subscription.
    """
    if not row.current:
        raise NotPossible(f"The subscription is {row.status} already")
    rest = unused(row, now)
    row = replace(without_pending(row), canceled_at=now, cancel_reason=reason, scheduled_plan=None)
    if (row.status, Event.CANCEL_REQUESTED) in MOVES and not immediately:
        return replace(row, cancel_at=row.period_end), Event.CANCEL_REQUESTED
    if refund:
        row = replace(row, refund_quoted=rest + row.carried, carried=0)
    return replace(row, status=MOVES[row.status, Event.CANCELED], cancel_at=now, ended_at=now), Event.CANCELED


def resume(row: Subscription) -> tuple[Subscription, Event]:
    """Takes back a cancellation for the period end. What was planned before it stays withdrawn."""
    if (row.status, Event.RESUMED) not in MOVES or row.cancel_at is None:
        raise NotPossible(f"There is no cancellation to take back on a subscription that is {row.status}")
    row = _uncanceled(row)
    due = row.next_amount if row.status is Status.TRIALING else row.amount_due
    return replace(row, status=MOVES[row.status, Event.RESUMED], amount_due=due), Event.RESUMED


def change_plan(row: Subscription, change: PlanChange, now: datetime) -> tuple[Subscription, Event]:
    """Schedules a downgrade, or records an upgrade that waits for its payment (none due: it applies at once).

    Who takes another plan wants to go on: a cancellation for the period end is withdrawn as soon as the change counts.
    """
    if change.direction is Direction.STAY:
        event = Event.RESUMED if row.cancel_at is not None else Event.PLAN_CHANGE_WITHDRAWN
        return replace(_uncanceled(without_pending(row)), scheduled_plan=None), event
    if change.direction is Direction.DOWNGRADE:
        row = replace(_uncanceled(without_pending(row)), scheduled_plan=change.plan)
        return row, Event.PLAN_CHANGE_REQUESTED
    if change.amount_due == 0:
        return _take_plan(row, change.plan, now, change.carried), Event.PLAN_CHANGED
    until = now + CHECKOUT_TIME
    # From a free plan nothing counts on the period; otherwise the price is that of what is left of it.
    until = until if row.plan.is_free else min(until, row.period_end)
    row = replace(row, pending_plan=change.plan, pending_until=until, amount_due=change.amount_due)
    return row, Event.PLAN_CHANGE_REQUESTED


def migrate(row: Subscription, newest: Plan) -> tuple[Subscription, Event]:
    """Schedules the `newest` version of the subscriber's plan, which keeps its own version otherwise."""
    if row.status is not Status.ACTIVE or row.cancel_at is not None:
        ending = "about to end" if row.status is Status.ACTIVE else row.status
        raise NotPossible(f"The version of the plan cannot be changed while the subscription is {ending}")
    if newest.version_id == row.plan.version_id:
        raise NotPossible(f"The subscription is on the newest version of {newest.name} already")
    if row.scheduled_plan is not None and row.scheduled_plan.plan_id != newest.plan_id:
        raise NotPossible(f"The subscriber has chosen to change to {row.scheduled_plan.name}")
    require_one_currency(row, newest)
    return replace(row, scheduled_plan=newest), Event.PLAN_CHANGE_REQUESTED


def _take_plan(row: Subscription, plan: Plan, now: datetime, carried: int) -> Subscription:
    """The plan from now on, in the paid period or in a new one, which does not begin before a trial has ended."""
    keeps = keeps_period(row, plan)
    row = replace(_uncanceled(without_pending(row)), plan=plan, plan_since=now, scheduled_plan=None, carried=carried)
    return row if keeps else _begin_period(row, max(now, row.period_start))


def _begin_period(row: Subscription, begin: datetime) -> Subscription:
    return replace(row, anchor=begin, period_start=begin, period_end=add_cycles(begin, row.plan.cycle, 1))


def _uncanceled(row: Subscription) -> Subscription:
    return replace(row, cancel_at=None, canceled_at=None, cancel_reason=None)

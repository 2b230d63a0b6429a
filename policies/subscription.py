"""The life of a subscription, as a table and pure functions of (row, now).

    incomplete ──▶ active ──▶ past_due ──▶ expired
         │            │           │
         └────────────┴───────────┴──────▶ canceled

The stored row may lag behind: `resolve(row, now)` says what it is at this moment, on every request, so that nobody
keeps access because a job was late and nobody loses it early. The hourly job only stores what `resolve` says.

Period ends are anchor + n intervals, counted from the original anchor and clamped to the last day of the month:
Jan 31, Feb 28, Mar 31. A free plan renews itself; a paid one needs a confirmed payment for every period.
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from policies.terms import AccountId, Cycle, Plan, Tier

CHECKOUT_TIME = timedelta(hours=24)
"""An unpaid subscription is given up after this; long enough for a bank transfer, short enough to try again."""

GRACE_DEFAULT = timedelta(days=7)
"""How long a subscription whose renewal is unpaid stays entitled."""


class Status(StrEnum):
    INCOMPLETE = "incomplete"
    ACTIVE = "active"
    PAST_DUE = "past_due"
    CANCELED = "canceled"
    EXPIRED = "expired"


class Event(StrEnum):
    """What can happen to a subscription."""

    SUBSCRIBED = "subscribed"
    PAID = "paid"
    RENEWED = "renewed"
    RENEWAL_UNPAID = "renewal_unpaid"
    LAPSED = "lapsed"
    CANCEL_REQUESTED = "cancel_requested"
    CANCELED = "canceled"
    PLAN_CHANGE_REQUESTED = "plan_change_requested"
    PLAN_CHANGED = "plan_changed"


MOVES: dict[tuple[Status, Event], Status] = {
    (Status.INCOMPLETE, Event.PAID): Status.ACTIVE,
    (Status.INCOMPLETE, Event.LAPSED): Status.EXPIRED,
    (Status.INCOMPLETE, Event.CANCELED): Status.CANCELED,
    (Status.ACTIVE, Event.RENEWED): Status.ACTIVE,
    (Status.ACTIVE, Event.RENEWAL_UNPAID): Status.PAST_DUE,
    (Status.ACTIVE, Event.CANCEL_REQUESTED): Status.ACTIVE,
    (Status.ACTIVE, Event.CANCELED): Status.CANCELED,
    (Status.ACTIVE, Event.PLAN_CHANGE_REQUESTED): Status.ACTIVE,
    (Status.ACTIVE, Event.PLAN_CHANGED): Status.ACTIVE,
    (Status.PAST_DUE, Event.PAID): Status.ACTIVE,
    (Status.PAST_DUE, Event.LAPSED): Status.EXPIRED,
    (Status.PAST_DUE, Event.CANCELED): Status.CANCELED,
}
"""Every move there is. What is not in the table is refused, by the store as well."""

CURRENT = frozenset({Status.INCOMPLETE, Status.ACTIVE, Status.PAST_DUE})
"""An account has at most one subscription in one of these."""

ENTITLED = frozenset({Status.ACTIVE, Status.PAST_DUE})
"""These give the plan's tier and quota. `incomplete` gives nothing: nobody rides before paying."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """One lifetime of a subscription: resubscribing makes a new one that names its predecessor.

    `pending_plan` waits for a payment of `amount_due` minor units; `scheduled_plan` takes over at `period_end`.
    """

    subscription_id: int
    account_id: AccountId
    plan: Plan
    status: Status
    created_at: datetime
    anchor: datetime
    period_start: datetime
    period_end: datetime
    amount_due: int = 0
    cancel_at: datetime | None = None
    cancel_reason: str | None = None
    canceled_at: datetime | None = None
    scheduled_plan: Plan | None = None
    pending_plan: Plan | None = None
    grace: timedelta = GRACE_DEFAULT
    previous_id: int | None = None
    ended_at: datetime | None = None

    @property
    def current(self) -> bool:
        return self.status in CURRENT

    @property
    def entitled(self) -> bool:
        return self.status in ENTITLED

    @property
    def grace_until(self) -> datetime:
        return self.period_end + self.grace


class NotPossible(Exception):
    """A transition that the table does not have; the message tells the account holder why."""


def add_cycles(anchor: datetime, cycle: Cycle, count: int) -> datetime:
    """`anchor` plus `count` cycles, clamped to the month's last day (RFC 5545 leaves this open; billing clamps)."""
    months = anchor.month - 1 + count * (12 if cycle is Cycle.YEARLY else 1)
    year, month = anchor.year + months // 12, months % 12 + 1
    return anchor.replace(year=year, month=month, day=min(anchor.day, calendar.monthrange(year, month)[1]))


def next_period_end(row: Subscription) -> datetime:
    """The end of the period after the current one, counted from the anchor."""
    months = (row.period_end.year - row.anchor.year) * 12 + row.period_end.month - row.anchor.month
    return add_cycles(row.anchor, row.plan.cycle, months // (12 if row.plan.cycle is Cycle.YEARLY else 1) + 1)


def start(
    subscription_id: int, account_id: AccountId, plan: Plan, now: datetime, previous_id: int | None
) -> Subscription:
    """A new subscription: active at once when the plan is free, else waiting for its first payment."""
    end = add_cycles(now, plan.cycle, 1)
    return Subscription(
        subscription_id=subscription_id,
        account_id=account_id,
        plan=plan,
        status=Status.ACTIVE if plan.is_free else Status.INCOMPLETE,
        created_at=now,
        anchor=now,
        period_start=now,
        period_end=end,
        amount_due=plan.price,
        previous_id=previous_id,
    )


@dataclass(frozen=True, slots=True)
class Step:
    """One event that time alone has caused: the row after it, and the moment it happened, which is the row's own."""

    event: Event
    at: datetime
    row: Subscription


def elapsed(row: Subscription, now: datetime) -> list[Step]:
    """Everything that time has done to the row until `now`, in order; the same however late it is asked."""
    steps: list[Step] = []
    while (due := _due(row, now)) is not None:
        event, at = due
        row = _elapse(row, event, at)
        steps.append(Step(event, at, row))
    return steps


def resolve(row: Subscription, now: datetime) -> tuple[Subscription, list[Event]]:
    """The row as it is at `now`, and the events that time alone has caused since it was stored."""
    steps = elapsed(row, now)
    return (steps[-1].row if steps else row), [step.event for step in steps]


def _due(row: Subscription, now: datetime) -> tuple[Event, datetime] | None:
    """What time has brought about next, and when, if anything."""
    if row.status is Status.INCOMPLETE and now >= row.created_at + CHECKOUT_TIME:
        return Event.LAPSED, row.created_at + CHECKOUT_TIME
    if row.status is Status.ACTIVE and row.cancel_at is not None and now >= row.cancel_at:
        return Event.CANCELED, row.cancel_at
    if row.status is Status.ACTIVE and now >= row.period_end:
        free = (row.scheduled_plan or row.plan).is_free
        return (Event.RENEWED if free else Event.RENEWAL_UNPAID), row.period_end
    if row.status is Status.PAST_DUE and now >= row.grace_until:
        return Event.LAPSED, row.grace_until
    return None


def _elapse(row: Subscription, event: Event, at: datetime) -> Subscription:
    """The row after an event of time."""
    status = MOVES[row.status, event]
    if event in (Event.LAPSED, Event.CANCELED):
        return replace(row, status=status, ended_at=at, pending_plan=None, amount_due=0)
    row = _take_scheduled_plan(row)
    if event is Event.RENEWAL_UNPAID:
        return replace(row, status=status, pending_plan=None, amount_due=row.plan.price)
    return replace(row, status=status, period_start=row.period_end, period_end=next_period_end(row))


def _take_scheduled_plan(row: Subscription) -> Subscription:
    """The plan scheduled for the period end becomes the plan; another cycle counts from here.

    An upgrade that waits for its payment is given up: its price counted on what was left of the plan that ends.
    """
    if row.scheduled_plan is None:
        return row
    anchor = row.anchor if row.scheduled_plan.cycle is row.plan.cycle else row.period_end
    return replace(row, plan=row.scheduled_plan, scheduled_plan=None, pending_plan=None, amount_due=0, anchor=anchor)


def pay(row: Subscription, now: datetime) -> tuple[Subscription, Event]:
    """A confirmed payment of `amount_due`: starts, renews or upgrades, whichever is waiting for it."""
    if row.pending_plan is not None:
        return _take_pending_plan(row, row.pending_plan, now), Event.PLAN_CHANGED
    if (row.status, Event.PAID) not in MOVES or row.amount_due == 0:
        raise NotPossible(f"Nothing is due on a subscription that is {row.status}")
    if row.status is Status.INCOMPLETE:
        end = add_cycles(now, row.plan.cycle, 1)
        row = replace(row, anchor=now, period_start=now, period_end=end)
    else:
        row = replace(row, period_start=row.period_end, period_end=next_period_end(row))
    return replace(row, status=MOVES[row.status, Event.PAID], amount_due=0), Event.PAID


def _take_pending_plan(row: Subscription, plan: Plan, now: datetime) -> Subscription:
    row = replace(_uncanceled(row), pending_plan=None, scheduled_plan=None, amount_due=0)
    if plan.cycle is row.plan.cycle and not row.plan.is_free:
        return replace(row, plan=plan)
    return replace(row, plan=plan, anchor=now, period_start=now, period_end=add_cycles(now, plan.cycle, 1))


def cancel(row: Subscription, now: datetime, immediately: bool, reason: str | None) -> tuple[Subscription, Event]:
    """Ends at the period end, or now. A subscription that is not entitled or in its grace time ends now."""
    if not row.current:
        raise NotPossible(f"The subscription is {row.status} already")
    row = replace(row, canceled_at=now, cancel_reason=reason, scheduled_plan=None, pending_plan=None)
    if row.status is Status.ACTIVE and not immediately:
        return replace(row, cancel_at=row.period_end, amount_due=0), Event.CANCEL_REQUESTED
    status = MOVES[row.status, Event.CANCELED]
    return replace(row, status=status, cancel_at=now, ended_at=now, amount_due=0), Event.CANCELED


@dataclass(frozen=True, slots=True)
class PlanChange:
    """What changing to `plan` would do: `applies_at` None means now, after `amount_due` is paid."""

    plan: Plan
    upgrade: bool
    applies_at: datetime | None
    amount_due: int


def quote_change(row: Subscription, plan: Plan, tiers: Sequence[Tier], now: datetime) -> PlanChange:
    """Upgrades apply now and cost the difference for the rest of the period; downgrades wait for its end.

    Choosing the present plan again withdraws a change or a cancellation that has not happened yet.
    """
    if row.status is not Status.ACTIVE:
        raise NotPossible(f"The plan cannot be changed while the subscription is {row.status}")
    if plan.version_id == row.plan.version_id:
        if row.scheduled_plan is None and row.pending_plan is None and row.cancel_at is None:
            raise NotPossible(f"The subscription is on {plan.name} already")
        return PlanChange(plan, upgrade=False, applies_at=row.period_end, amount_due=0)
    worth_new, worth_old = _worth(plan, tiers), _worth(row.plan, tiers)
    if worth_new < worth_old:
        return PlanChange(plan, upgrade=False, applies_at=row.period_end, amount_due=0)
    return PlanChange(plan, upgrade=True, applies_at=None, amount_due=_difference(row, plan, now))


def _worth(plan: Plan, tiers: Sequence[Tier]) -> tuple[int, int, int]:
    """What a plan gives, in the order in which plans are compared: tier, quota, length of the cycle.

    The tier of a plan no longer on sale may have left the ladder; anything on it is an upgrade then.
    """
    rank = tiers.index(plan.tier) if plan.tier in tiers else -1
    return rank, plan.daily_quota, 1 if plan.cycle is Cycle.YEARLY else 0


def _difference(row: Subscription, plan: Plan, now: datetime) -> int:
    """Minor units due for an upgrade now: the new plan for the time it gives, less the unused part of the old one."""
    period = (row.period_end - row.period_start) // timedelta(seconds=1)
    left = min(max(row.period_end - now, timedelta(0)) // timedelta(seconds=1), period)
    same_period = plan.cycle is row.plan.cycle and not row.plan.is_free
    gained = plan.price * (left if same_period else period)
    # In units times seconds up to here, so that there is one rounding: up, as everywhere.
    return max(-(-(gained - row.plan.price * left) // period), 0)


def change_plan(row: Subscription, change: PlanChange, now: datetime) -> tuple[Subscription, Event]:
    """Schedules a downgrade, or records an upgrade that waits for its payment (none due: it applies at once).

    Who takes another plan wants to go on: a cancellation for the period end is withdrawn as soon as the change counts.
    """
    if not change.upgrade:
        scheduled = change.plan if change.plan.version_id != row.plan.version_id else None
        row = replace(_uncanceled(row), scheduled_plan=scheduled, pending_plan=None, amount_due=0)
        return row, Event.PLAN_CHANGE_REQUESTED
    if change.amount_due == 0:
        return _take_pending_plan(row, change.plan, now), Event.PLAN_CHANGED
    return replace(row, pending_plan=change.plan, amount_due=change.amount_due), Event.PLAN_CHANGE_REQUESTED


def _uncanceled(row: Subscription) -> Subscription:
    return replace(row, cancel_at=None, canceled_at=None, cancel_reason=None)

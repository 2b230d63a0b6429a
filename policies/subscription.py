"""The life of a subscription, as a table and pure functions of (row, now).

    incomplete ──┬──▶ active ──▶ past_due ──▶ expired      what is not paid in time expires, from all but active
    trialing   ──┘       │           │
        └────────────────┴───────────┴──────▶ canceled

The stored row may lag behind: `resolve(row, now)` says what it is at this moment, on every request, so that nobody
keeps access because a job was late and nobody loses it early. The hourly job only stores what `resolve` says.

Period ends are anchor + n intervals, counted from the original anchor and clamped to the last day of the month:
Jan 31, Feb 28, Mar 31. A free plan renews itself; a paid one needs a confirmed payment for every period, or a credit
that covers it. What people do to a subscription is in `policies.subscription_acts`, what a change of plan costs in
`policies.proration`.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from policies.terms import AccountId, Cycle, Plan

CHECKOUT_TIME = timedelta(hours=24)
"""What waits for its payment, a start or an upgrade, is given up after this: long enough for a bank transfer, short
enough to try again, and no price that counted on the time left in a period is kept for longer."""

GRACE_DEFAULT = timedelta(days=7)
"""How long a subscription whose renewal is unpaid stays entitled."""


class Status(StrEnum):
    INCOMPLETE = "incomplete"
    TRIALING = "trialing"
    ACTIVE = "active"
    PAST_DUE = "past_due"
    CANCELED = "canceled"
    EXPIRED = "expired"


class Event(StrEnum):
    """What can happen to a subscription. PAID, and nothing else, is the booking of a payment."""

    SUBSCRIBED = "subscribed"
    PAID = "paid"
    RENEWED = "renewed"
    RENEWAL_UNPAID = "renewal_unpaid"
    LAPSED = "lapsed"
    CANCEL_REQUESTED = "cancel_requested"
    RESUMED = "resumed"
    CANCELED = "canceled"
    PLAN_CHANGE_REQUESTED = "plan_change_requested"
    PLAN_CHANGE_WITHDRAWN = "plan_change_withdrawn"
    PLAN_CHANGE_LAPSED = "plan_change_lapsed"
    PLAN_CHANGED = "plan_changed"


BEGINNINGS = frozenset({Status.INCOMPLETE, Status.TRIALING, Status.ACTIVE})
"""In one of these a subscription begins, with the event SUBSCRIBED."""

MOVES: dict[tuple[Status, Event], Status] = {
    (Status.INCOMPLETE, Event.PAID): Status.ACTIVE,
    (Status.INCOMPLETE, Event.LAPSED): Status.EXPIRED,
    (Status.INCOMPLETE, Event.CANCELED): Status.CANCELED,
    (Status.TRIALING, Event.PAID): Status.ACTIVE,
    (Status.TRIALING, Event.LAPSED): Status.EXPIRED,
    (Status.TRIALING, Event.CANCEL_REQUESTED): Status.TRIALING,
    (Status.TRIALING, Event.RESUMED): Status.TRIALING,
    (Status.TRIALING, Event.CANCELED): Status.CANCELED,
    (Status.ACTIVE, Event.PAID): Status.ACTIVE,
    (Status.ACTIVE, Event.RENEWED): Status.ACTIVE,
    (Status.ACTIVE, Event.RENEWAL_UNPAID): Status.PAST_DUE,
    (Status.ACTIVE, Event.CANCEL_REQUESTED): Status.ACTIVE,
    (Status.ACTIVE, Event.RESUMED): Status.ACTIVE,
    (Status.ACTIVE, Event.CANCELED): Status.CANCELED,
    (Status.ACTIVE, Event.PLAN_CHANGE_REQUESTED): Status.ACTIVE,
    (Status.ACTIVE, Event.PLAN_CHANGE_WITHDRAWN): Status.ACTIVE,
    (Status.ACTIVE, Event.PLAN_CHANGE_LAPSED): Status.ACTIVE,
    (Status.ACTIVE, Event.PLAN_CHANGED): Status.ACTIVE,
    (Status.PAST_DUE, Event.PAID): Status.ACTIVE,
    (Status.PAST_DUE, Event.LAPSED): Status.EXPIRED,
    (Status.PAST_DUE, Event.CANCELED): Status.CANCELED,
}
"""Every move there is. What is not in the table is refused, by the store as well."""

CURRENT = frozenset({Status.INCOMPLETE, Status.TRIALING, Status.ACTIVE, Status.PAST_DUE})
"""An account has at most one subscription in one of these."""

ENTITLED = frozenset({Status.TRIALING, Status.ACTIVE, Status.PAST_DUE})
"""These give the plan's tier and quota. `incomplete` gives nothing: nobody rides before paying."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """One lifetime of a subscription: resubscribing makes a new one that names its predecessor.

    Amounts are minor units of the plan's currency. `pending_plan` waits for a payment of `amount_due` until
    `pending_until`; `scheduled_plan` takes over at `period_end`. `carried` is a credit: what was paid and not used up,
    which the next amounts due are reduced by. `refund_quoted` is what was to be paid back when the subscription ended.
    The trial of a subscription that has one is its first period; once it is paid, the paid period starts at
    `trial_end`, which may be ahead. `plan_since` is when `plan` began to count; None when it has from the beginning.
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
    carried: int = 0
    trial_end: datetime | None = None
    cancel_at: datetime | None = None
    cancel_reason: str | None = None
    canceled_at: datetime | None = None
    scheduled_plan: Plan | None = None
    pending_plan: Plan | None = None
    pending_until: datetime | None = None
    grace: timedelta = GRACE_DEFAULT
    previous_id: int | None = None
    ended_at: datetime | None = None
    refund_quoted: int = 0
    plan_since: datetime | None = None

    @property
    def current(self) -> bool:
        return self.status in CURRENT

    @property
    def entitled(self) -> bool:
        return self.status in ENTITLED

    @property
    def grace_until(self) -> datetime:
        return self.period_end + self.grace

    @property
    def next_amount(self) -> int:
        """What the next period will cost, after the credit."""
        return max((self.scheduled_plan or self.plan).price - self.carried, 0)


class NotPossible(Exception):
    """What the state does not allow; the message tells the account holder why, `fields` tell their program."""

    def __init__(self, message: str, **fields: object) -> None:
        super().__init__(message)
        self.fields = fields


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
    subscription_id: int,
    account_id: AccountId,
    plan: Plan,
    now: datetime,
    previous: Subscription | None,
    *,
    trial: bool = False,
) -> Subscription:
    """A new subscription: active at once when nothing is due, else on trial if it may, else waiting for its payment.

    A credit left on the `previous` one goes on counting, in the same currency. `trial` says whether the account may
    have a trial at all, which the plan then has to offer.
    """
    carried = previous.carried if previous is not None and previous.plan.currency == plan.currency else 0
    due = max(plan.price - carried, 0)
    trial_end = now + timedelta(days=plan.trial_days) if trial and due and plan.trial_days else None
    return Subscription(
        subscription_id=subscription_id,
        account_id=account_id,
        plan=plan,
        status=Status.TRIALING if trial_end else Status.INCOMPLETE if due else Status.ACTIVE,
        created_at=now,
        anchor=now,
        period_start=now,
        period_end=trial_end or add_cycles(now, plan.cycle, 1),
        amount_due=due,
        carried=carried if due else carried - plan.price,
        trial_end=trial_end,
        previous_id=previous.subscription_id if previous is not None else None,
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
    """What time has brought about next, and when, if anything. At one moment, the end of the period comes first."""
    due = [(event, at) for event, at in _ahead(row) if at <= now]
    return min(due, key=lambda step: step[1], default=None)


def _ahead(row: Subscription) -> Iterator[tuple[Event, datetime]]:
    """What time will do to the row unless somebody does something first."""
    if row.status is Status.INCOMPLETE:
        yield Event.LAPSED, row.created_at + CHECKOUT_TIME
    elif row.status is Status.PAST_DUE:
        yield Event.LAPSED, row.grace_until
    elif row.entitled and row.cancel_at is not None:
        yield Event.CANCELED, row.cancel_at
    elif row.status is Status.TRIALING:
        yield Event.LAPSED, row.period_end
    elif row.status is Status.ACTIVE:
        yield (Event.RENEWAL_UNPAID if row.next_amount else Event.RENEWED), row.period_end
    if row.pending_plan is not None and row.pending_until is not None:
        yield Event.PLAN_CHANGE_LAPSED, row.pending_until


def _elapse(row: Subscription, event: Event, at: datetime) -> Subscription:
    """The row after an event of time."""
    status = MOVES[row.status, event]
    if event in (Event.LAPSED, Event.CANCELED):
        return replace(without_pending(row), status=status, ended_at=at)
    if event is Event.PLAN_CHANGE_LAPSED:
        return without_pending(row)
    due, row = row.next_amount, _take_scheduled_plan(row)
    # A waiting upgrade counted on what was left of the period that ends; one from a free plan counted on nothing.
    row = row if row.plan.is_free else without_pending(row)
    if event is Event.RENEWAL_UNPAID:
        return replace(row, status=status, amount_due=due)
    carried = row.carried - row.plan.price
    return replace(row, period_start=row.period_end, period_end=next_period_end(row), carried=carried)


def without_pending(row: Subscription) -> Subscription:
    """The row without the upgrade that waits for its payment, and with nothing due."""
    return replace(row, pending_plan=None, pending_until=None, amount_due=0)


def _take_scheduled_plan(row: Subscription) -> Subscription:
    """The plan scheduled for the period end becomes the plan; another cycle counts from here."""
    if row.scheduled_plan is None:
        return row
    anchor = row.anchor if row.scheduled_plan.cycle is row.plan.cycle else row.period_end
    row = replace(without_pending(row), plan=row.scheduled_plan, scheduled_plan=None)
    return replace(row, plan_since=row.period_end, anchor=anchor)

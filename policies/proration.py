"""What a change of plan costs, as a number: quoted by these functions, and booked by the same ones.

Time is counted in hours, one that has begun as one that is left: so a quote stands until the hour is over, and who
looks at a price and accepts it pays that price. Amounts are minor units; products of units and hours are divided once,
at the end, and what is due is rounded up as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from policies.subscription import NotPossible, Status, Subscription
from policies.terms import Cycle, Plan, Tier

HOUR = timedelta(hours=1)


class Direction(StrEnum):
    """Upgrades apply now, downgrades at the end of the period; staying withdraws what has not happened yet."""

    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"
    STAY = "stay"


@dataclass(frozen=True, slots=True)
class PlanChange:
    """What changing to `plan` would do: `applies_at` None means now, after `amount_due` is paid.

    `carried` is the credit that is left after it. The quote stands until `stands_until`, as long as nothing else
    happens to the subscription.
    """

    plan: Plan
    direction: Direction
    applies_at: datetime | None
    amount_due: int
    carried: int
    stands_until: datetime


def quote_change(row: Subscription, plan: Plan, tiers: Sequence[Tier], now: datetime) -> PlanChange:
    """Upgrades apply now and cost the difference for the rest of the period; downgrades wait for its end.

    Choosing the present plan means staying on it, in the version that the subscriber has, whatever is on sale: it
    withdraws a change or a cancellation that has not happened yet.
    """
    if row.status is not Status.ACTIVE:
        raise NotPossible(f"The plan cannot be changed while the subscription is {row.status}")
    if plan.plan_id == row.plan.plan_id:
        if row.scheduled_plan is None and row.pending_plan is None and row.cancel_at is None:
            raise NotPossible(f"The subscription is on {row.plan.name} already")
        return PlanChange(row.plan, Direction.STAY, None, 0, row.carried, row.period_end)
    require_one_currency(row, plan)
    if _worth(plan, tiers) < _worth(row.plan, tiers):
        return PlanChange(plan, Direction.DOWNGRADE, row.period_end, 0, row.carried, row.period_end)
    net = _net(row, plan, now)
    return PlanChange(plan, Direction.UPGRADE, None, max(net, 0), max(-net, 0), _stands_until(row, now))


def expect(change: PlanChange, amount: int | None) -> None:
    """Raises NotPossible when the change would cost another amount than the one that was expected."""
    if amount is not None and amount != change.amount_due:
        raise differs(amount, change.amount_due, change.plan.currency)


def differs(expected: int, due: int, currency: str) -> NotPossible:
    """The refusal of an amount, with both numbers."""
    message = f"{due} {currency} would be due, and not {expected}"
    return NotPossible(message, expected=expected, amount=due, currency=currency)


def unused(row: Subscription, now: datetime) -> int:
    """What the rest of the paid period is worth: before anything is paid, nothing.

    Here an hour that has begun is used, or whoever always cancels within the hour would ride for nothing.
    """
    if row.status is not Status.ACTIVE:
        return 0
    period = (row.period_end - row.period_start) // HOUR
    left = min(max((row.period_end - now) // HOUR, 0), period)
    return row.plan.price * left // period


def keeps_period(row: Subscription, plan: Plan) -> bool:
    """Whether a change to `plan` now goes on with the period that is paid; otherwise it begins a new one."""
    return plan.cycle is row.plan.cycle and not row.plan.is_free


def require_one_currency(row: Subscription, plan: Plan) -> None:
    """Raises NotPossible where one currency would have to be counted against another."""
    counts = row.carried > 0 or not (row.plan.is_free or plan.is_free)
    if counts and plan.currency != row.plan.currency:
        raise NotPossible(
            f"{plan.name} is priced in {plan.currency} and the subscription in {row.plan.currency}: "
            "cancel it, and subscribe again when it has ended"
        )


def _worth(plan: Plan, tiers: Sequence[Tier]) -> tuple[int, int, int]:
    """What a plan gives, in the order in which plans are compared: tier, quota, length of the cycle.

    The tier of a plan no longer on sale may have left the ladder; anything on it is an upgrade then.
    """
    rank = tiers.index(plan.tier) if plan.tier in tiers else -1
    return rank, plan.daily_quota, 1 if plan.cycle is Cycle.YEARLY else 0


def _net(row: Subscription, plan: Plan, now: datetime) -> int:
    """The new plan for the time it gives, less the unused part of the old one and the credit; negative is credit."""
    left, period = _hours(row, now)
    gained = plan.price * (left if keeps_period(row, plan) else period)
    return -((row.plan.price * left - gained) // period) - row.carried


def _hours(row: Subscription, now: datetime) -> tuple[int, int]:
    """The hours left of the period and those it has, which are whole: it ends at the time of day it began."""
    period = (row.period_end - row.period_start) // HOUR
    left = -((now - row.period_end) // HOUR)
    return min(max(left, 0), period), period


def _stands_until(row: Subscription, now: datetime) -> datetime:
    """When the next hour is over. What is counted from a free plan does not change with the time."""
    if row.plan.is_free:
        return row.period_end
    return row.period_end - (_hours(row, now)[0] - 1) * HOUR

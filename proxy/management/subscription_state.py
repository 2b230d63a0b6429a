"""How a subscription is shown: its state, what is due on it, and what it will become."""

from __future__ import annotations

from policies.subscription import CHECKOUT_TIME, ENTITLED, Status, Subscription
from policies.terms import Cycle
from proxy.management.plans import PlanTerms, plan_terms
from proxy.management.shapes import Moment, Shape


class Payment(Shape):
    """What is to be paid, once, for what the subscription waits for."""

    amount: int
    """In minor units of `currency`."""
    currency: str
    due_by: Moment
    """Until then the payment counts; afterwards the offer has lapsed."""
    reference: str
    """Names the subscription to whoever confirms the payment."""
    how: str
    """For people."""


class SubscriptionState(Shape):
    """A subscription as it is at this moment."""

    id: str
    plan_id: str
    status: Status
    """`incomplete` waits for its first payment and gives nothing; `past_due` waits for a renewal and still does."""
    start_date: Moment
    """Of the current period; what is paid during a trial starts when that ends."""
    end_date: Moment
    """Of the current period, or of the subscription when it has ended."""
    billing_cycle: Cycle
    auto_renew: bool
    next_billing_date: Moment | None
    """When the next period has to be paid; null when none will have to be."""
    next_amount: int | None
    """What will have to be paid then, after the credit, in minor units; null when nothing will."""
    credit: int
    """What was paid and not used up, in minor units; the next amounts due are reduced by it."""
    trial_end: Moment | None
    """When the trial ends or has ended; null when there was none."""
    grace_until: Moment | None
    """Until when a subscription whose renewal is unpaid stays active."""
    cancel_at: Moment | None
    cancelled_at: Moment | None
    """When the cancellation was asked for."""
    cancel_reason: str | None
    ended_at: Moment | None
    refund_quoted: int
    """What was to be paid back when it ended, in minor units."""
    created_at: Moment
    payment: Payment | None
    """Null when nothing is due."""
    pending_plan: PlanTerms | None
    """The plan that the subscription changes to once `payment` is confirmed."""
    scheduled_plan: PlanTerms | None
    """The plan that takes over at `endDate`."""
    plan: PlanTerms


def subscription_state(row: Subscription) -> SubscriptionState:
    """The view of a row that was resolved at the moment of the request."""
    renews = row.current and row.cancel_at is None
    bills = renews and row.status in ENTITLED and not (row.scheduled_plan or row.plan).is_free
    return SubscriptionState(
        id=str(row.subscription_id),
        plan_id=row.plan.plan_id,
        status=row.status,
        start_date=row.period_start,
        end_date=row.ended_at or row.period_end,
        billing_cycle=row.plan.cycle,
        auto_renew=renews,
        next_billing_date=row.period_end if bills else None,
        next_amount=row.next_amount if bills else None,
        credit=row.carried,
        trial_end=row.trial_end,
        grace_until=row.grace_until if row.status is Status.PAST_DUE else None,
        cancel_at=row.cancel_at,
        cancelled_at=row.canceled_at,
        cancel_reason=row.cancel_reason,
        ended_at=row.ended_at,
        refund_quoted=row.refund_quoted,
        created_at=row.created_at,
        payment=payment_due(row),
        pending_plan=plan_terms(row.pending_plan) if row.pending_plan else None,
        scheduled_plan=plan_terms(row.scheduled_plan) if row.scheduled_plan else None,
        plan=plan_terms(row.plan),
    )


def payment_due(row: Subscription) -> Payment | None:
    if not row.current or row.amount_due == 0:
        return None
    starts_by, upgrades_by = row.created_at + CHECKOUT_TIME, row.pending_until or row.period_end
    due_by = {Status.INCOMPLETE: starts_by, Status.PAST_DUE: row.grace_until, Status.ACTIVE: upgrades_by}
    reference = f"subscription-{row.subscription_id}"
    return Payment(
        amount=row.amount_due,
        currency=(row.pending_plan or row.plan).currency,
        due_by=due_by.get(row.status, row.period_end),
        reference=reference,
        how=f"Pay the operator of this service, naming {reference}; it takes effect when the payment is confirmed.",
    )

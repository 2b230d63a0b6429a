"""Subscriptions and payments as operators see them, and the one way in which their verbs change a subscription.

Amounts are in minor units of the currency beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from policies.refusals import Refusal, iso
from policies.subscription import Event, NotPossible, Status, Subscription
from policies.terms import AccountId, Plan
from proxy.operations.arguments import Name
from proxy.operations.operation import Answer, Arguments, Desk, conflict
from store import subscriptions
from store.payments import Payment
from store.subscriptions import Changed

if TYPE_CHECKING:
    from datetime import datetime


class OneAccount(Arguments):
    account: Name
    """The account: its number, or the id of one of its users."""


def subscription_answer(row: Subscription) -> Answer:
    """A subscription resolved at the moment."""
    dates = {
        "period_start": row.period_start,
        "period_end": row.period_end,
        "trial_end": row.trial_end,
        "grace_until": row.grace_until if row.status is Status.PAST_DUE else None,
        "pending_until": row.pending_until,
        "cancel_at": row.cancel_at,
        "ended_at": row.ended_at,
    }
    return {
        "plan": row.plan.plan_id,
        "plan_version": row.plan.version,
        "tier": row.plan.tier,
        "status": row.status,
        "entitled": row.entitled,
        "due": row.amount_due,
        "credit": row.carried,
        "refund_quoted": row.refund_quoted,
        "currency": (row.pending_plan or row.plan).currency,
        "pending_plan": _named(row.pending_plan),
        "scheduled_plan": _named(row.scheduled_plan),
        "scheduled_version": row.scheduled_plan.version if row.scheduled_plan else None,
        **{name: _moment(moment) for name, moment in dates.items()},
    }


def _named(plan: Plan | None) -> str | None:
    return plan.plan_id if plan is not None else None


def _moment(moment: datetime | None) -> str | None:
    return iso(moment) if moment is not None else None


def payment_answer(payment: Payment) -> Answer:
    return {
        "id": payment.payment_id,
        "at": iso(payment.at),
        "purpose": payment.purpose,
        "amount": payment.amount,
        "currency": payment.currency,
        "plan": payment.plan_id,
        "plan_version": payment.plan_version,
        "key": payment.key,
        "actor": payment.actor,
    }


async def changed(
    desk: Desk, account_id: AccountId, decide: Callable[[Subscription], tuple[Subscription, Event]]
) -> Changed | Refusal:
    """Apply a decision to the current subscription of an account."""
    try:
        return await desk.store.database.write(subscriptions.change, account_id, decide, desk.actor, desk.now())
    except NotPossible as error:
        return not_possible(error, account_id)


def not_possible(error: NotPossible, account: object) -> Refusal:
    return conflict(str(error), f"See: farebox subscriptions show {account}", error.fields)

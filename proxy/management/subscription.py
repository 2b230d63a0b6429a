"""The caller's subscription: what it is now, and the changes its holder may make.

What is possible is decided by the pure functions of `policies.subscription`, inside the transaction that stores it.
What they refuse arrives as NotPossible and is answered with a conflict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Literal

from policies.callers import Caller
from policies.refusals import Reason, Refusal, account_frozen
from policies.subscription import (
    Event,
    NotPossible,
    PlanChange,
    Subscription,
    cancel,
    change_plan,
    pay,
    quote_change,
)
from policies.terms import AccountType, Plan
from proxy.management.endpoint import ApiRequest
from proxy.management.shapes import Body, Done, Moment, Name, Shape, Text
from proxy.management.subscription_state import Payment, SubscriptionState, payment_due, subscription_state
from proxy.services import Services
from store import subscriptions


class SubscriptionStatus(Shape):
    """The caller's entitlement. Without a plan that entitles, it is that of pay-as-you-go."""

    subscription: SubscriptionState | None
    """The current subscription, or the last one; null when there never was one."""
    tier: str
    is_active: bool
    """Whether a subscription gives its tier and quota now."""
    account_type: AccountType


class SubscribeBody(Body):
    plan_id: Name


class CancelBody(Body):
    reason: Text | None = None
    immediately: bool = False
    """End now instead of at the end of the period. Nothing is paid back."""


class ChangePlanBody(Body):
    new_plan_id: Name


class Subscribed(Done):
    """A new subscription. It is `incomplete` until `payment`, if there is one, is confirmed."""

    subscription: SubscriptionState
    payment: Payment | None


class Cancelled(Done):
    """The subscription ends at `endDate`, which may be now."""

    end_date: Moment
    subscription: SubscriptionState


class PlanChanged(Done):
    """An upgrade applies once it is paid, at once when it costs nothing; a downgrade at the end of the period."""

    direction: Literal["upgrade", "downgrade"]
    applies_at: Moment | None
    """Null while the upgrade waits for `payment`."""
    amount: int
    """What the change costs, in minor units of `currency`; paid already unless there is a `payment`."""
    currency: str
    payment: Payment | None
    subscription: SubscriptionState


async def status(services: Services, request: ApiRequest) -> SubscriptionStatus:
    stored = await services.store.database.read(subscriptions.latest, request.caller.account.account_id)
    account = replace(request.caller.account, subscription=stored).at(request.now)
    return SubscriptionStatus(
        subscription=subscription_state(account.subscription) if account.subscription else None,
        tier=account.tier(services.rulebooks.current.payg_tier),
        is_active=account.plan is not None,
        account_type=account.account_type,
    )


async def subscribe(services: Services, request: ApiRequest) -> Subscribed | Refusal:
    caller, settings = request.caller, services.settings.values.subscriptions
    if caller.account.frozen:
        return account_frozen()
    plan = _plan(services, request.body_as(SubscribeBody).plan_id, "planId")
    if isinstance(plan, Refusal):
        return plan
    arguments = (caller.account.account_id, plan, settings.grace, _actor(caller), request.now)
    row = await services.store.database.write(subscriptions.subscribe, *arguments)
    services.identifier.forget(caller)
    if row.amount_due and settings.payment == "immediate":
        row = await _change(services, request, partial(pay, now=request.now))
    waits = row.amount_due > 0
    message = "Subscription created; it starts when its payment is confirmed" if waits else "Subscription created"
    return Subscribed(message=message, subscription=subscription_state(row), payment=payment_due(row))


async def cancel_subscription(services: Services, request: ApiRequest) -> Cancelled | Refusal:
    body, quoted = request.body_as(CancelBody), _to_change(request)
    if isinstance(quoted, Refusal):
        return quoted
    decide = partial(cancel, now=request.now, immediately=body.immediately, reason=body.reason)
    row = await _change(services, request, decide)
    message = "Subscription will remain active until end of billing period" if row.current else "Subscription cancelled"
    return Cancelled(message=message, end_date=row.ended_at or row.period_end, subscription=subscription_state(row))


async def change_subscription_plan(services: Services, request: ApiRequest) -> PlanChanged | Refusal:
    """What was quoted is what is stored: a subscription that changed in between is a conflict."""
    quoted = _to_change(request)
    if isinstance(quoted, Refusal):
        return quoted
    plan = _plan(services, request.body_as(ChangePlanBody).new_plan_id, "newPlanId")
    if isinstance(plan, Refusal):
        return plan
    change = quote_change(quoted, plan, services.rulebooks.current.tiers, request.now)
    immediate = services.settings.values.subscriptions.payment == "immediate"

    def decide(row: Subscription) -> tuple[Subscription, Event]:
        if row != quoted:
            raise NotPossible("The subscription has just changed; look at it and ask again")
        changed = change_plan(row, change, request.now)
        return pay(changed[0], request.now) if immediate and changed[0].amount_due else changed

    row = await _change(services, request, decide)
    return _plan_changed(row, change, request.now)


def _plan_changed(row: Subscription, change: PlanChange, now: datetime) -> PlanChanged:
    payment = payment_due(row)
    if not change.upgrade:
        message, applies_at = "Plan changes at the end of the billing period", change.applies_at
    elif payment is not None:
        message, applies_at = "Plan changes when its payment is confirmed", None
    else:
        message, applies_at = "Plan changed successfully", now
    return PlanChanged(
        message=message,
        direction="upgrade" if change.upgrade else "downgrade",
        applies_at=applies_at,
        amount=change.amount_due,
        currency=change.plan.currency,
        payment=payment,
        subscription=subscription_state(row),
    )


async def _change(
    services: Services, request: ApiRequest, decide: Callable[[Subscription], tuple[Subscription, Event]]
) -> Subscription:
    caller = request.caller
    arguments = (caller.account.account_id, decide, _actor(caller), request.now)
    row = await services.store.database.write(subscriptions.change, *arguments)
    # What is remembered of the caller would be refused by the ledger as stale; this saves it the second look.
    services.identifier.forget(caller)
    return row


def _to_change(request: ApiRequest) -> Subscription | Refusal:
    """The current subscription, if there is one and its account is not frozen: that may look and not change."""
    account = request.caller.account.at(request.now)
    if account.frozen:
        return account_frozen()
    if account.subscription is None or not account.subscription.current:
        return Refusal(Reason.NOT_FOUND, "No active subscription", "Subscribe to a plan first.")
    return account.subscription


def _plan(services: Services, plan_id: str, field: str) -> Plan | Refusal:
    plan = services.rulebooks.current.catalogue.plan(plan_id)
    if plan is not None:
        return plan
    hint = "GET /subscription/plans lists the plans on sale."
    return Refusal(Reason.NOT_FOUND, "Subscription plan not found", hint, {"field": field})


def _actor(caller: Caller) -> str:
    return f"user:{caller.user_id}"

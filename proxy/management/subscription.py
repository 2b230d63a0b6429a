"""The caller's subscription: what it is now, and subscribing, cancelling and resuming by its holder.

What is possible is decided by the pure functions of `policies.subscription_acts`, inside the transaction that stores
it. What they refuse arrives as NotPossible and is answered with a conflict. Changes of the plan are in `plan_change`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from policies.callers import Caller
from policies.proration import unused
from policies.refusals import Reason, Refusal, account_frozen
from policies.subscription import Event, Status, Subscription
from policies.subscription_acts import cancel, resume
from policies.terms import AccountType, Plan
from proxy.management.endpoint import ApiRequest
from proxy.management.shapes import Body, Done, Moment, Name, Shape, Text
from proxy.management.subscription_state import Payment, SubscriptionState, payment_due, subscription_state
from proxy.services import Services
from store import subscriptions
from store.ids import id_text
from store.subscriptions import Changed


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
    """End now instead of at the end of the period. `unused` in the answer is what that gives up."""


class Subscribed(Done):
    """A new subscription. It is `incomplete` or `trialing` until `payment`, if there is one, is confirmed."""

    subscription: SubscriptionState
    payment: Payment | None


class Cancelled(Done):
    """The subscription ends at `endDate`, which may be now."""

    end_date: Moment
    unused: int
    """What the paid time that is given up is worth, in minor units of `currency`: 0 at the end of the period."""
    refund: int
    """What is to be paid back by the operator of this service; 0 unless that is the rule here."""
    currency: str
    subscription: SubscriptionState


class Resumed(Done):
    """The subscription goes on as if it had not been cancelled. What was planned before that stays withdrawn."""

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
    plan = plan_on_sale(services, request.body_as(SubscribeBody).plan_id, "planId")
    if isinstance(plan, Refusal):
        return plan
    arguments = (caller.account.account_id, plan, settings.grace, _actor(caller), request.now)
    row = await services.store.database.write(subscriptions.subscribe, *arguments, payment_key=payment_key(services))
    services.identifier.forget(caller)
    return Subscribed(message=_started(row), subscription=subscription_state(row), payment=payment_due(row))


def _started(row: Subscription) -> str:
    if row.status is Status.TRIALING:
        return "Trial started; the subscription goes on after it when its payment is confirmed"
    waits = row.amount_due > 0
    return "Subscription created; it starts when its payment is confirmed" if waits else "Subscription created"


async def cancel_subscription(services: Services, request: ApiRequest) -> Cancelled | Refusal:
    body, current = request.body_as(CancelBody), to_change(request)
    if isinstance(current, Refusal):
        return current
    refund = services.settings.values.subscriptions.unused_time == "refund"
    decide = partial(cancel, now=request.now, immediately=body.immediately, reason=body.reason, refund=refund)
    changed = await change(services, request, decide)
    row = changed.row
    message = "Subscription will remain active until end of billing period" if row.current else "Subscription cancelled"
    return Cancelled(
        message=message,
        end_date=row.ended_at or row.period_end,
        unused=0 if row.current else unused(changed.before, request.now),
        refund=row.refund_quoted,
        currency=row.plan.currency,
        subscription=subscription_state(row),
    )


async def resume_subscription(services: Services, request: ApiRequest) -> Resumed | Refusal:
    """Of one that has ended it is said that it has: it can only be subscribed to again."""
    if request.caller.account.frozen:
        return account_frozen()
    changed = await change(services, request, resume)
    return Resumed(message="Subscription goes on", subscription=subscription_state(changed.row))


async def change(
    services: Services,
    request: ApiRequest,
    decide: Callable[[Subscription], tuple[Subscription, Event]],
    payment_key: str | None = None,
) -> Changed:
    """Apply a decision of the caller. With a `payment_key`, what is due after it is paid at once."""
    caller = request.caller
    arguments = (caller.account.account_id, decide, _actor(caller), request.now)
    changed = await services.store.database.write(subscriptions.change, *arguments, payment_key=payment_key)
    # What is remembered of the caller would be refused by the ledger as stale; this saves it the second look.
    services.identifier.forget(caller)
    return changed


def payment_key(services: Services) -> str | None:
    """The key of a payment that is confirmed by being asked for, where the settings say that payments are."""
    immediate = services.settings.values.subscriptions.payment == "immediate"
    return f"immediate:{id_text(services.store.ids.next())}" if immediate else None


def current_subscription(request: ApiRequest) -> Subscription | Refusal:
    """The caller's current subscription, as it is now."""
    row = request.caller.account.at(request.now).subscription
    if row is None or not row.current:
        return Refusal(Reason.NOT_FOUND, "No active subscription", "Subscribe to a plan first.")
    return row


def to_change(request: ApiRequest) -> Subscription | Refusal:
    """The same, unless the account is frozen: that may look and not change."""
    return account_frozen() if request.caller.account.frozen else current_subscription(request)


def plan_on_sale(services: Services, plan_id: str, field: str) -> Plan | Refusal:
    plan = services.rulebooks.current.catalogue.plan(plan_id)
    if plan is not None:
        return plan
    hint = "GET /subscription/plans lists the plans on sale."
    return Refusal(Reason.NOT_FOUND, "Subscription plan not found", hint, {"field": field})


def _actor(caller: Caller) -> str:
    return f"user:{caller.user_id}"

"""Changing the plan: what it would cost, and doing it at that price.

Both ask the same function (`policies.proration.quote_change`). The change asks it inside the transaction that stores
it, so that what is quoted is what is booked, and what was shown before can be insisted on.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from policies.proration import Direction, PlanChange, expect, quote_change
from policies.refusals import Refusal
from policies.subscription import Event, Subscription
from policies.subscription_acts import change_plan
from policies.terms import MAX_AMOUNT, Plan
from proxy.management.endpoint import ApiRequest
from proxy.management.plans import PlanTerms, plan_terms
from proxy.management.shapes import Body, Done, Moment, Name, Shape
from proxy.management.subscription import change, current_subscription, payment_key, plan_on_sale, to_change
from proxy.management.subscription_state import Payment, SubscriptionState, payment_due, subscription_state
from proxy.services import Services


class PreviewChangeBody(Body):
    new_plan_id: Name


class ChangePlanBody(Body):
    new_plan_id: Name
    expected_amount: Annotated[int, Field(ge=0, le=MAX_AMOUNT)] | None = None
    """The `amount` of a preview: the change is refused when it would cost another one by now."""


class PlanChangePreview(Shape):
    """What a change would do. Nothing has happened."""

    direction: Direction
    """`stay`: it would withdraw a change or a cancellation that has not happened yet."""
    plan: PlanTerms
    """The plan that would be changed to."""
    amount: int
    """What would be due for it now, in minor units of `currency`."""
    currency: str
    credit: int
    """What would be left of the credit, or be made one; the next amounts due are reduced by it."""
    applies_at: Moment | None
    """Null: as soon as `amount` is paid, and at once when it is 0."""
    quoted_until: Moment
    """Until then `amount` and `credit` stay the same, if nothing else happens to the subscription."""


class PlanChanged(Done):
    """An upgrade applies once it is paid, at once when it costs nothing; a downgrade at the end of the period."""

    direction: Direction
    applies_at: Moment | None
    """Null while the upgrade waits for `payment`."""
    amount: int
    """What the change costs, in minor units of `currency`; paid already unless there is a `payment`."""
    currency: str
    credit: int
    """What is left of the credit after it."""
    payment: Payment | None
    subscription: SubscriptionState


async def preview_plan_change(services: Services, request: ApiRequest) -> PlanChangePreview | Refusal:
    row = current_subscription(request)
    if isinstance(row, Refusal):
        return row
    plan = plan_on_sale(services, request.body_as(PreviewChangeBody).new_plan_id, "newPlanId")
    if isinstance(plan, Refusal):
        return plan
    quote = quote_change(row, plan, services.rulebooks.current.tiers, request.now)
    return PlanChangePreview(
        direction=quote.direction,
        plan=plan_terms(quote.plan),
        amount=quote.amount_due,
        currency=quote.plan.currency,
        credit=quote.carried,
        applies_at=quote.applies_at,
        quoted_until=quote.stands_until,
    )


async def change_subscription_plan(services: Services, request: ApiRequest) -> PlanChanged | Refusal:
    body, current = request.body_as(ChangePlanBody), to_change(request)
    if isinstance(current, Refusal):
        return current
    plan = plan_on_sale(services, body.new_plan_id, "newPlanId")
    if isinstance(plan, Refusal):
        return plan

    def decide(row: Subscription) -> tuple[Subscription, Event]:
        quote = _quote(services, request, row, plan)
        expect(quote, body.expected_amount)
        return change_plan(row, quote, request.now)

    changed = await change(services, request, decide, payment_key(services))
    return _plan_changed(changed.row, _quote(services, request, changed.before, plan), request)


def _quote(services: Services, request: ApiRequest, row: Subscription, plan: Plan) -> PlanChange:
    return quote_change(row, plan, services.rulebooks.current.tiers, request.now)


def _plan_changed(row: Subscription, quote: PlanChange, request: ApiRequest) -> PlanChanged:
    payment, applies_at = payment_due(row), quote.applies_at
    if quote.direction is Direction.STAY:
        message, applies_at = f"Subscription stays on {row.plan.name}", request.now
    elif quote.direction is Direction.DOWNGRADE:
        message = "Plan changes at the end of the billing period"
    elif payment is not None:
        message = "Plan changes when its payment is confirmed"
    else:
        message, applies_at = "Plan changed successfully", request.now
    return PlanChanged(
        message=message,
        direction=quote.direction,
        applies_at=applies_at,
        amount=quote.amount_due,
        currency=quote.plan.currency,
        credit=quote.carried,
        payment=payment,
        subscription=subscription_state(row),
    )

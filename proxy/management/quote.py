"""What a request would cost the caller, and whether it would pass now, without making it.

The verdict is that of the gate: the same decision function, and the arithmetic of the ledger's admission.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema

from policies.evaluate import Allow, Ask, evaluate
from policies.pricing import cost, quota_cost
from policies.refusals import Reason, Refusal
from policies.terms import Funding
from proxy.management.endpoint import ApiRequest
from proxy.management.funds import admission, read_funds
from proxy.management.models import reason_of, required_tier_of
from proxy.management.shapes import Body, Credits, Moment, Name, Shape
from proxy.services import Services

MAX_UNITS = 20
"""Kinds of units in one request; prices have one or two."""

MAX_UNIT = 10**12
"""Of one unit: the pixels of an hour of video at 4K. With its decimals it bounds the exact arithmetic."""

UnitName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
UnitCount = Annotated[
    Decimal,
    BeforeValidator(lambda value: Decimal(value) if type(value) is int else value),
    Field(ge=0, le=MAX_UNIT, decimal_places=12),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": MAX_UNIT}),
]


class QuoteBody(Body):
    model_key: Name
    units: dict[UnitName, UnitCount] = Field(default={}, max_length=MAX_UNITS)
    """How much it asks for, such as `duration_seconds`. A unit that the price has no rate for costs nothing."""


class QuoteAnswer(Shape):
    """The cost of a request for this caller, and the gate's verdict on it at this moment."""

    model_key: str
    accessible: bool
    """Whether policy lets it through."""
    allowed: bool
    """Whether it would be forwarded: policy lets it through, and it can be paid."""
    funding: Funding | None
    """What would pay, or what would be tried first; null when policy does not let it through."""
    credits: Credits | None
    """Its cost where credits pay; null for a model that is not known."""
    quota: int | None
    """Its cost in units where quota pays; null for a model that is not known."""
    balance: Credits
    """Credits that can be spent."""
    quota_remaining: int | None
    """Units left in the tightest window; null for an account that does not pay with quota."""
    rule: str | None
    """The policy rule that decides; null where none does."""
    code: Reason | None
    """The code of the refusal that the request would get; null when it would be forwarded, like all that follow."""
    reason: str | None
    required_tier: str | None
    """The lowest tier that would unlock the model; null where no tier would."""
    reset_at: Moment | None
    """When the quota that is used up resets."""
    hint: str | None
    """What would change the verdict."""


async def quote(services: Services, request: ApiRequest) -> QuoteAnswer:
    body, rulebook = request.body_as(QuoteBody), services.rulebooks.current
    decision = evaluate(request.caller, Ask(body.model_key, body.units), rulebook, request.now)
    exempt = decision.exempt if isinstance(decision, Allow) else None
    funds = await read_funds(services, request.caller.account.at(request.now), exempt)
    funding: Funding | None = None
    refusal: Refusal | None = None
    if isinstance(decision, Refusal):
        refusal, rule = decision, decision.fields.get("rule")
    else:
        (funding, refusal), rule = admission(decision.quote, funds), decision.rule
    model = rulebook.catalogue.models.get(body.model_key)
    return QuoteAnswer(
        model_key=body.model_key,
        accessible=not isinstance(decision, Refusal),
        allowed=refusal is None,
        funding=funding,
        credits=cost(model.price, body.units) if model is not None else None,
        quota=quota_cost(model, body.units) if model is not None else None,
        balance=funds.credits,
        quota_remaining=funds.quota,
        rule=str(rule) if rule else None,
        **_told(refusal),
    )


def _told(refusal: Refusal | None) -> dict[str, Any]:
    """The fields that tell of a refusal."""
    if refusal is None:
        return dict.fromkeys(("code", "reason", "required_tier", "reset_at", "hint"))
    return {
        "code": refusal.reason,
        "reason": reason_of(refusal),
        "required_tier": required_tier_of(refusal),
        "reset_at": refusal.retry_at,
        "hint": refusal.hint,
    }

"""The models that there are: which of them are open to the caller, and at what price.

Whether a model is accessible is asked of `policies.evaluate`, which the gate asks too.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pydantic import Field

from policies.callers import Caller
from policies.evaluate import Ask, evaluate
from policies.pricing import cost
from policies.refusals import Refusal
from policies.rulebook import Rulebook
from policies.terms import Model
from proxy.management.endpoint import ApiRequest
from proxy.management.shapes import MAX_NAME, CreditRate, Credits, Query, Shape
from proxy.services import Services


class Price(Shape):
    """What a call of a model costs: credits for those who pay as they go, quota units for subscribers."""

    credit_cost: Credits
    """The least that a call costs, and its cost when it gives no unit."""
    credit_rates: dict[str, CreditRate]
    """Credits for one of each unit; their sum is the cost where it is above `creditCost`."""
    credit_step: Credits
    """Costs are rounded up to a multiple of this."""
    quota_cost: int


class ModelSummary(Shape):
    """What a model is called, and the lowest tier that it is meant for."""

    name: str
    provider: str
    tier: str


class AvailableModel(ModelSummary, Price):
    """A model with its price, and whether the caller may use it."""

    model_key: str
    """Names the model in requests, such as `video-generator:veo3`; within its app `modelId` is enough."""
    app_id: str
    model_id: str
    description: str
    beta: bool
    accessible: bool
    """Whether a request for it would pass policy; a quote also tells whether it could be paid."""
    required_tier: str | None
    """The lowest tier that would unlock it; null when it is accessible, or when no tier would."""
    reason: str | None
    """Why it is not accessible."""
    capabilities: dict[str, Any]


class AvailableModels(Shape):
    """All enabled models, also those that are out of reach, by app and from the lowest tier to the highest."""

    models: list[AvailableModel]


class OfApp(Query):
    """Which models to list."""

    app_id: str | None = Field(default=None, max_length=MAX_NAME)
    """Only the models of this app."""


async def available_models(services: Services, request: ApiRequest) -> AvailableModels:
    rulebook, app_id = services.rulebooks.current, request.query_as(OfApp).app_id
    models = (model for model in enabled_models(rulebook) if app_id is None or model.app == app_id)
    return AvailableModels(models=[_available(model, request.caller, rulebook, request.now) for model in models])


def enabled_models(rulebook: Rulebook) -> list[Model]:
    """By app, then from the lowest tier to the highest."""
    models = (model for model in rulebook.catalogue.models.values() if model.enabled)
    return sorted(models, key=lambda model: (model.app, rulebook.rank(model.tier), model.key))


def accessible_models(caller: Caller, rulebook: Rulebook, now: datetime) -> Iterable[Model]:
    """The models for which a request of this caller would pass policy, in the order of `enabled_models`."""
    for model in enabled_models(rulebook):
        if not isinstance(evaluate(caller, Ask(model.key), rulebook, now), Refusal):
            yield model


def price_of(model: Model) -> dict[str, Any]:
    """The fields of a Price."""
    return {
        "credit_cost": cost(model.price, {}),
        "credit_rates": dict(model.price.rates),
        "credit_step": model.price.round_up_to,
        "quota_cost": model.quota_cost,
    }


def reason_of(refusal: Refusal) -> str:
    """The sentence of a refusal that says most: the reason of a denial, else its error."""
    return str(refusal.fields.get("reason", refusal.error))


def required_tier_of(refusal: Refusal) -> str | None:
    tier = refusal.fields.get("requiredTier")
    return str(tier) if tier is not None else None


def _available(model: Model, caller: Caller, rulebook: Rulebook, now: datetime) -> AvailableModel:
    decision = evaluate(caller, Ask(model.key), rulebook, now)
    refusal = decision if isinstance(decision, Refusal) else None
    return AvailableModel(
        **price_of(model),
        name=model.name,
        provider=model.provider,
        tier=model.tier,
        model_key=model.key,
        app_id=model.app,
        model_id=model.model_id,
        description=model.description,
        beta=model.beta,
        accessible=refusal is None,
        required_tier=required_tier_of(refusal) if refusal is not None else None,
        reason=reason_of(refusal) if refusal is not None else None,
        capabilities=dict(model.capabilities),
    )

"""The price list."""

from __future__ import annotations

from typing import Any

from pydantic import RootModel

from policies.terms import Cycle, Plan, QuotaMonth
from proxy.management.endpoint import ApiRequest
from proxy.management.shapes import JsonText, Moment, Shape
from proxy.services import Services


class PlanTerms(Shape):
    """One version of a plan. A subscriber keeps the version that was subscribed to, whatever is on sale later."""

    id: str
    """The same as `planId`."""
    plan_id: str
    """What to send in order to subscribe."""
    version: int
    tier: str
    name: str
    description: str
    price: int
    """For one billing cycle, in minor units of `currency`."""
    currency: str
    billing_cycle: Cycle
    daily_quota: int
    monthly_quota: int | None
    """Null when the month has no limit of its own."""
    trial_days: int | None
    """Days that it can be tried without paying, by an account that has not tried any plan yet; null when none."""
    quota_time_zone: str
    """The IANA name of the time zone in which days and months of quota begin."""
    quota_day_starts: str
    """The time of day, as HH:MM, at which a day of quota begins there."""
    quota_month: QuotaMonth
    """Whether a month of quota begins on the 1st, or on the day of the month on which the subscription did."""
    daily_rollover: int
    """How many unused units of a day are carried into the next one at most."""
    monthly_rollover: int
    max_model_tier: str
    features: JsonText
    """A JSON object as text, for display."""
    created_at: Moment
    """When this version was put on sale."""


class PlanOnSale(PlanTerms):
    """A plan that can be subscribed to now."""

    is_active: bool
    display_order: int


class PlanList(Shape):
    """The plans on sale, in display order."""

    plans: list[PlanOnSale]


class PlanWithFeatures(PlanOnSale):
    """A plan that can be subscribed to now, with its features as an object."""

    features: dict[str, Any]


class PlainPlanList(RootModel[list[PlanWithFeatures]]):
    """The plans on sale, in display order."""


def plan_terms(plan: Plan) -> PlanTerms:
    return PlanTerms(**_terms(plan))


def _terms(plan: Plan) -> dict[str, Any]:
    return {
        "id": plan.plan_id,
        "plan_id": plan.plan_id,
        "version": plan.version,
        "tier": plan.tier,
        "name": plan.name,
        "description": plan.description,
        "price": plan.price,
        "currency": plan.currency,
        "billing_cycle": plan.cycle,
        "daily_quota": plan.daily_quota,
        "monthly_quota": plan.monthly_quota,
        "trial_days": plan.trial_days,
        "quota_time_zone": str(plan.quota_rules.zone),
        "quota_day_starts": f"{plan.quota_rules.day_starts:%H:%M}",
        "quota_month": plan.quota_rules.month,
        "daily_rollover": plan.quota_rules.daily_rollover,
        "monthly_rollover": plan.quota_rules.monthly_rollover,
        "max_model_tier": plan.max_model_tier,
        "features": plan.features,
        "created_at": plan.created_at,
    }


def _on_sale(services: Services) -> list[tuple[Plan, dict[str, Any]]]:
    plans = [plan for plan in services.rulebooks.current.catalogue.plans if plan.active]
    return [(plan, _terms(plan) | {"is_active": plan.active, "display_order": plan.order}) for plan in plans]


async def list_plans(services: Services, request: ApiRequest) -> PlanList:
    return PlanList(plans=[PlanOnSale(**values) for _, values in _on_sale(services)])


async def list_plans_with_features(services: Services, request: ApiRequest) -> PlainPlanList:
    return PlainPlanList([PlanWithFeatures(**values) for _, values in _on_sale(services)])

"""The table of all endpoints, and the parts of it that the settings leave on."""

from __future__ import annotations

from collections.abc import Iterable

from config.findings import Finding, did_you_mean
from config.settings import LoadedSettings
from config.settings import Management as Settings
from policies.refusals import Reason
from proxy.management.apps import AppList, AppModels, list_app_models, list_apps
from proxy.management.credits import CreditBalance, CreditHistory, credit_balance, credit_history
from proxy.management.endpoint import Endpoint
from proxy.management.models import AvailableModels, OfApp, available_models
from proxy.management.openapi import DOCUMENT, described
from proxy.management.payments import PaymentList, list_payments
from proxy.management.plan_change import (
    ChangePlanBody,
    PlanChanged,
    PlanChangePreview,
    PreviewChangeBody,
    change_subscription_plan,
    preview_plan_change,
)
from proxy.management.plans import PlainPlanList, PlanList, list_plans, list_plans_with_features
from proxy.management.quota import (
    Period,
    QuotaCheck,
    QuotaCheckBody,
    QuotaHistory,
    QuotaStatus,
    QuotaUsage,
    quota_check,
    quota_history,
    quota_status,
    quota_usage,
)
from proxy.management.quote import QuoteAnswer, QuoteBody, quote
from proxy.management.shapes import Page
from proxy.management.subscription import (
    CancelBody,
    Cancelled,
    Resumed,
    SubscribeBody,
    Subscribed,
    SubscriptionStatus,
    cancel_subscription,
    resume_subscription,
    status,
    subscribe,
)
from proxy.management.usage import PopularModelList, PopularModels, UsageHistory, usage_history
from proxy.management.usage_summary import Days, UsageSummary, usage_summary

_CHANGE = (Reason.ACCOUNT_FROZEN, Reason.NOT_FOUND, Reason.CONFLICT)


def all_endpoints() -> tuple[Endpoint, ...]:
    """Every endpoint except the document that describes them; made anew for each server, since one has a memory."""
    return (*_subscription(), *_funds(), *_models(), *_documented_aliases())


def _subscription() -> Iterable[Endpoint]:
    yield Endpoint(
        "GET", "/subscription/plans", list_plans, "The plans on sale, in display order", PlanList, public=True
    )
    yield Endpoint("GET", "/subscription/status", status, "The caller's subscription and tier", SubscriptionStatus)
    yield Endpoint(
        "POST",
        "/subscription/subscribe",
        subscribe,
        "Subscribe to a plan; a paid one starts when its payment is confirmed",
        Subscribed,
        body=SubscribeBody,
        status=201,
        refusals=_CHANGE,
        changes=True,
    )
    yield Endpoint(
        "POST",
        "/subscription/cancel",
        cancel_subscription,
        "Cancel the subscription at the end of its period, or now",
        Cancelled,
        body=CancelBody,
        body_optional=True,
        refusals=_CHANGE,
        changes=True,
    )
    yield Endpoint(
        "POST",
        "/subscription/resume",
        resume_subscription,
        "Take back a cancellation, until the subscription has ended",
        Resumed,
        refusals=(Reason.ACCOUNT_FROZEN, Reason.CONFLICT),
        changes=True,
    )
    yield Endpoint(
        "POST",
        "/subscription/preview-change",
        preview_plan_change,
        "What a change to another plan would cost and when it would apply; changes nothing",
        PlanChangePreview,
        body=PreviewChangeBody,
        refusals=(Reason.NOT_FOUND, Reason.CONFLICT),
    )
    yield Endpoint(
        "POST",
        "/subscription/change-plan",
        change_subscription_plan,
        "Change to another plan: an upgrade now, a downgrade at the end of the period",
        PlanChanged,
        body=ChangePlanBody,
        refusals=_CHANGE,
        changes=True,
    )
    yield Endpoint(
        "GET", "/subscription/payments", list_payments, "What was paid for subscriptions", PaymentList, query=Page
    )


def _funds() -> Iterable[Endpoint]:
    yield Endpoint("GET", "/quota/status", quota_status, "What is left of the caller's quota", QuotaStatus)
    yield Endpoint("GET", "/quota/history", quota_history, "Quota used on each of the last 30 days", QuotaHistory)
    yield Endpoint("GET", "/credits/balance", credit_balance, "The credits that the caller can spend", CreditBalance)
    yield Endpoint(
        "GET", "/credits/history", credit_history, "Every movement of the caller's credits", CreditHistory, query=Page
    )


def _models() -> Iterable[Endpoint]:
    yield Endpoint("GET", "/models/usage", usage_history, "The caller's finished requests", UsageHistory, query=Page)
    yield Endpoint(
        "GET",
        "/models/usage/summary",
        usage_summary,
        "The caller's usage by day and model",
        UsageSummary,
        query=Days,
    )
    yield Endpoint(
        "GET",
        "/models/popular",
        PopularModels().answer,
        "The most used models of the last 30 days",
        PopularModelList,
        public=True,
    )
    yield Endpoint(
        "GET",
        "/models/available",
        available_models,
        "All models, with their price and what would unlock them",
        AvailableModels,
        query=OfApp,
    )
    yield Endpoint("GET", "/apps", list_apps, "The apps with a model that the caller may use", AppList)
    yield Endpoint(
        "GET", "/apps/{appId}/models", list_app_models, "The models of an app that the caller may use", AppModels
    )
    yield Endpoint(
        "POST",
        "/quote",
        quote,
        "What a request would cost, and whether it would pass, without making it",
        QuoteAnswer,
        body=QuoteBody,
    )


def _documented_aliases() -> Iterable[Endpoint]:
    """Paths that the origin system documented and never served."""
    yield Endpoint(
        "GET",
        "/subscriptions/plans",
        list_plans_with_features,
        "The plans on sale as a plain list",
        PlainPlanList,
        public=True,
    )
    yield Endpoint("GET", "/subscriptions/current", status, "Another name of /subscription/status", SubscriptionStatus)
    yield Endpoint(
        "POST",
        "/subscriptions/cancel",
        cancel_subscription,
        "Another name of /subscription/cancel",
        Cancelled,
        body=CancelBody,
        body_optional=True,
        refusals=_CHANGE,
        changes=True,
    )
    yield Endpoint("GET", "/quotas/usage", quota_usage, "Quota used on one day", QuotaUsage, query=Period)
    yield Endpoint(
        "POST",
        "/quotas/check",
        quota_check,
        "Whether the quota for a call is left",
        QuotaCheck,
        body=QuotaCheckBody,
        refusals=(Reason.MODEL_DENIED,),
    )


def served(settings: Settings) -> tuple[Endpoint, ...]:
    """The endpoints that the settings leave on, with the document that describes exactly these."""
    endpoints = tuple(endpoint for endpoint in all_endpoints() if endpoint.name not in settings.off)
    return endpoints if f"GET {DOCUMENT}" in settings.off else described(endpoints, settings)


def findings_of(settings: LoadedSettings) -> list[Finding]:
    """What is wrong with `management.off`, in its place in the file."""
    return [
        settings.source.finding(("management", "off", index), "unknown-endpoint", problem)
        for index, name in enumerate(settings.values.management.off)
        for problem in problems_of([name])
    ]


def problems_of(off: Iterable[str]) -> list[str]:
    """A sentence for every entry of `management.off` that names no endpoint."""
    known = [f"GET {DOCUMENT}", *(endpoint.name for endpoint in all_endpoints())]
    return [
        f"no endpoint {name!r}; expected METHOD /path below the mount{did_you_mean(name, known)}"
        for name in off
        if name not in known
    ]

"""What the caller's account has used, added up by day and model: for charts, and for whoever pays the bill."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from proxy.management.endpoint import ApiRequest
from proxy.management.shapes import Credits, Query, Shape
from proxy.services import Services
from store.usage_sums import Used, last_days, used

MAX_DAYS = 92
"""A quarter: what a chart shows, and with every model used on every day still a short answer."""


class Days(Query):
    days: int = Field(default=30, ge=1, le=MAX_DAYS)
    """Days (UTC) to look back, with today."""


class UsageTotal(Shape):
    """A number of finished requests, what they were charged, and what of that was given back later."""

    calls: int
    credit_used: Credits
    credit_refunded: Credits
    quota_used: int
    quota_refunded: int
    estimated_calls: int
    """Calls whose usage could not be measured, and which were charged their quote."""


class UsageOfDay(UsageTotal):
    """What one model was used on one day."""

    period: str
    """The day of the requests (UTC), as YYYY-MM-DD."""
    app_id: str
    model_key: str


class UsageSummary(Shape):
    """The usage of the last days by day and model, newest day first; days and models without usage are left out."""

    days: int
    totals: UsageTotal
    usage: list[UsageOfDay]


async def usage_summary(services: Services, request: ApiRequest) -> UsageSummary:
    days = request.query_as(Days).days
    scope = last_days(days, request.now, request.caller.account.account_id)
    found, ((_, totals),) = await services.store.database.read(
        lambda connection: (used(connection, scope, ("day", "model_key")), used(connection, scope).items())
    )
    rows = sorted(found.items(), key=lambda row: row[0][0], reverse=True)
    return UsageSummary(
        days=days,
        totals=UsageTotal(**_amounts(totals)),
        usage=[
            UsageOfDay(period=f"{day:%Y-%m-%d}", app_id=model.partition(":")[0], model_key=model, **_amounts(amounts))
            for (day, model), amounts in rows
        ],
    )


def _amounts(amounts: Used) -> dict[str, Any]:
    return {
        "calls": amounts.calls,
        "credit_used": amounts.credits,
        "credit_refunded": amounts.credits_refunded,
        "quota_used": amounts.quota,
        "quota_refunded": amounts.quota_refunded,
        "estimated_calls": amounts.estimated,
    }

"""How much quota the caller has left, and what it was used for. Reading writes nothing."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import Field

from policies.callers import Account
from policies.refusals import Refusal, invalid_request, model_denied
from policies.terms import Metric
from policies.windows import Window, window_at
from proxy.management.endpoint import ApiRequest
from proxy.management.funds import Allowance, read_funds
from proxy.management.shapes import Body, JsonText, Moment, Name, Query, Shape
from proxy.services import Services
from store import reports

HISTORY_DAYS = 30

PAYG_NOTE = "This account pays with credits and has no quota."


class QuotaWindow(Shape):
    """Quota of one window. `used` counts what is held for requests that are still running."""

    remaining: int
    used: int
    limit: int
    reset_at: Moment


class QuotaStatus(QuotaWindow):
    """Quota of today (UTC). All zero for an account that pays with credits."""

    breakdown: dict[str, int]
    """Units of today's finished requests by model key, less what was given back."""
    monthly: QuotaWindow | None
    """Null when the month has no limit of its own. A request needs room in both."""
    note: str | None
    """For people, where the numbers alone would mislead."""


class QuotaDay(Shape):
    """One day (UTC) on which quota was used."""

    id: str
    quota_type: Literal["daily"] = "daily"
    period: str
    """The day, as YYYY-MM-DD."""
    usage_count: int
    quota_limit: int
    model_breakdown: JsonText
    """A JSON object as text: units by model key."""
    reset_at: Moment


class QuotaHistory(Shape):
    """The last 30 days, newest first; days without usage are left out."""

    history: list[QuotaDay]


class Period(Query):
    period: str | None = Field(default=None, pattern=r"^\d{4}-\d{2}-\d{2}$")
    """A day (UTC) of the last 30, as YYYY-MM-DD; without it, today."""


class QuotaUsage(Shape):
    """What was used on one day (UTC)."""

    quota_type: Literal["daily"] = "daily"
    period: str
    usage_count: int
    quota_limit: int
    remaining: int
    model_breakdown: dict[str, int]
    reset_at: Moment


class QuotaCheckBody(Body):
    model_key: Name
    quota_required: int | None = Field(default=None, ge=0, le=10**15)
    """Units; those of the model when they are not given."""


class QuotaCheck(Shape):
    """Whether that much quota is left. A quote tells more: whether the model may be used, and what would pay."""

    available: bool
    remaining: int
    """In the tightest window."""
    quota_limit: int
    """Of the day."""


async def quota_status(services: Services, request: ApiRequest) -> QuotaStatus:
    account, today = request.caller.account.at(request.now), window_at(Metric.DAILY, request.now)
    funds = await read_funds(services, account, request.now)
    breakdowns = await _breakdowns(services, account, today.start, today.end)
    daily = funds.daily or Allowance(today, limit=0, used=0)
    return QuotaStatus(
        remaining=daily.remaining,
        used=daily.used,
        limit=daily.limit,
        reset_at=daily.window.end,
        breakdown=breakdowns[today.start],
        monthly=_monthly(funds.monthly) if funds.monthly is not None else None,
        note=PAYG_NOTE if funds.daily is None else None,
    )


async def quota_history(services: Services, request: ApiRequest) -> QuotaHistory:
    return QuotaHistory(
        history=[
            QuotaDay(
                id=f"daily-{_period(day.window)}",
                period=_period(day.window),
                usage_count=day.used,
                quota_limit=day.limit,
                model_breakdown=day.breakdown,
                reset_at=day.window.end,
            )
            for day in await _days(services, request)
        ]
    )


async def quota_usage(services: Services, request: ApiRequest) -> QuotaUsage | Refusal:
    wanted = request.query_as(Period).period or _period(window_at(Metric.DAILY, request.now))
    window = _day_of(wanted, request.now)
    if window is None:
        return invalid_request(f"period: expected a day of the last {HISTORY_DAYS}, as YYYY-MM-DD", "period")
    plan = request.caller.account.at(request.now).plan
    unused = _Day(window, 0, plan.daily_quota if plan is not None else 0, {})
    day = next((day for day in await _days(services, request) if day.window == window), unused)
    return QuotaUsage(
        period=wanted,
        usage_count=day.used,
        quota_limit=day.limit,
        remaining=max(day.limit - day.used, 0),
        model_breakdown=day.breakdown,
        reset_at=window.end,
    )


async def quota_check(services: Services, request: ApiRequest) -> QuotaCheck | Refusal:
    body = request.body_as(QuotaCheckBody)
    model = services.rulebooks.current.catalogue.models.get(body.model_key)
    if model is None:
        return model_denied(body.model_key, "Model not found")
    funds = await read_funds(services, request.caller.account.at(request.now), request.now)
    required = model.quota_cost if body.quota_required is None else body.quota_required
    return QuotaCheck(
        available=funds.quota is not None and required <= funds.quota,
        remaining=funds.quota or 0,
        quota_limit=funds.daily.limit if funds.daily is not None else 0,
    )


def _period(window: Window) -> str:
    return f"{window.start:%Y-%m-%d}"


@dataclass(frozen=True, slots=True)
class _Day:
    """A daily window with what is used of it or held in it, its limit, and units by model key."""

    window: Window
    used: int
    limit: int
    breakdown: dict[str, int]


async def _days(services: Services, request: ApiRequest) -> list[_Day]:
    """The windows of the last 30 days that were used, newest first."""
    account, today = request.caller.account, window_at(Metric.DAILY, request.now)
    since = today.start - timedelta(days=HISTORY_DAYS - 1)
    rows = await services.store.database.read(reports.windows, account.account_id, since)
    breakdowns = await _breakdowns(services, account, since, today.end)
    windows = [(window_at(Metric.DAILY, row["window_start"]), row) for row in rows if row["metric"] == Metric.DAILY]
    return [_Day(window, row["used"] + row["held"], row["limit"], breakdowns[window.start]) for window, row in windows]


async def _breakdowns(
    services: Services, account: Account, since: datetime, until: datetime
) -> defaultdict[datetime, dict[str, int]]:
    """Units by model key, by the start of the day; a model whose units were all given back is left out."""
    rows = await services.store.database.read(reports.breakdown, account.account_id, since, until)
    days: defaultdict[datetime, dict[str, int]] = defaultdict(dict)
    for row in rows:
        if row["units"]:
            days[since + timedelta(days=row["day"])][row["model_key"]] = row["units"]
    return days


def _day_of(text: str, now: datetime) -> Window | None:
    """The window of a day, if there is such a day and the history reaches back to it."""
    try:
        window = window_at(Metric.DAILY, datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC))
    except ValueError:
        return None
    today = window_at(Metric.DAILY, now)
    return window if today.start - timedelta(days=HISTORY_DAYS - 1) <= window.start <= today.start else None


def _monthly(allowance: Allowance) -> QuotaWindow:
    return QuotaWindow(
        remaining=allowance.remaining, used=allowance.used, limit=allowance.limit, reset_at=allowance.window.end
    )

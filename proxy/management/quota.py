"""How much quota the caller has left, and what it was used for. Reading writes nothing.

Days are those of the plan's time zone, as each window was opened by; a day that was cut in two by a change of zone is
told as one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Literal

from pydantic import Field

from policies.callers import Account
from policies.refusals import Refusal, invalid_request, model_denied
from policies.terms import Metric
from policies.windows import UTC_CALENDAR, Calendar, day_of, day_window
from proxy.management.endpoint import ApiRequest
from proxy.management.funds import Allowance, read_funds
from proxy.management.shapes import Body, JsonText, Moment, Name, Query, Shape
from proxy.services import Services
from store import quota_reports

HISTORY_DAYS = 30

_LOOKED_THROUGH = timedelta(days=HISTORY_DAYS + 1)
"""Windows that began within this time hold all days of the history, wherever their midnight is."""

PAYG_NOTE = "This account pays with credits and has no quota."


class QuotaWindow(Shape):
    """Quota of one window. `used` counts what is held for requests that are still running."""

    remaining: int
    used: int
    limit: int
    carried: int
    """How much of the limit was left over from the window before."""
    reset_at: Moment


class QuotaStatus(QuotaWindow):
    """Quota of today. All zero for an account that pays with credits."""

    time_zone: str
    """Whose midnight, or other hour of the plan, ends the day."""

    breakdown: dict[str, int]
    """Units of today's finished requests by model key, less what was given back."""
    monthly: QuotaWindow | None
    """Null when the month has no limit of its own. A request needs room in both."""
    note: str | None
    """For people, where the numbers alone would mislead."""


class QuotaDay(Shape):
    """One day, of the plan's time zone, on which quota was used."""

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
    """A day of the last 30, of the plan's time zone, as YYYY-MM-DD; without it, today."""


class QuotaUsage(Shape):
    """What was used on one day, of the plan's time zone."""

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
    account = request.caller.account.at(request.now)
    calendar, funds = _calendar(account), await read_funds(services, account)
    daily = funds.daily or Allowance(day_window(calendar, day_of(calendar, request.now)), limit=0, used=0)
    return QuotaStatus(
        **_shown(daily),
        breakdown=await _breakdown(services, account, daily.window.start),
        monthly=QuotaWindow(**_shown(funds.monthly)) if funds.monthly is not None else None,
        time_zone=str(calendar.zone),
        note=PAYG_NOTE if funds.daily is None else None,
    )


async def quota_history(services: Services, request: ApiRequest) -> QuotaHistory:
    return QuotaHistory(
        history=[
            QuotaDay(
                id=f"daily-{day.period}",
                period=str(day.period),
                usage_count=day.used,
                quota_limit=day.limit,
                model_breakdown=day.breakdown,
                reset_at=day.end,
            )
            for day in (await _days(services, request)).values()
        ]
    )


async def quota_usage(services: Services, request: ApiRequest) -> QuotaUsage | Refusal:
    account = request.caller.account.at(request.now)
    today = day_of(_calendar(account), request.now)
    wanted = _day_in(request.query_as(Period).period, today)
    if wanted is None:
        return invalid_request(f"period: expected a day of the last {HISTORY_DAYS}, as YYYY-MM-DD", "period")
    day = await _today(services, account, today) if wanted == today else None
    day = day or (await _days(services, request)).get(wanted) or _unused_day(account, wanted)
    return QuotaUsage(
        period=str(wanted),
        usage_count=day.used,
        quota_limit=day.limit,
        remaining=max(day.limit - day.used, 0),
        model_breakdown=day.breakdown,
        reset_at=day.end,
    )


async def quota_check(services: Services, request: ApiRequest) -> QuotaCheck | Refusal:
    body = request.body_as(QuotaCheckBody)
    model = services.rulebooks.current.catalogue.models.get(body.model_key)
    if model is None:
        return model_denied(body.model_key, "Model not found")
    funds = await read_funds(services, request.caller.account.at(request.now))
    required = model.quota_cost if body.quota_required is None else body.quota_required
    return QuotaCheck(
        available=funds.quota is not None and required <= funds.quota,
        remaining=funds.quota or 0,
        quota_limit=funds.daily.limit if funds.daily is not None else 0,
    )


def _calendar(account: Account) -> Calendar:
    """The calendar that an account's quota renews by; that of UTC where there is none."""
    terms = account.quota_terms
    return terms.calendar if terms is not None else UTC_CALENDAR


def _shown(allowance: Allowance) -> dict[str, int | datetime]:
    return {
        "remaining": allowance.remaining,
        "used": allowance.used,
        "limit": allowance.limit,
        "carried": allowance.carried,
        "reset_at": allowance.window.end,
    }


@dataclass(slots=True)
class _Day:
    """A day with what is used on it or held, its limit, and units by model key."""

    period: date
    end: datetime
    used: int
    limit: int
    breakdown: Counter[str] = field(default_factory=Counter)


async def _days(services: Services, request: ApiRequest) -> dict[date, _Day]:
    """The days of the history that have windows, newest first."""
    account, now = request.caller.account.at(request.now), request.now
    oldest = day_of(_calendar(account), now) - timedelta(days=HISTORY_DAYS - 1)
    since, read = now - _LOOKED_THROUGH, services.store.database.read
    rows = await read(quota_reports.windows, account.account_id, since)
    models = await read(quota_reports.breakdown, account.account_id, since)
    days: dict[date, _Day] = {}
    for row in rows:
        if row["metric"] == Metric.DAILY and row["day"] >= oldest:
            day = days.setdefault(row["day"], _Day(row["day"], row["window_end"], 0, 0))
            day.used += row["used"] + row["held"]
            day.limit += row["allowed"]
            day.breakdown.update(models[row["window_start"]])
    return days


async def _today(services: Services, account: Account, today: date) -> _Day | None:
    """What the next request will meet; None for an account that pays with credits."""
    now = (await read_funds(services, account)).daily
    if now is None:
        return None
    breakdown = await _breakdown(services, account, now.window.start)
    return _Day(today, now.window.end, now.used, now.limit, Counter(breakdown))


def _unused_day(account: Account, day: date) -> _Day:
    limit = account.plan.daily_quota if account.plan is not None else 0
    return _Day(day, day_window(_calendar(account), day).end, 0, limit)


async def _breakdown(services: Services, account: Account, start: datetime) -> dict[str, int]:
    """Units by model key in the daily window that began at `start`."""
    return (await services.store.database.read(quota_reports.breakdown, account.account_id, start))[start]


def _day_in(text: str | None, today: date) -> date | None:
    """The day that is asked for, if there is such a day and the history reaches back to it."""
    try:
        day = today if text is None else date.fromisoformat(text)
    except ValueError:
        return None
    return day if today - timedelta(days=HISTORY_DAYS - 1) <= day <= today else None

"""What accounts and operators read of quota: the windows in force, those of the past, and what they were used for.

The windows in force are those of the ledger's own book, opened by its own functions where they have no row yet, and
by the clock that it uses: what is shown here is what the next request will meet. Reading writes nothing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime, time, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.quota import FairUseTerms, QuotaTerms
from policies.terms import AccountId, Funding, Metric
from policies.windows import Calendar, day_of
from store.catalogue import stored_zone
from store.ids import first_id_at
from store.open_holds import taken_by_open_holds
from store.quota_book import QuotaBook
from store.quota_rows import load_windows
from store.rows import WindowRow
from store.tables import holds, plan_versions, quota_windows, usage_events

Row = dict[str, Any]

SKEW = timedelta(days=1)
"""How far the process that numbered a request may have been from the clock that chose its window, and then some."""


def windows_now(connection: Connection, account_id: AccountId, terms: QuotaTerms, now: datetime) -> list[WindowRow]:
    """The windows that a request would be counted in at `now`, in the order in which the ledger asks them."""
    book = QuotaBook(now)
    taken = taken_by_open_holds(connection, [account_id])
    load_windows(connection, book, taken, [(account_id, metric) for metric, _ in terms.limits()])
    return [book.window(account_id, metric, limit, terms) for metric, limit in terms.limits()]


def fair_use_now(connection: Connection, account_id: AccountId, terms: FairUseTerms, now: datetime) -> WindowRow:
    """The window that an exempt request would be counted in at `now`."""
    book = QuotaBook(now)
    key = account_id, terms.window(now).start, terms.metric
    load_windows(connection, book, taken_by_open_holds(connection, [account_id]), [], [key])
    return book.fair_use_window(account_id, terms)


def windows(connection: Connection, account_id: int, since: datetime) -> list[Row]:
    """The windows that began at `since` or later, newest first; those of exemptions too.

    `allowed` is all that could be used in one, and `held` what open holds have taken; `day` is the date on which it
    began, by the calendar it was opened by.
    """
    window, plan = quota_windows.c, plan_versions.c
    query = (
        sa.select(quota_windows, plan.quota_timezone, plan.quota_day_starts)
        .join_from(quota_windows, plan_versions, plan.id == window.opened_by, isouter=True)
        .where(window.account_id == account_id, window.window_start >= since)
        .order_by(window.window_start.desc(), window.metric)
    )
    rows = [dict(row) for row in connection.execute(query).mappings()]
    taken = taken_by_open_holds(connection, [account_id]).windows
    for row in rows:
        row["held"] = taken[AccountId(account_id), row["window_start"], row["metric"]]
        zone, day_starts = row.pop("quota_timezone") or "UTC", row.pop("quota_day_starts") or "00:00"
        row["day"] = day_of(Calendar(stored_zone(zone), time.fromisoformat(day_starts)), row["window_start"])
        row["allowed"] = row["limit"] + row["carried"]
    return rows


def breakdown(connection: Connection, account_id: int, since: datetime) -> defaultdict[datetime, dict[str, int]]:
    """Quota units of the daily windows since a moment, by their start and by model, less what was given back.

    Usage counts for the window that its request was counted in; a model whose units were all given back is left out.
    """
    events = usage_events.c
    # The same text for all holds of the same windows, so that the database can add them up.
    taken = sa.type_coerce(holds.c.taken, sa.Text)
    # PostgreSQL adds BIGINTs up to a NUMERIC, which is a Decimal here.
    units = sa.cast(sa.func.sum(events.charged - holds.c.refunded_amount), sa.BigInteger)
    query = (
        sa.select(taken, events.model_key, units)
        .join_from(usage_events, holds, holds.c.id == events.id)
        .where(
            events.account_id == account_id,
            events.id >= first_id_at(since - SKEW),
            events.funding == Funding.QUOTA,
        )
        .group_by(taken, events.model_key)
    )
    days: defaultdict[datetime, dict[str, int]] = defaultdict(dict)
    for text, model_key, used in connection.execute(query):
        start = _daily_start(text)
        if start >= since:
            models = days[start]
            models[model_key] = models.get(model_key, 0) + used
    return defaultdict(dict, {start: {key: used for key, used in day.items() if used} for start, day in days.items()})


def _daily_start(taken: str) -> datetime:
    starts = dict(json.loads(taken)["windows"])
    return datetime.fromisoformat(starts[Metric.DAILY])

"""What accounts and operators read: balances, windows, entries, usage, holds. Reading writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.terms import AccountId, HoldId, Metric
from policies.windows import Window, window_at
from store.ids import first_id_at
from store.tables import accounts, credit_grants, holds, ledger_entries, quota_windows, usage_events

Row = dict[str, Any]

_refunded = sa.func.coalesce(holds.c.refunded_amount, 0)
"""Of a usage event joined with its hold."""


@dataclass(frozen=True, slots=True)
class Balance:
    """In micro-credits. `available` is what a new request may spend: grants that have lapsed do not count."""

    posted: int
    pending: int
    available: int


def balance(connection: Connection, account_id: int, now: datetime) -> Balance:
    row = connection.execute(sa.select(accounts.c.posted, accounts.c.pending).where(accounts.c.id == account_id)).one()
    grants = credit_grants.c
    spendable = (grants.effective_at <= now) & (grants.expires_at.is_(None) | (grants.expires_at > now))
    total = sa.select(sa.func.coalesce(sa.func.sum(grants.remaining), 0)).where(
        grants.account_id == account_id, (grants.remaining > 0) | (grants.held > 0), spendable
    )
    return Balance(row.posted, row.pending, int(connection.execute(total).scalar_one()))


def grants(connection: Connection, account_id: int) -> list[Row]:
    """The grants that have anything left, in spend order."""
    columns = credit_grants.c
    query = (
        sa.select(credit_grants)
        .where(columns.account_id == account_id, (columns.remaining > 0) | (columns.held > 0))
        .order_by(columns.priority, columns.expires_at.is_(None), columns.expires_at, columns.id)
    )
    return _rows(connection, query)


def entries(connection: Connection, account_id: int, before: int | None, limit: int) -> list[Row]:
    """Ledger entries, newest first, below the version `before`; those of a grant with its `source`."""
    query = (
        sa.select(ledger_entries, credit_grants.c.source)
        .join(credit_grants, credit_grants.c.id == ledger_entries.c.grant_id, isouter=True)
        .where(ledger_entries.c.account_id == account_id)
    )
    if before is not None:
        query = query.where(ledger_entries.c.version < before)
    return _rows(connection, query.order_by(ledger_entries.c.version.desc()).limit(limit))


def window(connection: Connection, account_id: int, metric: Metric, now: datetime) -> tuple[Window, int, int]:
    """The window of `now`, with what was used of it and what is held in it."""
    current = window_at(metric, now)
    query = sa.select(quota_windows.c.used, quota_windows.c.held).where(
        quota_windows.c.account_id == account_id,
        quota_windows.c.window_start == current.start,
        quota_windows.c.metric == metric,
    )
    row = connection.execute(query).first()
    return (current, row.used, row.held) if row is not None else (current, 0, 0)


def windows(connection: Connection, account_id: int, since: datetime) -> list[Row]:
    """The windows since a moment, newest first."""
    query = sa.select(quota_windows).where(
        quota_windows.c.account_id == account_id, quota_windows.c.window_start >= since
    )
    return _rows(connection, query.order_by(quota_windows.c.window_start.desc(), quota_windows.c.metric))


def breakdown(connection: Connection, account_id: int, since: datetime, until: datetime) -> list[Row]:
    """Quota units by model and by days since `since`, a midnight, less what was given back.

    Usage counts for the day of its request.
    """
    events = usage_events.c
    first = first_id_at(since)
    day = (events.id - first) // (first_id_at(since + timedelta(days=1)) - first)
    # PostgreSQL adds BIGINTs up to a NUMERIC, which is a Decimal here.
    units = sa.cast(sa.func.sum(events.charged - _refunded), sa.BigInteger)
    query = (
        sa.select(day.label("day"), events.model_key, units.label("units"))
        .join_from(usage_events, holds, holds.c.id == events.id, isouter=True)
        .where(
            events.account_id == account_id,
            events.id >= first_id_at(since),
            events.id < first_id_at(until),
            events.funding == "quota",
        )
        .group_by(day, events.model_key)
    )
    return _rows(connection, query)


def usage(connection: Connection, account_id: int | None, before: int | None, limit: int) -> list[Row]:
    """Usage events, newest first, below the id `before`; of one account, or of all for operators.

    `refunded` is how much of `charged` was given back.
    """
    query = sa.select(usage_events, _refunded.label("refunded")).join_from(
        usage_events, holds, holds.c.id == usage_events.c.id, isouter=True
    )
    if account_id is not None:
        query = query.where(usage_events.c.account_id == account_id)
    if before is not None:
        query = query.where(usage_events.c.id < before)
    return _rows(connection, query.order_by(usage_events.c.id.desc()).limit(limit))


def popular(connection: Connection, since: datetime, limit: int) -> list[tuple[str, int]]:
    """The most used models since a moment, with their number of calls."""
    calls = sa.func.count().label("calls")
    query = (
        sa.select(usage_events.c.model_key, calls)
        .where(usage_events.c.id >= first_id_at(since))
        .group_by(usage_events.c.model_key)
        .order_by(calls.desc(), usage_events.c.model_key)
        .limit(limit)
    )
    return [(row.model_key, row.calls) for row in connection.execute(query)]


def hold(connection: Connection, hold_id: int) -> Row | None:
    row = connection.execute(sa.select(holds).where(holds.c.id == hold_id)).mappings().first()
    return dict(row) if row is not None else None


def open_holds(connection: Connection, limit: int) -> list[Row]:
    """Open holds, the soonest due first."""
    query = sa.select(holds).where(holds.c.state == "reserved").order_by(holds.c.deadline).limit(limit)
    return _rows(connection, query)


@dataclass(frozen=True, slots=True)
class JobHold:
    """The hold of a job, by the backend's id for it."""

    hold_id: HoldId
    account_id: AccountId
    job_id: str
    state: str
    units: dict[str, str]


def job_holds(connection: Connection, route_ids: Sequence[str], job_ids: Sequence[str]) -> list[JobHold]:
    """The holds bound to these jobs of these routes, whoever they belong to."""
    columns = holds.c
    query = sa.select(columns.id, columns.account_id, columns.job_id, columns.state, columns.units).where(
        columns.route_id.in_(route_ids), columns.job_id.in_(job_ids)
    )
    return [JobHold(*row) for row in connection.execute(query)]


def _rows(connection: Connection, query: sa.Select[Any]) -> list[Row]:
    return [dict(row) for row in connection.execute(query).mappings()]

"""What accounts and operators read: balances, entries, usage, holds. Reading writes nothing.

Of quota there is a file of its own: `store.quota_reports`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.terms import AccountId, HoldId
from store.ids import first_id_at
from store.open_holds import taken_by_open_holds
from store.tables import credit_grants, holds, ledger_entries, usage_events

Row = dict[str, Any]

_UNSPENT = sa.text("NOT spent")

_refunded = sa.func.coalesce(holds.c.refunded_amount, 0)
"""Of a usage event joined with its hold."""


@dataclass(frozen=True, slots=True)
class Balance:
    """In micro-credits. `posted` is what grants have left, `pending` what open holds have taken of it.

    `available` is what a new request may spend: grants that have lapsed do not count.
    """

    posted: int
    pending: int
    available: int


def balance(connection: Connection, account_id: int, now: datetime) -> Balance:
    columns = credit_grants.c
    query = sa.select(columns.id, columns.unspent, columns.effective_at, columns.expires_at)
    rows = connection.execute(query.where(columns.account_id == account_id, _UNSPENT)).all()
    taken = taken_by_open_holds(connection, [account_id])
    available = sum(
        row.unspent - taken.grants[row.id]
        for row in rows
        if row.effective_at <= now and (row.expires_at is None or row.expires_at > now)
    )
    return Balance(sum(row.unspent for row in rows), taken.credits[AccountId(account_id)], available)


def grants(connection: Connection, account_id: int) -> list[Row]:
    """The grants that have anything left, in spend order: with what is `held` of it, and the `remaining` rest."""
    columns = credit_grants.c
    query = (
        sa.select(credit_grants)
        .where(columns.account_id == account_id, _UNSPENT)
        .order_by(columns.priority, columns.expires_at.is_(None), columns.expires_at, columns.id)
    )
    held = taken_by_open_holds(connection, [account_id]).grants
    return [
        {**row, "held": held[row["id"]], "remaining": row["unspent"] - held[row["id"]]}
        for row in _rows(connection, query)
    ]


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

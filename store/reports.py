"""What accounts and operators read: balances, entries, usage, holds. Reading writes nothing.

Of quota there is a file of its own, `store.quota_reports`, and of sums of usage too, `store.usage_sums`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.spending import DEFAULT_ORDER, SpendOrder, spend_key
from policies.terms import AccountId
from store.open_holds import taken_by_open_holds
from store.tables import accounts, credit_grants, holds, ledger_entries, usage_events

Row = dict[str, Any]

_UNSPENT = sa.text("NOT spent")

_refunded = sa.func.coalesce(holds.c.refunded_amount, 0)
"""Of a usage event joined with its hold."""


@dataclass(frozen=True, slots=True)
class Balance:
    """In micro-credits. `posted` is what grants have left, less what overruns have left owed; `pending` is what open
    holds have taken of it.

    `available` is what a new request may spend: grants that have lapsed do not count, and what is owed is below zero.
    """

    posted: int
    pending: int
    available: int


def balance(connection: Connection, account_id: int, now: datetime) -> Balance:
    columns = credit_grants.c
    query = sa.select(columns.id, columns.unspent, columns.effective_at, columns.expires_at)
    rows = connection.execute(query.where(columns.account_id == account_id, _UNSPENT)).all()
    owed = connection.execute(sa.select(accounts.c.overdrawn).where(accounts.c.id == account_id)).scalar_one()
    taken = taken_by_open_holds(connection, [account_id])
    spendable = sum(
        row.unspent - taken.grants[row.id]
        for row in rows
        if row.effective_at <= now and (row.expires_at is None or row.expires_at > now)
    )
    posted = sum(row.unspent for row in rows) - owed
    return Balance(posted, taken.credits[AccountId(account_id)], spendable - owed)


def grants(connection: Connection, account_id: int, order: SpendOrder = DEFAULT_ORDER) -> list[Row]:
    """The grants that have anything left, in the order in which they are spent: with what is `held` of each, and the
    `remaining` rest.
    """
    query = sa.select(credit_grants).where(credit_grants.c.account_id == account_id, _UNSPENT)
    held = taken_by_open_holds(connection, [account_id]).grants
    return [
        {**row._mapping, "held": held[row.id], "remaining": row.unspent - held[row.id]}
        for row in sorted(connection.execute(query), key=spend_key(order))
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


def hold(connection: Connection, hold_id: int) -> Row | None:
    row = connection.execute(sa.select(holds).where(holds.c.id == hold_id)).mappings().first()
    return dict(row) if row is not None else None


def open_holds(connection: Connection, limit: int) -> list[Row]:
    """Open holds, the soonest due first."""
    query = sa.select(holds).where(holds.c.state == "reserved").order_by(holds.c.deadline).limit(limit)
    return _rows(connection, query)


def _rows(connection: Connection, query: sa.Select[Any]) -> list[Row]:
    return [dict(row) for row in connection.execute(query).mappings()]

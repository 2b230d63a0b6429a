"""The ledger's tables, row by row, for bookkeeping elsewhere: everything on the one snapshot of the connection.

Read along primary keys and a chunk at a time, so that memory holds one chunk whatever the number of rows, and nobody
who writes meanwhile waits. What becomes of the rows is the business of `proxy.export`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.terms import AccountId
from store.findings import Progress
from store.open_holds import taken_by_open_holds
from store.tables import credit_grants, holds, ledger_entries, usage_events

ROWS_AT_ONCE = 5_000
"""Rows in memory at once: some megabytes, and some milliseconds, so that progress is seen to move."""

Row = Mapping[Any, Any]
"""By the names of the columns."""
Take = Callable[[Sequence[Row]], object]


class Exported(StrEnum):
    """What can be exported."""

    ENTRIES = "entries"
    GRANTS = "grants"
    HOLDS = "holds"
    USAGE = "usage"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows: of one account or of all, from `since` on, and before `until`."""

    account_id: AccountId | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Table:
    """How a table is read: its query, the key that it is read along, the moment that is selected by."""

    query: sa.Select[Any]
    key: tuple[sa.Column[int], ...]
    account: sa.Column[int]
    at: sa.Column[datetime]


_TABLES = {
    Exported.ENTRIES: _Table(
        sa.select(ledger_entries, credit_grants.c.source).join(
            credit_grants, credit_grants.c.id == ledger_entries.c.grant_id, isouter=True
        ),
        (ledger_entries.c.account_id, ledger_entries.c.version),
        ledger_entries.c.account_id,
        ledger_entries.c.at,
    ),
    Exported.GRANTS: _Table(
        sa.select(credit_grants), (credit_grants.c.id,), credit_grants.c.account_id, credit_grants.c.created_at
    ),
    Exported.HOLDS: _Table(sa.select(holds), (holds.c.id,), holds.c.account_id, holds.c.created_at),
    Exported.USAGE: _Table(
        sa.select(usage_events, holds.c.refunded_amount.label("refunded")).join(
            holds, holds.c.id == usage_events.c.id, isouter=True
        ),
        (usage_events.c.id,),
        usage_events.c.account_id,
        usage_events.c.at,
    ),
}


def export(
    connection: Connection,
    what: Exported,
    selection: Selection,
    take: Take,
    progress: Progress = lambda table, done, total: None,
) -> int:
    """Hand the rows to `take`, chunk by chunk, in the order of their keys; returns how many there were."""
    table = _TABLES[what]
    chosen = _selected(table, selection)
    total = connection.execute(sa.select(sa.func.count()).select_from(table.at.table).where(chosen)).scalar_one()
    query = table.query.where(chosen).order_by(*table.key).limit(ROWS_AT_ONCE)
    done, page = 0, query
    while rows := [row._mapping for row in connection.execute(page)]:
        take(_with_held(connection, rows) if what is Exported.GRANTS else rows)
        done += len(rows)
        progress(str(what), done, total)
        last = tuple(rows[-1][column.name] for column in table.key)
        page = query.where(sa.tuple_(*table.key) > last)
    return done


def _with_held(connection: Connection, rows: Sequence[Row]) -> list[Row]:
    """Grants with what is `held` of each, and the `remaining` rest."""
    held = taken_by_open_holds(connection, sorted({row["account_id"] for row in rows})).grants
    return [{**row, "held": held[row["id"]], "remaining": row["unspent"] - held[row["id"]]} for row in rows]


def _selected(table: _Table, selection: Selection) -> sa.ColumnElement[bool]:
    conditions: list[sa.ColumnElement[bool]] = []
    if selection.account_id is not None:
        conditions.append(table.account == selection.account_id)
    if selection.since is not None:
        conditions.append(table.at >= selection.since)
    if selection.until is not None:
        conditions.append(table.at < selection.until)
    return sa.and_(sa.true(), *conditions)

"""What was decided about metered requests: written in batches behind them, read by operators.

A row has what is asked for most, and the rest as JSON: the caller as it was, the request, the quote. Nothing here
decides anything; a row that is missing is missing from explanations and comparisons alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from store.columns import json_text, to_micros
from store.ids import first_id_at
from store.prepared import Writing
from store.tables import decisions

PURGE_SIZE = 5_000
"""Rows that are dropped at once, so that no request waits for it."""

Row = dict[str, Any]


_NAMES = [column.name for column in decisions.columns]
# `WHERE true` ends the SELECT: without it SQLite takes the `ON` that follows for that of a join.
_WRITE = Writing(
    list(decisions.columns),
    f"INSERT INTO decisions ({', '.join(_NAMES)}) SELECT * FROM {{rows}} WHERE true"
    f" ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _NAMES[1:])}",
)


def write(connection: Connection, rows: Sequence[Row]) -> None:
    """Add rows. A request that is decided anew keeps its last row."""
    latest = {row["id"]: row for row in rows}
    _WRITE.run(connection, [_values(row) for row in latest.values()])


def _values(row: Row) -> tuple[Any, ...]:
    values = row | {"at": to_micros(row["at"]), "details": json_text(row["details"])}
    return tuple(values[name] for name in _NAMES)


def purge(connection: Connection, until: datetime) -> int:
    """Drop rows from before a moment, so many at a time; their number."""
    old = (
        sa.select(decisions.c.id).where(decisions.c.id < first_id_at(until)).order_by(decisions.c.id).limit(PURGE_SIZE)
    )
    return connection.execute(sa.delete(decisions).where(decisions.c.id.in_(old))).rowcount


def find(connection: Connection, request_id: int) -> Row | None:
    row = connection.execute(sa.select(decisions).where(decisions.c.id == request_id)).mappings().first()
    return dict(row) if row is not None else None


def page(
    connection: Connection,
    *,
    account_id: int | None = None,
    rule: str | None = None,
    refused: bool = False,
    differs: bool = False,
    before: int | None = None,
    since: datetime | None = None,
    limit: int,
) -> list[Row]:
    """Decisions, newest first, below the id `before`; with `since` those on requests from then on, and with `differs`
    those that a candidate would have decided otherwise.
    """
    columns = decisions.c
    query = sa.select(decisions).order_by(columns.id.desc()).limit(limit)
    if account_id is not None:
        query = query.where(columns.account_id == account_id)
    if rule is not None:
        query = query.where(columns.rule == rule)
    if refused:
        query = query.where(~columns.allowed)
    if differs:
        # As the key stands in the stored text: such decisions are few, and a look over some days of them is rare.
        query = query.where(sa.type_coerce(columns.details, sa.Text).contains('"candidate":"would '))
    if before is not None:
        query = query.where(columns.id < before)
    if since is not None:
        query = query.where(columns.id >= first_id_at(since))
    return [dict(row) for row in connection.execute(query).mappings()]

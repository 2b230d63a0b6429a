"""Rows that may not be there yet, alike on both databases: making them, and adding to them. For sums that jobs keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def ensure(connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
    """Put a row where there is none of its key."""
    connection.execute(_insert(connection, table).on_conflict_do_nothing(), [row])


def add(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add each row's amounts, which are all columns but the key, to the row of its key."""
    if not rows:
        return
    names = [column.name for column in table.primary_key]
    insert = _insert(connection, table)
    sums = {column.name: column + insert.excluded[column.name] for column in table.c if column.name not in names}
    # In the order of the keys, so that two who add to the same rows wait for each other and do not deadlock.
    ordered = sorted(rows, key=lambda row: [row[name] for name in names])
    connection.execute(insert.on_conflict_do_update(index_elements=names, set_=sums), ordered)


def _insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)

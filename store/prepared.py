"""Statements of the hot path: written in SQLAlchemy Core, compiled once for each dialect, run with plain values.

Core's way from a statement to the driver costs ten times what SQLite needs for the statement itself. A prepared one
has its text and the order of its parameters at hand; the values it is given are already what the driver takes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Dialect

AnyOf = Callable[[sa.Column[Any], str], sa.ColumnElement[bool]]
"""Makes the condition that a BIGINT column is among the integers of a parameter."""


def _any_of(dialect: Dialect) -> AnyOf:
    """One parameter for a whole list, so that the text does not depend on its length."""
    if dialect.name == "sqlite":

        def in_json(column: sa.Column[Any], name: str) -> sa.ColumnElement[bool]:
            listed = sa.func.json_each(bindparam(name, type_=sa.Text)).table_valued("value")
            return column.in_(sa.select(listed.c.value))

        return in_json
    return lambda column, name: column == sa.any_(bindparam(name, type_=ARRAY(sa.BigInteger)))


class Prepared:
    """One statement. `build` gets the dialect's way of asking for a list."""

    def __init__(self, build: Callable[[AnyOf], sa.Select[Any] | sa.Insert | sa.Update]) -> None:
        self._build = build
        self._compiled: dict[str, tuple[str, tuple[str, ...]]] = {}

    def _text(self, connection: Connection) -> tuple[str, tuple[str, ...]]:
        dialect = connection.dialect
        found = self._compiled.get(dialect.name)
        if found is None:
            compiled = self._build(_any_of(dialect)).compile(dialect=dialect)
            assert compiled.positiontup is not None, "both drivers take parameters by position"
            found = self._compiled[dialect.name] = (str(compiled), tuple(compiled.positiontup))
        return found

    def rows(self, connection: Connection, lists: Mapping[str, Sequence[int]]) -> Sequence[Sequence[Any]]:
        """The rows of a SELECT whose parameters are lists of integers."""
        text, names = self._text(connection)
        as_json = connection.dialect.name == "sqlite"
        values = tuple(json.dumps(lists[name]) if as_json else list(lists[name]) for name in names)
        return connection.exec_driver_sql(text, values).all()

    def run(self, connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """The statement once for each row of values; nothing when there are none."""
        text, names = self._text(connection)
        values = [tuple(row[name] for name in names) for row in rows]
        if values:
            connection.exec_driver_sql(text, values)


def inserting(table: sa.Table) -> Prepared:
    """An INSERT with a value for every column."""
    return Prepared(lambda _: sa.insert(table).values({column.name: bindparam(column.name) for column in table.c}))


def updating(table: sa.Table, changed: Sequence[str], *guards: sa.ColumnElement[bool]) -> Prepared:
    """An UPDATE of the columns `changed`, by primary key; `guards` must hold as well."""
    values = {name: bindparam(name, type_=table.c[name].type) for name in changed}
    # A parameter may not have the name of a column that the statement sets, hence the prefix.
    keys = [column == bindparam(f"where_{column.name}", type_=column.type) for column in table.primary_key]
    return Prepared(lambda _: sa.update(table).where(*keys, *guards).values(values))

"""Statements of the hot path: their text is made once for each dialect, and they are run with plain values.

Core's way from a statement to the driver costs ten times what SQLite needs for the statement itself. A prepared one
has its text and the order of its parameters at hand; the values it is given are already what the driver takes.

Reading asks for a list of keys in one parameter. Writing hands over many rows at once: PostgreSQL gets one array for
each column, SQLite a VALUES list. A row at a time would be many statements, and between any two of them SQLite's driver
lets another thread of Python go first.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect


@dataclass(frozen=True, slots=True)
class Lists:
    """Each dialect's way of asking for a list of values in one parameter, so that the text does not depend on it."""

    dialect: Dialect

    def table(self, name: str) -> sa.TableValuedAlias:
        """The list as a table with the column `value`."""
        if self.dialect.name == "sqlite":
            return sa.func.json_each(bindparam(name, type_=sa.Text)).table_valued("value", name=name)
        numbers = bindparam(name, type_=postgresql.ARRAY(sa.BigInteger))
        return sa.func.unnest(numbers).table_valued("value", name=name).render_derived()

    def has(self, column: sa.Column[Any], name: str) -> sa.ColumnElement[bool]:
        """Whether the column is among them."""
        if self.dialect.name == "sqlite":
            return column.in_(sa.select(self.table(name).c.value))
        kind = sa.Text() if isinstance(column.type, sa.Text) else sa.BigInteger()
        return column == sa.any_(bindparam(name, type_=postgresql.ARRAY(kind)))


MAX_ROWS = 64
"""Rows in one VALUES list: with at most 25 columns far below SQLite's 32 766 parameters."""


Parameter = int | Sequence[int] | Sequence[str]


class Reading:
    """A SELECT whose parameters are integers, and lists of integers or of texts."""

    def __init__(self, build: Callable[[Lists], sa.SelectBase]) -> None:
        self._build = build
        self._compiled: dict[str, tuple[str, tuple[str, ...]]] = {}

    def rows(self, connection: Connection, parameters: Mapping[str, Parameter]) -> Sequence[Sequence[Any]]:
        dialect = connection.dialect
        found = self._compiled.get(dialect.name)
        if found is None:
            compiled = self._build(Lists(dialect)).compile(dialect=dialect)
            assert compiled.positiontup is not None, "both drivers take parameters by position"
            found = self._compiled[dialect.name] = (str(compiled), tuple(compiled.positiontup))
        text, names = found
        if dialect.name == "sqlite":
            return _on_driver(connection, text, tuple(_or_json(parameters[name]) for name in names))
        values = (parameters[name] for name in names)
        lists = tuple(value if isinstance(value, int) else list(value) for value in values)
        return connection.exec_driver_sql(text, lists).all()


def _or_json(value: Parameter) -> int | str:
    return value if isinstance(value, int) else json.dumps(value)


def _on_driver(connection: Connection, text: str, values: tuple[Any, ...]) -> Sequence[Sequence[Any]]:
    """SQLite's rows, from its driver: a dozen statements in each transaction, and Core takes longer than the database.

    Raises what Core would have raised.
    """
    cursor = connection.connection.cursor()
    try:
        cursor.execute(text, values)
        return cursor.fetchall()
    except sqlite3.Error as error:
        raise sa.exc.DBAPIError.instance(text, values, error, sqlite3.Error, dialect=connection.dialect) from error
    finally:
        cursor.close()


class Writing:
    """A statement that takes a set of rows. In `text`, `{rows}` stands for them: a table v with column1, column2, …

    Where it joins them with a table, it ends with a condition, and `key` is the column of the table that column1 finds.
    """

    def __init__(self, columns: Sequence[sa.Column[Any]], text: str, key: str | None = None) -> None:
        self._kinds = tuple(column.type.compile(_POSTGRESQL) for column in columns)
        self._text = text
        # PostgreSQL keeps the plan that it made for a table when that was empty: to read all of it. Not with this.
        self._for_arrays = text if key is None else f"{text} AND {key} = ANY($1::{self._kinds[0]}[])"

    def run(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
        """All rows, or nothing when there are none."""
        if not rows:
            return
        if connection.dialect.name == "sqlite":
            for start, size in _portions(len(rows)):
                values = tuple(chain.from_iterable(rows[start : start + size]))
                _on_driver(connection, _with_values(self._text, len(self._kinds), size), values)
        else:
            text = _with_arrays(self._for_arrays, self._kinds)
            connection.exec_driver_sql(text, tuple(map(list, zip(*rows, strict=True))))


_POSTGRESQL: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]


def _portions(count: int) -> list[tuple[int, int]]:
    """Start and size of the portions of `count` rows. Sizes are powers of two, so that few texts are prepared."""
    portions, start = [], 0
    while start < count:
        size = min(1 << ((count - start).bit_length() - 1), MAX_ROWS)
        portions.append((start, size))
        start += size
    return portions


@lru_cache(maxsize=256)
def _with_values(text: str, columns: int, rows: int) -> str:
    # A statement that may be undone alone keeps a copy of each page it changes. This one fails with its transaction.
    verb, _, rest = text.partition(" ")
    row, text = f"({','.join('?' * columns)})", f"{verb} OR FAIL {rest}"
    return text.replace("{rows}", f"(VALUES {','.join([row] * rows)}) AS v")


@lru_cache(maxsize=64)
def _with_arrays(text: str, kinds: tuple[str, ...]) -> str:
    arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(kinds, 1))
    names = ", ".join(f"column{number}" for number in range(1, len(kinds) + 1))
    return text.replace("{rows}", f"unnest({arrays}) AS v({names})")


def inserting(table: sa.Table) -> Writing:
    """Rows with a value for every column."""
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    return Writing(list(table.columns), f"INSERT INTO {table.name} ({names}) SELECT * FROM {{rows}}")


def updating(table: sa.Table, changed: Sequence[str], guard: str = "") -> Writing:
    """Rows that begin with the primary key and go on with the columns `changed`; `guard` must hold as well."""
    keys = list(table.primary_key)
    where = " AND ".join(f'{table.name}."{key.name}" = v.column{number}' for number, key in enumerate(keys, 1))
    values = ", ".join(f'"{name}" = v.column{number}' for number, name in enumerate(changed, len(keys) + 1))
    columns = [*keys, *(table.columns[name] for name in changed)]
    text = f"UPDATE {table.name} SET {values} FROM {{rows}} WHERE {where}{guard}"
    return Writing(columns, text, f'{table.name}."{keys[0].name}"')

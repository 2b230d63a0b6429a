"""What verification is made of: stretches of a table, sums over them, and the breaches that were found."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy import Connection

MAX_LISTED = 1_000
"""Breaches that are listed for a law: enough to see what they have in common, and a bound for a broken database."""

Progress = Callable[[str, int, int], None]
"""Called with the table that is being read, the rows read, and the rows there are."""


@dataclass(slots=True)
class Findings:
    """By law: how much was looked at, and what breaks it."""

    checked: Counter[str] = field(default_factory=Counter)
    breaches: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def breach(self, law: str, what: str) -> None:
        if len(self.breaches[law]) < MAX_LISTED:
            self.breaches[law].append(what)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of ids: `after` itself is not in it, `upto` is."""

    after: int
    upto: int
    count: int

    def has(self, column: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
        return (column > self.after) & (column <= self.upto)


def chunks(connection: Connection, key: sa.Column[int], size: int, progress: Progress) -> Iterator[Span]:
    """The table of `key`, cut into stretches of `size` rows."""
    total = connection.execute(sa.select(sa.func.count()).select_from(key.table)).scalar_one()
    after, done = -1, 0
    while True:
        rows = sa.select(key).where(key > after).order_by(key).limit(size).subquery()
        upto, count = connection.execute(sa.select(sa.func.max(rows.c[0]), sa.func.count(rows.c[0]))).one()
        if not count:
            return
        yield Span(after, upto, count)
        after, done = upto, done + count
        progress(str(key.table.name), done, total)


def sums_by(
    connection: Connection, key: sa.Column[int], where: sa.ColumnElement[bool], value: sa.ColumnElement[int]
) -> dict[int, int]:
    """For each value of `key`, the sum of `value`."""
    query = sa.select(key, sa.func.sum(value)).where(where).group_by(key)
    # PostgreSQL adds BIGINTs up to a NUMERIC, which is a Decimal here.
    return {number: int(total) for number, total in connection.execute(query)}

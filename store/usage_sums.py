"""Sums of usage, for dashboards: what the roll-up has counted, and beyond its frontier the rows themselves.

The parts are read in one snapshot and never overlap, so the sums are those of all rows, to the unit, whether the job
that counts has just run or never has. Refunds are read from the holds that have any, and from the roll-up for what has
been archived. Called by the management API and by operators; reading writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.terms import Funding, Metric
from policies.windows import UTC_CALENDAR, window_at
from store.ids import first_id_at
from store.ledger_tables import REFUNDED
from store.roll_up import EVERYBODY, Frontier, frontier, request_day
from store.tables import holds, usage_daily, usage_events
from store.usage_tables import LATE

Condition = sa.ColumnElement[bool]
By = Literal["account_id", "day", "model_key", "funding"]

_ONE: sa.ColumnElement[int] = sa.literal_column("1")
_NONE: sa.ColumnElement[int] = sa.literal_column("0")
_event, _hold, _sum = usage_events.c, holds.c, usage_daily.c


@dataclass(frozen=True, slots=True)
class Scope:
    """Usage by the days of its requests, from one midnight up to another; of one account, or of all."""

    since: datetime
    until: datetime
    account_id: int | None = None

    def of(self, account_id: sa.ColumnElement[int], number: sa.ColumnElement[int], after: int = -1) -> list[Condition]:
        """The conditions for rows by the number of their request, which is above `after`."""
        # The one lower bound that counts: SQLite would look along the index from either.
        when = [number >= max(first_id_at(self.since), after + 1), number < first_id_at(self.until)]
        return when if self.account_id is None else [account_id == self.account_id, *when]


@dataclass(frozen=True, slots=True)
class Used:
    """A number of calls, what they were charged, and what of that was given back: micro-credits, and units of quota."""

    calls: int
    credits: int
    credits_refunded: int
    quota: int
    quota_refunded: int
    estimated: int


def last_days(count: int, now: datetime, account_id: int | None = None) -> Scope:
    """The day of `now`, and those before it: `count` days in all."""
    until = window_at(Metric.DAILY, UTC_CALENDAR, now).end
    return Scope(until - timedelta(days=count), until, account_id)


def used(
    connection: Connection, scope: Scope, by: Sequence[By] = (), most: int | None = None
) -> dict[tuple[Any, ...], Used]:
    """What was used for each value of the columns in `by`, in the order of these; or `most` of them, by their calls."""
    return _added_up(connection, parts(scope, frontier(connection), by), by, most)


def popular(connection: Connection, scope: Scope, limit: int) -> list[tuple[str, int]]:
    """The most used models, with their number of calls; of equals the first by name."""
    mark = frontier(connection)
    by: tuple[By, ...] = ("model_key",)
    # Without the refunds, which change no number of calls.
    found = _added_up(connection, (_counted(scope, mark, by), *_beyond(scope, mark)), by, limit)
    return [(key[0], amounts.calls) for key, amounts in found.items()]


def parts(scope: Scope, mark: Frontier, by: Sequence[By]) -> tuple[sa.Select[Any], ...]:
    """The queries whose rows add up to the sums."""
    return (_counted(scope, mark, by), *_beyond(scope, mark), _given_back(scope))


def _added_up(
    connection: Connection, queries: Sequence[sa.Select[Any]], by: Sequence[str], most: int | None
) -> dict[tuple[Any, ...], Used]:
    row = sa.union_all(*queries).subquery().c
    key = [row[name] for name in by]
    amounts = {
        "calls": row.calls,
        **{str(funding): _where(row, funding, row.charged) for funding in (Funding.CREDITS, Funding.QUOTA)},
        **{f"{funding}_refunded": _where(row, funding, row.refunded) for funding in (Funding.CREDITS, Funding.QUOTA)},
        "estimated": row.estimated,
    }
    # PostgreSQL adds BIGINTs up to a NUMERIC, which is a Decimal here; and nothing adds up to NULL.
    sums = [
        sa.cast(sa.func.coalesce(sa.func.sum(amount), 0), sa.BigInteger).label(name) for name, amount in amounts.items()
    ]
    query = sa.select(*key, *sums).group_by(*key)
    query = query.order_by(*key) if most is None else query.order_by(sums[0].desc(), *key).limit(most)
    names = list(amounts)
    return {
        tuple(found[name] for name in by): Used(**{name: found[name] for name in names})
        for found in connection.execute(query).mappings()
    }


def _where(row: Any, funding: Funding, amount: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    return sa.case((row.funding == funding, amount), else_=0)


def _counted(scope: Scope, mark: Frontier, by: Sequence[By]) -> sa.Select[Any]:
    """From the roll-up. Of all accounts together it has the sums already."""
    if scope.account_id is not None:
        whose = _sum.account_id == scope.account_id
    else:
        whose = _sum.account_id != EVERYBODY if "account_id" in by else _sum.account_id == EVERYBODY
    return sa.select(*_sum).where(whose, _sum.day >= scope.since, _sum.day < scope.until, _sum.day <= mark.day)


def _beyond(scope: Scope, mark: Frontier) -> tuple[sa.Select[Any], sa.Select[Any]]:
    """Rows that the roll-up has not counted yet: newer ones, and older ones that were settled late."""
    amounts = (_ONE, _event.charged, _NONE, sa.cast(_event.estimated, sa.Integer))
    columns = sa.select(_event.account_id, request_day(_event.id), _event.model_key, _event.funding, *amounts)
    newer = columns.where(*scope.of(_event.account_id, _event.id, after=mark.id))
    # A sum is in no index, so that the few late rows are looked for in theirs.
    of_scope = scope.of(_event.account_id + 0, _event.id + 0)
    return newer, columns.where(LATE, _event.at > mark.at, _event.id + 0 <= mark.id, *of_scope)


def _given_back(scope: Scope) -> sa.Select[Any]:
    """Refunds of what is not archived. All of an account's, or all there are: few, and in an index of their own."""
    amounts = (_NONE, _NONE, _hold.refunded_amount, _NONE)
    columns = sa.select(_hold.account_id, request_day(_hold.id), _hold.model_key, _hold.funding, *amounts)
    number = _hold.id if scope.account_id is not None else _hold.id + 0
    return columns.where(REFUNDED, *scope.of(_hold.account_id, number))

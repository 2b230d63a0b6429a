"""Quota windows from the database into a QuotaBook: the newest ones of accounts, and those that holds took from.

The batch loads what its verbs concern; who only reads, such as the quota status, loads the same rows into a book of
its own and throws it away. So both see the same window, and the same amount carried into one that has no row yet.

Nearly always the newest window is one that began within the last day, or month, and one statement along the key finds
it, together with those of holds. Accounts of which that finds nothing are asked for by a second statement: at their
first request in a window.

Windows of exemptions have names of their own for a metric. They are asked for by their keys, where there are any.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from policies.quota import CLOCK_STEP
from policies.terms import AccountId, Metric
from store.columns import from_micros, to_micros
from store.open_holds import Taken
from store.prepared import Lists, Parameter, Reading
from store.quota_book import QuotaBook
from store.rows import WindowKey, WindowRow
from store.tables import accounts, quota_windows

RECENT = {Metric.DAILY: timedelta(days=1), Metric.MONTHLY: timedelta(days=31)}
"""How long ago the window in force began at most, unless its day or its month is a long one. Only a matter of speed:
twice as long would mostly read two windows where one is wanted."""

_WINDOW = quota_windows.c
_COLUMNS = [_WINDOW[name] for name in ("account_id", "metric", "window_start", "window_end", "regular_start")] + [
    _WINDOW[name] for name in ("limit", "carried", "used", "plan_version_id", "opened_by")
]
_LATEST = bindparam("latest", type_=sa.BigInteger)
"""Later windows were opened by a clock that was far ahead; see `policies.quota`."""


def _is(metric: Metric, column: sa.Column[str]) -> sa.ColumnElement[bool]:
    return column == sa.literal_column(f"'{metric}'")


def _recent(lists: Lists, metric: Metric) -> sa.Select[Any]:
    since = bindparam(f"{metric}_since", type_=sa.BigInteger)
    return sa.select(sa.literal_column("1"), *_COLUMNS).where(
        lists.has(_WINDOW.account_id, "accounts"),
        _is(metric, _WINDOW.metric),
        _WINDOW.window_start > since,
        _WINDOW.window_start <= _LATEST,
    )


def _of_keys(lists: Lists, metric: Metric) -> sa.Select[Any]:
    # Accounts and starts are asked for separately, which the key serves well; a pair too many does no harm.
    return sa.select(sa.literal_column("0"), *_COLUMNS).where(
        lists.has(_WINDOW.account_id, "holders"), _is(metric, _WINDOW.metric), lists.has(_WINDOW.window_start, "starts")
    )


def _newest_in_sqlite(lists: Lists, metric: Metric) -> sa.Select[Any]:
    """However long ago: two looks along the key for each account."""
    other = quota_windows.alias("other").c
    newest = sa.select(sa.func.max(other.window_start)).where(
        other.account_id == accounts.c.id, _is(metric, other.metric), other.window_start <= _LATEST
    )
    return (
        sa.select(sa.literal_column("1"), *_COLUMNS)
        .join_from(accounts, quota_windows, _WINDOW.account_id == accounts.c.id)
        .where(
            lists.has(accounts.c.id, "accounts"),
            _is(metric, _WINDOW.metric),
            _WINDOW.window_start == newest.scalar_subquery(),
        )
    )


def _newest_in_postgresql(lists: Lists, metric: Metric) -> sa.Select[Any]:
    """The same. PostgreSQL would rather read the whole of a table that is not large; a LATERAL leaves it no choice."""
    newest = (
        sa.select(*_COLUMNS)
        .where(_WINDOW.account_id == accounts.c.id, _is(metric, _WINDOW.metric), _WINDOW.window_start <= _LATEST)
        .order_by(_WINDOW.window_start.desc())
        .limit(sa.literal_column("1"))
        .lateral()
    )
    joined = sa.select(sa.literal_column("1"), *newest.c).join_from(accounts, newest, sa.true())
    return joined.where(lists.has(accounts.c.id, "accounts"))


_LOAD = Reading(lambda lists: sa.union_all(*(part(lists, metric) for part in (_recent, _of_keys) for metric in Metric)))
_LOAD_NEWEST = {
    "sqlite": Reading(lambda lists: sa.union_all(*(_newest_in_sqlite(lists, metric) for metric in Metric))),
    "postgresql": Reading(lambda lists: sa.union_all(*(_newest_in_postgresql(lists, metric) for metric in Metric))),
}


_LOAD_FAIR_USE = Reading(
    lambda lists: sa.select(sa.literal_column("0"), *_COLUMNS).where(
        lists.has(_WINDOW.account_id, "accounts"),
        lists.has(_WINDOW.metric, "metrics"),
        lists.has(_WINDOW.window_start, "starts"),
    )
)


def load_windows(
    connection: Connection,
    book: QuotaBook,
    taken: Taken,
    newest: Iterable[tuple[AccountId, Metric]],
    keys: Iterable[WindowKey] = (),
) -> None:
    """Put the newest windows of some accounts into the book, and the windows of some keys; `taken` is held in them."""
    newest, keys = set(newest), set(keys)
    fair_use = {key for key in keys if key[2] not in RECENT}
    if fair_use:
        _add(book, taken, _LOAD_FAIR_USE.rows(connection, _named(fair_use)))
        keys -= fair_use
    if not newest and not keys:
        return
    since = {metric: book.now - length for metric, length in RECENT.items()}
    latest = to_micros(book.now + CLOCK_STEP)
    old = [key for key in keys if key[1] <= since[Metric(key[2])] or to_micros(key[1]) > latest]
    parameters: dict[str, Parameter] = {
        "accounts": sorted({account for account, _ in newest} | {account for account, _, _ in keys.difference(old)}),
        "latest": latest,
        "holders": sorted({account for account, _, _ in old}),
        "starts": sorted({to_micros(start) for _, start, _ in old}),
        **{f"{metric}_since": to_micros(moment) for metric, moment in since.items()},
    }
    _add(book, taken, _LOAD.rows(connection, parameters))
    missing = {account for account, metric in newest if (account, metric) not in book.newest}
    if missing:
        look = _LOAD_NEWEST[connection.dialect.name]
        _add(book, taken, look.rows(connection, {"accounts": sorted(missing), "latest": latest}))


def _named(keys: Iterable[WindowKey]) -> dict[str, Parameter]:
    accounts, starts, metrics = map(set, zip(*keys, strict=True))
    return {"accounts": sorted(accounts), "metrics": sorted(metrics), "starts": sorted(map(to_micros, starts))}


def _add(book: QuotaBook, taken: Taken, rows: Iterable[Any]) -> None:
    for is_recent, account_id, metric, start, end, regular_start, limit, carried, used, *versions in rows:
        key = (account_id, from_micros(start), metric)
        regular = None if regular_start is None else from_micros(regular_start)
        amounts = limit, carried, used, taken.windows[key]
        book.add(WindowRow(key, from_micros(end), regular, *amounts, *versions), recent=bool(is_recent))

"""One transaction of the ledger: lock and load what a batch of verbs concerns, decide on a Book, write set-based.

Called by the committer, and where an account is made with its first grant. However many verbs there are, there is one
statement for each kind of row. Accounts are locked first and in the order of their ids, so that nodes on one database
cannot deadlock; grants, windows and holds belong to an account and are guarded by its lock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.holds import HoldState
from policies.terms import Funding, Metric, OnDeadline
from policies.windows import window_at
from store.book import Book
from store.columns import from_micros, to_micros
from store.prepared import Prepared, inserting, updating
from store.rows import AccountRow, GrantRow, HoldRow, WindowRow, window_keys
from store.tables import (
    accounts,
    credit_grants,
    holds,
    ledger_entries,
    quota_windows,
    usage_events,
)
from store.verbs import BindJob, Expire, GrantCredits, Outcome, Refund, Release, Request, Reserve, Settle, Verb
from store.writing import (
    account_values,
    entry_values,
    grant_values,
    hold_changes,
    hold_values,
    usage_values,
    window_values,
)


def run_batch(connection: Connection, verbs: Sequence[Verb], clock: Callable[[Connection], datetime]) -> list[Outcome]:
    """The answers to `verbs`, in their order, with all effects written in the transaction of `connection`."""
    book = _load(connection, verbs, clock)
    outcomes = [book.apply(verb) for verb in verbs]
    _write(connection, book)
    return outcomes


# Loading.

_ACCOUNT = accounts.c
_LOCK_ACCOUNTS = Prepared(
    lambda any_of: (
        sa.select(_ACCOUNT.id, _ACCOUNT.posted, _ACCOUNT.pending, _ACCOUNT.version, _ACCOUNT.revision)
        .where(any_of(_ACCOUNT.id, "ids"))
        .order_by(_ACCOUNT.id)
        .with_for_update()
    )
)
_HOLD_COLUMNS = [holds.c[name] for name in ("id", "account_id", "state", "funding", "amount", "settled_amount")] + [
    holds.c[name] for name in ("refunded_amount", "taken", "job_id", "on_deadline", "deadline", "created_at")
]
_REQUEST_COLUMNS = [holds.c[name] for name in ("user_id", "key_id", "model_key", "action", "route_id")] + [
    holds.c[name] for name in ("policy_revision", "rule", "price_version", "units", "ended_at", "end_reason")
]
_LOAD_HOLDS = Prepared(lambda any_of: sa.select(*_HOLD_COLUMNS, *_REQUEST_COLUMNS).where(any_of(holds.c.id, "ids")))
_GRANT = credit_grants.c
_GRANT_COLUMNS = [_GRANT[name] for name in ("id", "account_id", "key", "source", "amount", "remaining", "held")] + [
    _GRANT[name] for name in ("priority", "effective_at", "expires_at", "description")
]
_LOAD_ALIVE_GRANTS = Prepared(
    lambda any_of: sa.select(*_GRANT_COLUMNS).where(
        any_of(_GRANT.account_id, "ids"), sa.text("(remaining > 0 OR held > 0)")
    )
)
_LOAD_GRANTS = Prepared(lambda any_of: sa.select(*_GRANT_COLUMNS).where(any_of(_GRANT.id, "ids")))
_WINDOW = quota_windows.c
# Accounts and starts are asked for separately, which the key serves well; a pair too many does no harm.
_LOAD_WINDOWS = Prepared(
    lambda any_of: sa.select(
        *(_WINDOW[name] for name in ("account_id", "window_start", "metric", "window_end", "limit", "used", "held")),
        _WINDOW.plan_version_id,
    ).where(any_of(_WINDOW.account_id, "accounts"), any_of(_WINDOW.window_start, "starts"))
)
_OF_EXISTING_HOLDS = Settle | Release | Expire | BindJob | Refund


def _load(connection: Connection, verbs: Sequence[Verb], clock: Callable[[Connection], datetime]) -> Book:
    ids = sorted({verb.account_id for verb in verbs})
    locked = _LOCK_ACCOUNTS.rows(connection, {"ids": ids})
    # After the lock: a node that waited for it must not decide with a moment from before its turn.
    book = Book.at(clock(connection))
    book.accounts = {row[0]: AccountRow(*row) for row in locked}
    wanted = [verb.hold_id for verb in verbs if isinstance(verb, _OF_EXISTING_HOLDS)]
    if wanted:
        book.holds = {row[0]: _hold(row) for row in _LOAD_HOLDS.rows(connection, {"ids": wanted})}
    _load_jobs(connection, book, [verb for verb in verbs if isinstance(verb, BindJob)])
    for row in _LOAD_ALIVE_GRANTS.rows(connection, {"ids": ids}):
        book.credits.add(_grant(row))
    _load_spent_grants(connection, book, verbs)
    _load_windows(connection, book, verbs)
    return book


def _hold(row: Sequence[Any]) -> HoldRow:
    number, account_id, state, funding, amount, settled, refunded, taken, job_id, rule, deadline, created = row[:12]
    *request, units, ended_at, end_reason = row[12:]
    request.append(json.loads(units))
    return HoldRow(
        id=number,
        account_id=account_id,
        state=HoldState(state),
        funding=Funding(funding),
        amount=amount,
        settled_amount=settled,
        refunded_amount=refunded,
        taken=json.loads(taken),
        request=Request(*request),
        job_id=job_id,
        on_deadline=OnDeadline(rule),
        deadline=from_micros(deadline),
        created_at=from_micros(created),
        ended_at=None if ended_at is None else from_micros(ended_at),
        end_reason=end_reason,
    )


def _grant(row: Sequence[Any]) -> GrantRow:
    *values, effective_at, expires_at, description = row
    values += (from_micros(effective_at), None if expires_at is None else from_micros(expires_at), description)
    return GrantRow(*values)


def _load_jobs(connection: Connection, book: Book, verbs: Sequence[BindJob]) -> None:
    """The jobs that are bound already, of those that the batch wants to bind."""
    if verbs:
        jobs = [verb.job_id for verb in verbs]
        query = sa.select(holds.c.route_id, holds.c.job_id).where(holds.c.job_id.in_(jobs))
        book.jobs.update((row.route_id, row.job_id) for row in connection.execute(query))


def _load_spent_grants(connection: Connection, book: Book, verbs: Sequence[Verb]) -> None:
    """Grants with nothing left, where they matter: a refund refills them, a repeated key finds them."""
    keys = [(verb.account_id, verb.key) for verb in verbs if isinstance(verb, GrantCredits)]
    ids: list[int] = []
    if keys:
        query = sa.select(_GRANT.id).where(sa.tuple_(_GRANT.account_id, _GRANT.key).in_(keys))
        ids += connection.execute(query).scalars()
    for verb in verbs:
        if isinstance(verb, Refund) and verb.hold_id in book.holds:
            ids += [grant_id for grant_id, _ in book.holds[verb.hold_id].taken.get("grants", ())]
    if ids:
        for row in _LOAD_GRANTS.rows(connection, {"ids": ids}):
            book.credits.add(_grant(row))


def _load_windows(connection: Connection, book: Book, verbs: Sequence[Verb]) -> None:
    """The windows of now for accounts with quota, and those that the batch's holds took from."""
    wanted = {key for hold in book.holds.values() for key in window_keys(hold)}
    for verb in verbs:
        if isinstance(verb, Reserve) and verb.quota_terms is not None:
            wanted |= {(verb.account_id, window_at(metric, book.now).start, metric) for metric in Metric}
    if not wanted:
        return
    lists: dict[str, list[int]] = {
        "accounts": sorted({account_id for account_id, _, _ in wanted}),
        "starts": sorted({to_micros(start) for _, start, _ in wanted}),
    }
    for account_id, start, metric, end, *amounts in _LOAD_WINDOWS.rows(connection, lists):
        key = (account_id, from_micros(start), Metric(metric))
        book.quota.windows[key] = WindowRow(key, from_micros(end), *amounts)


# Writing.

_UPDATE_ACCOUNTS = updating(accounts, ("posted", "pending", "version"))
_INSERT_GRANTS, _UPDATE_GRANTS = inserting(credit_grants), updating(credit_grants, ("remaining", "held"))
_INSERT_WINDOWS = inserting(quota_windows)
_UPDATE_WINDOWS = updating(quota_windows, ("limit", "used", "held", "plan_version_id"))
_INSERT_HOLDS = inserting(holds)
_HOLD_CHANGES = ["state", "settled_amount", "refunded_amount", "taken", "job_id"]
_HOLD_CHANGES += ["on_deadline", "deadline", "ended_at", "end_reason"]
_UPDATE_HOLDS = updating(
    holds,
    _HOLD_CHANGES,
    # A hold that is released or expired never changes again: the state table, once more, in SQL.
    (holds.c.state == sa.literal_column("'reserved'")) | (holds.c.state == sa.literal_column("'settled'")),
)
_INSERT_ENTRIES, _INSERT_USAGE = inserting(ledger_entries), inserting(usage_events)


def _write(connection: Connection, book: Book) -> None:
    now = to_micros(book.now)
    _UPDATE_ACCOUNTS.run(connection, map(account_values, _changed(book.accounts.values())))
    grants = book.credits.grants.values()
    _INSERT_GRANTS.run(connection, (grant_values(row, now) for row in grants if row.new))
    _UPDATE_GRANTS.run(connection, (grant_values(row, now) for row in _changed(grants) if not row.new))
    windows = book.quota.windows.values()
    _INSERT_WINDOWS.run(connection, (window_values(row) for row in windows if row.new))
    _UPDATE_WINDOWS.run(connection, (window_values(row) for row in _changed(windows) if not row.new))
    _INSERT_HOLDS.run(connection, (hold_values(row) for row in book.holds.values() if row.new))
    _UPDATE_HOLDS.run(connection, (hold_changes(row) for row in _changed(book.holds.values()) if not row.new))
    _INSERT_ENTRIES.run(connection, (entry_values(entry, now) for entry in book.credits.entries))
    _INSERT_USAGE.run(connection, (usage_values(hold, usage, now) for hold, usage in book.usage))


def _changed(rows: Iterable[Any]) -> Iterable[Any]:
    return (row for row in rows if row.changed)

"""One transaction of the ledger: lock and load what a batch of verbs concerns, decide on a Book, write set-based.

Called by the committer only. However many verbs there are, there is one statement for each kind of row. Accounts are
locked first and in the order of their ids, so that nodes on one database cannot deadlock; grants, windows and holds
belong to an account and are guarded by its lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from policies.holds import HoldState
from policies.terms import AccountId, Funding, HoldId, Metric, OnDeadline
from policies.windows import window_at
from store.book import AccountRow, Book, GrantRow, HoldRow, WindowRow, window_keys
from store.tables import accounts, credit_grants, holds, ledger_entries, quota_windows, usage_events
from store.verbs import BindJob, Expire, GrantCredits, Outcome, Refund, Release, Request, Reserve, Settle, Verb


def run_batch(connection: Connection, verbs: Sequence[Verb], clock: Callable[[Connection], datetime]) -> list[Outcome]:
    """The answers to `verbs`, in their order, with all effects written in the transaction of `connection`."""
    book = _load(connection, verbs, clock)
    outcomes = [book.apply(verb) for verb in verbs]
    _write(connection, book)
    return outcomes


# Loading.


def _load(connection: Connection, verbs: Sequence[Verb], clock: Callable[[Connection], datetime]) -> Book:
    ids = sorted({verb.account_id for verb in verbs})
    locked = sa.select(accounts).where(accounts.c.id.in_(ids)).order_by(accounts.c.id).with_for_update()
    rows = connection.execute(locked).all()
    # After the lock: a node that waited for it must not decide with a moment from before its turn.
    book = Book(clock(connection))
    for row in rows:
        book.accounts[row.id] = AccountRow(row.id, row.posted, row.pending, row.version, row.revision)
    _load_holds(connection, book, [verb.hold_id for verb in verbs if isinstance(verb, _OF_EXISTING_HOLDS)])
    _load_jobs(connection, book, [verb for verb in verbs if isinstance(verb, BindJob)])
    _load_grants(connection, book, ids, verbs)
    _load_windows(connection, book, verbs)
    return book


_OF_EXISTING_HOLDS = Settle | Release | Expire | BindJob | Refund


def _load_holds(connection: Connection, book: Book, ids: Sequence[HoldId]) -> None:
    if not ids:
        return
    for row in connection.execute(sa.select(holds).where(holds.c.id.in_(ids))):
        book.holds[row.id] = HoldRow(
            id=row.id,
            account_id=row.account_id,
            state=HoldState(row.state),
            funding=Funding(row.funding),
            amount=row.amount,
            settled_amount=row.settled_amount,
            refunded_amount=row.refunded_amount,
            taken=row.taken,
            request=Request(
                row.user_id,
                row.key_id,
                row.model_key,
                row.action,
                row.route_id,
                row.policy_revision,
                row.rule,
                row.price_version,
                row.units,
            ),
            job_id=row.job_id,
            on_deadline=OnDeadline(row.on_deadline),
            deadline=row.deadline,
            created_at=row.created_at,
            ended_at=row.ended_at,
            end_reason=row.end_reason,
        )


def _load_jobs(connection: Connection, book: Book, verbs: Sequence[BindJob]) -> None:
    """The jobs that are bound already, of those that the batch wants to bind."""
    if not verbs:
        return
    wanted = sa.select(holds.c.route_id, holds.c.job_id).where(holds.c.job_id.in_([verb.job_id for verb in verbs]))
    book.jobs.update((row.route_id, row.job_id) for row in connection.execute(wanted))


def _load_grants(connection: Connection, book: Book, ids: Sequence[AccountId], verbs: Sequence[Verb]) -> None:
    """The grants that have anything left; for refunds and repeated grants also those that have not."""
    grants = credit_grants.c
    alive = (grants.remaining > 0) | (grants.held > 0)
    conditions: list[sa.ColumnElement[bool]] = [grants.account_id.in_(ids) & alive]
    spent = [
        grant_id
        for verb in verbs
        if isinstance(verb, Refund) and verb.hold_id in book.holds
        for grant_id, _ in book.holds[verb.hold_id].taken.get("grants", ())
    ]
    if spent:
        conditions.append(grants.id.in_(spent))
    keys = [verb for verb in verbs if isinstance(verb, GrantCredits)]
    if keys:
        conditions.append(sa.tuple_(grants.account_id, grants.key).in_([(verb.account_id, verb.key) for verb in keys]))
    for condition in conditions:
        for row in connection.execute(sa.select(credit_grants).where(condition)):
            book.add_grant(
                GrantRow(
                    row.id,
                    row.account_id,
                    row.key,
                    row.source,
                    row.amount,
                    row.remaining,
                    row.held,
                    row.priority,
                    row.effective_at,
                    row.expires_at,
                    row.description,
                )
            )


def _load_windows(connection: Connection, book: Book, verbs: Sequence[Verb]) -> None:
    """The windows of now for accounts with quota, and those that the batch's holds took from."""
    wanted = {key for hold in book.holds.values() for key in window_keys(hold)}
    for verb in verbs:
        if isinstance(verb, Reserve) and verb.quota_terms is not None:
            for metric in Metric:
                wanted.add((verb.account_id, window_at(metric, book.now).start, metric))
    if not wanted:
        return
    # Accounts and starts are asked for separately, which the key serves well; a pair too many does no harm.
    windows = quota_windows.c
    query = sa.select(quota_windows).where(
        windows.account_id.in_({account for account, _, _ in wanted}),
        windows.window_start.in_({start for _, start, _ in wanted}),
    )
    for row in connection.execute(query):
        key = (row.account_id, row.window_start, Metric(row.metric))
        book.windows[key] = WindowRow(key, row.window_end, row.limit, row.used, row.held, row.plan_version_id)


# Writing.


def _write(connection: Connection, book: Book) -> None:
    _execute(connection, _UPDATE_ACCOUNT, (_account_values(row) for row in book.accounts.values() if row.changed))
    _execute(
        connection, sa.insert(credit_grants), (_grant_values(row, book) for row in book.grants.values() if row.new)
    )
    changed_grants = (row for row in book.grants.values() if row.changed and not row.new)
    _execute(connection, _UPDATE_GRANT, (_grant_changes(row) for row in changed_grants))
    _execute(connection, sa.insert(quota_windows), (_window_values(row) for row in book.windows.values() if row.new))
    changed_windows = (row for row in book.windows.values() if row.changed and not row.new)
    _execute(connection, _UPDATE_WINDOW, (_window_changes(row) for row in changed_windows))
    _execute(connection, sa.insert(holds), (_hold_values(row) for row in book.holds.values() if row.new))
    changed_holds = (row for row in book.holds.values() if row.changed and not row.new)
    _execute(connection, _UPDATE_HOLD, (_hold_changes(row) for row in changed_holds))
    _execute(connection, sa.insert(ledger_entries), (_entry_values(book, index) for index in range(len(book.entries))))
    _execute(connection, sa.insert(usage_events), (_usage_values(book, index) for index in range(len(book.usage))))


def _execute(connection: Connection, statement: sa.Executable, rows: Iterable[dict[str, Any]]) -> None:
    values = list(rows)
    if values:
        connection.execute(statement, values)


_UPDATE_ACCOUNT = (
    sa.update(accounts)
    .where(accounts.c.id == bindparam("id_"))
    .values(posted=bindparam("posted"), pending=bindparam("pending"), version=bindparam("version"))
)
_UPDATE_GRANT = (
    sa.update(credit_grants)
    .where(credit_grants.c.id == bindparam("id_"))
    .values(remaining=bindparam("remaining"), held=bindparam("held"))
)
_UPDATE_WINDOW = (
    sa.update(quota_windows)
    .where(
        quota_windows.c.account_id == bindparam("account_id_"),
        quota_windows.c.window_start == bindparam("window_start_"),
        quota_windows.c.metric == bindparam("metric_"),
    )
    .values({name: bindparam(name) for name in ("limit", "used", "held", "plan_version_id")})
)
_UPDATE_HOLD = (
    sa.update(holds)
    # A hold that is released or expired never changes again: the state table, once more, in SQL.
    .where(
        holds.c.id == bindparam("id_"),
        (holds.c.state == HoldState.RESERVED) | (holds.c.state == HoldState.SETTLED),
    )
    .values(
        {
            name: bindparam(name)
            for name in (
                "state",
                "settled_amount",
                "refunded_amount",
                "taken",
                "job_id",
                "on_deadline",
                "deadline",
                "ended_at",
                "end_reason",
            )
        }
    )
)


def _account_values(row: AccountRow) -> dict[str, Any]:
    return {"id_": row.id, "posted": row.posted, "pending": row.pending, "version": row.version}


def _grant_values(row: GrantRow, book: Book) -> dict[str, Any]:
    return {
        "id": row.id,
        "account_id": row.account_id,
        "key": row.key,
        "source": row.source,
        "amount": row.amount,
        "remaining": row.remaining,
        "held": row.held,
        "priority": row.priority,
        "effective_at": row.effective_at,
        "expires_at": row.expires_at,
        "description": row.description,
        "created_at": book.now,
    }


def _grant_changes(row: GrantRow) -> dict[str, Any]:
    return {"id_": row.id, "remaining": row.remaining, "held": row.held}


def _window_changes(row: WindowRow) -> dict[str, Any]:
    account_id, start, metric = row.key
    return {"account_id_": account_id, "window_start_": start, "metric_": metric, **_window_amounts(row)}


def _window_values(row: WindowRow) -> dict[str, Any]:
    account_id, start, metric = row.key
    key = {"account_id": account_id, "window_start": start, "metric": metric, "window_end": row.end}
    return {**key, **_window_amounts(row)}


def _window_amounts(row: WindowRow) -> dict[str, Any]:
    return {"limit": row.limit, "used": row.used, "held": row.held, "plan_version_id": row.plan_version_id}


def _hold_changes(row: HoldRow) -> dict[str, Any]:
    return {
        "id_": row.id,
        "state": row.state,
        "settled_amount": row.settled_amount,
        "refunded_amount": row.refunded_amount,
        "taken": row.taken,
        "job_id": row.job_id,
        "on_deadline": row.on_deadline,
        "deadline": row.deadline,
        "ended_at": row.ended_at,
        "end_reason": row.end_reason,
    }


def _hold_values(row: HoldRow) -> dict[str, Any]:
    request = row.request
    changes = _hold_changes(row)
    return {
        "id": changes.pop("id_"),
        **changes,
        "account_id": row.account_id,
        "user_id": request.user_id,
        "key_id": request.key_id,
        "funding": row.funding,
        "amount": row.amount,
        "model_key": request.model_key,
        "action": request.action,
        "route_id": request.route_id,
        "policy_revision": request.policy_revision,
        "rule": request.rule,
        "price_version": request.price_version,
        "units": request.units,
        "created_at": row.created_at,
    }


def _entry_values(book: Book, index: int) -> dict[str, Any]:
    entry = book.entries[index]
    return {
        "account_id": entry.account_id,
        "version": entry.version,
        "kind": entry.kind,
        "amount": entry.amount,
        "balance_after": entry.balance_after,
        "hold_id": entry.hold_id,
        "grant_id": entry.grant_id,
        "description": entry.description,
        "at": book.now,
    }


def _usage_values(book: Book, index: int) -> dict[str, Any]:
    hold, usage = book.usage[index]
    return {
        "id": hold.id,
        "account_id": hold.account_id,
        "user_id": hold.request.user_id,
        "key_id": hold.request.key_id,
        "model_key": hold.request.model_key,
        "action": hold.request.action,
        "route_id": hold.request.route_id,
        "funding": hold.funding,
        "quoted": hold.amount,
        "charged": hold.settled_amount,
        "units": usage.units,
        "estimated": usage.estimated,
        "upstream_status": usage.upstream_status,
        "latency_ms": usage.latency_ms,
        "at": book.now,
    }

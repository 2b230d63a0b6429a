"""Loading a Book: the accounts that a batch of verbs concerns, locked, with everything the verbs look at.

Accounts are locked first and in the order of their ids, so that nodes on one database cannot deadlock; grants, windows
and holds belong to an account and are guarded by its lock. What is counted is read after the lock, in statements of
its own: PostgreSQL's READ COMMITTED then sees what the node before us has committed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.holds import HoldState
from policies.spending import SpendOrder
from policies.terms import AccountId, Funding, OnDeadline, OnLate, Overrun
from store.book import Book
from store.columns import json_value
from store.open_holds import Taken, taken_by_open_holds
from store.prepared import Reading
from store.quota_rows import load_windows
from store.rows import AccountRow, GrantRow, HoldRow, window_keys
from store.tables import accounts, credit_grants, holds, ledger_entries
from store.verbs import BindJob, Expire, Extend, GrantCredits, Refund, Release, Reserve, Settle, Verb

_LOCK_ACCOUNTS = Reading(
    lambda lists: (
        sa.select(accounts.c.id, accounts.c.revision, accounts.c.overdrawn)
        .where(lists.has(accounts.c.id, "ids"))
        .order_by(accounts.c.id)
        .with_for_update()
    )
)
_LOAD_VERSIONS = Reading(lambda lists: _newest_entries(lists.table("ids")))
_HOLD_COLUMNS = [holds.c[name] for name in ("id", "account_id", "state", "funding", "amount", "settled_amount")] + [
    holds.c[name] for name in ("refunded_amount", "taken", "model_key", "route_id", "units", "job_id", "on_deadline")
]
_HOLD_ENDS = [holds.c[name] for name in ("deadline", "on_late", "overrun", "ended_at", "end_reason", "late_at")]
_LOAD_HOLDS = Reading(lambda lists: sa.select(*_HOLD_COLUMNS, *_HOLD_ENDS).where(lists.has(holds.c.id, "ids")))
_GRANT = credit_grants.c
_GRANT_COLUMNS = [_GRANT[name] for name in ("id", "account_id", "key", "source", "amount", "unspent", "priority")] + [
    _GRANT[name] for name in ("effective_at", "expires_at", "description")
]
_LOAD_UNSPENT_GRANTS = Reading(
    lambda lists: sa.select(*_GRANT_COLUMNS).where(lists.has(_GRANT.account_id, "ids"), sa.text("NOT spent"))
)
_LOAD_GRANTS = Reading(lambda lists: sa.select(*_GRANT_COLUMNS).where(lists.has(_GRANT.id, "ids")))
_OF_EXISTING_HOLDS = Settle | Release | Expire | Extend | BindJob | Refund
_STATES = {str(state): state for state in HoldState}
_FUNDINGS = {str(funding): funding for funding in Funding}
_RULES = {str(rule): rule for rule in OnDeadline}


def load(
    connection: Connection, verbs: Sequence[Verb], clock: Callable[[Connection], datetime], order: SpendOrder
) -> Book:
    """The book of these verbs, at a moment that is read after the locks are had.

    A node that waited for a lock must not decide with a moment from before its turn.
    """
    ids = sorted({verb.account_id for verb in verbs})
    locked = _LOCK_ACCOUNTS.rows(connection, {"ids": ids})
    book = Book.at(clock(connection), order)
    book.accounts = {row[0]: AccountRow(*row) for row in locked}
    wanted = [verb.hold_id for verb in verbs if isinstance(verb, _OF_EXISTING_HOLDS)]
    if wanted:
        book.holds = {row[0]: _hold(row) for row in _LOAD_HOLDS.rows(connection, {"ids": wanted})}
    _load_jobs(connection, book, [verb for verb in verbs if isinstance(verb, BindJob)])
    taken = taken_by_open_holds(connection, ids)
    for row in _LOAD_UNSPENT_GRANTS.rows(connection, {"ids": ids}):
        book.credits.add(_grant(row, taken))
    _load_spent_grants(connection, book, verbs, taken)
    _load_windows(connection, book, verbs, taken)
    _load_versions(connection, book, verbs)
    return book


def _newest_entries(ids: sa.TableValuedAlias) -> sa.Select[Any]:
    newest = sa.select(sa.func.max(ledger_entries.c.version)).where(ledger_entries.c.account_id == ids.c.value)
    return sa.select(ids.c.value, newest.scalar_subquery())


def _hold(row: Sequence[Any]) -> HoldRow:
    number, account_id, state, funding, amount, settled, refunded, taken, model_key, route_id, units, job_id = row[:12]
    rule, deadline, on_late, overrun, ended_at, end_reason, late_at = row[12:]
    return HoldRow(
        id=number,
        account_id=account_id,
        state=_STATES[state],
        funding=_FUNDINGS[funding],
        amount=amount,
        settled_amount=settled,
        refunded_amount=refunded,
        taken=json_value(taken),
        model_key=model_key,
        route_id=route_id,
        units=units,
        job_id=job_id,
        on_deadline=_RULES[rule],
        deadline=deadline,
        on_late=OnLate(on_late),
        overrun=Overrun(overrun),
        ended_at=ended_at,
        end_reason=end_reason,
        late_at=late_at,
    )


def _grant(row: Sequence[Any], taken: Taken) -> GrantRow:
    number, account_id, key, source, amount, unspent, priority, effective_at, expires_at, description = row
    held = taken.grants[number]
    remaining, rest = unspent - held, (priority, effective_at, expires_at, description)
    return GrantRow(number, account_id, key, source, amount, remaining, held, *rest, unspent)


def _load_jobs(connection: Connection, book: Book, verbs: Sequence[BindJob]) -> None:
    """The jobs that are bound already, of those that the batch wants to bind."""
    if verbs:
        jobs = [verb.job_id for verb in verbs]
        query = sa.select(holds.c.route_id, holds.c.job_id).where(holds.c.job_id.in_(jobs))
        book.jobs.update((row.route_id, row.job_id) for row in connection.execute(query))


def _load_spent_grants(connection: Connection, book: Book, verbs: Sequence[Verb], taken: Taken) -> None:
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
            book.credits.add(_grant(row, taken))


def _load_windows(connection: Connection, book: Book, verbs: Sequence[Verb], taken: Taken) -> None:
    """The newest windows of accounts with quota, those of exempt calls, and those that the batch's holds took from."""
    newest = {
        (verb.account_id, metric)
        for verb in verbs
        if isinstance(verb, Reserve) and verb.quota_terms is not None and Funding.QUOTA in verb.fundings
        for metric, _ in verb.quota_terms.limits()
    }
    keys = [key for hold in book.holds.values() for key in window_keys(hold)]
    keys += [
        (verb.account_id, verb.fair_use.window(book.now).start, verb.fair_use.metric)
        for verb in verbs
        if isinstance(verb, Reserve) and verb.fair_use is not None
    ]
    load_windows(connection, book.quota, taken, newest, keys)


def _load_versions(connection: Connection, book: Book, verbs: Sequence[Verb]) -> None:
    """The numbers of the newest entries of the accounts that may get another one."""
    ids = {verb.account_id for verb in verbs if not isinstance(verb, Reserve | Extend)} | book.credits.lapsing()
    posting = sorted(ids & book.accounts.keys())
    if posting:
        for account_id, version in _LOAD_VERSIONS.rows(connection, {"ids": posting}):
            book.accounts[AccountId(account_id)].version = version or 0

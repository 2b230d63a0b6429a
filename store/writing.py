"""Writing a Book back: one statement for each kind of row that has changed, with values as the driver takes them.

A request that pays writes its hold and nothing else; its settlement writes the hold, the grants it spent, an entry and
a usage event. What can be counted from these is not written.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from store.book import Book
from store.columns import MICROSECOND, json_text, to_micros
from store.idempotency import keep
from store.prepared import Writing, inserting, updating
from store.rows import Entry, GrantRow, HoldRow, WindowRow
from store.tables import accounts, credit_grants, holds, job_watches, ledger_entries, quota_windows, usage_events
from store.verbs import Reserve, Usage, Watch

Values = tuple[Any, ...]

_UPDATE_ACCOUNTS = updating(accounts, ["overdrawn"])
_INSERT_GRANTS = inserting(credit_grants)
# Apart, since only the second one touches an index: most payments leave something of their grant.
_SPEND_GRANTS, _TURN_GRANTS = updating(credit_grants, ["unspent"]), updating(credit_grants, ["unspent", "spent"])
_INSERT_WINDOWS, _UPDATE_WINDOWS = (
    inserting(quota_windows),
    updating(quota_windows, ["limit", "used", "plan_version_id"]),
)
_INSERT_HOLDS, _INSERT_ENTRIES = inserting(holds), inserting(ledger_entries)
_INSERT_WATCHES = inserting(job_watches)
_HOLD_CHANGES = ["state", "settled_amount", "refunded_amount", "taken", "job_id"]
_HOLD_CHANGES += ["on_deadline", "deadline", "ended_at", "end_reason", "late_at"]
# A hold that is released never changes again, nor an expired one that is not to be charged late: the state table, once
# more, in SQL.
_CHANGEABLE = " AND (state IN ('reserved', 'settled') OR (state = 'expired' AND on_late = 'charge'))"
_UPDATE_HOLDS = updating(holds, _HOLD_CHANGES, _CHANGEABLE)
_EVENT = usage_events.c
# What the hold remembers of its request is taken from the hold, where it is stored already.
_INSERT_USAGE = Writing(
    [_EVENT.id, _EVENT.units, _EVENT.estimated, _EVENT.upstream_status, _EVENT.latency_ms, _EVENT.at],
    "INSERT INTO usage_events (id, account_id, user_id, key_id, model_key, action, route_id, funding, quoted, charged,"
    " units, estimated, upstream_status, latency_ms, at)"
    " SELECT h.id, h.account_id, h.user_id, h.key_id, h.model_key, h.action, h.route_id, h.funding, h.amount,"
    " h.settled_amount, v.column2, v.column3, v.column4, v.column5, v.column6"
    " FROM {rows} JOIN holds AS h ON h.id = v.column1",
    "h.id",
)


def write(connection: Connection, book: Book) -> None:
    """Everything that the verbs have changed, in the order in which one row refers to another."""
    now = to_micros(book.now)
    indebted = [(row.id, row.overdrawn) for row in book.accounts.values() if row.changed]
    _UPDATE_ACCOUNTS.run(connection, indebted)
    grants = [row for row in book.credits.grants.values() if row.unspent != row.stored]
    _INSERT_GRANTS.run(connection, [_grant_values(row, now) for row in grants if row.stored is None])
    turned = [row for row in grants if row.stored is not None and (row.stored == 0 or row.unspent == 0)]
    _TURN_GRANTS.run(connection, [(row.id, row.unspent, row.unspent == 0) for row in turned])
    _SPEND_GRANTS.run(connection, [(row.id, row.unspent) for row in grants if row.stored and row.unspent])
    windows = book.quota.windows.values()
    _INSERT_WINDOWS.run(connection, [_window_values(row) for row in windows if row.new])
    _UPDATE_WINDOWS.run(connection, [_window_changes(row) for row in windows if row.changed and not row.new])
    _INSERT_HOLDS.run(connection, [_hold_values(row, verb, now) for row, verb in book.opened])
    _UPDATE_HOLDS.run(connection, [_hold_changes(row) for row in book.holds.values() if row.changed and not row.new])
    _INSERT_ENTRIES.run(connection, [_entry_values(entry, now) for entry in book.credits.entries])
    _INSERT_USAGE.run(connection, [_usage_values(hold, usage, now) for hold, usage in book.usage])
    _INSERT_WATCHES.run(connection, [_watch_values(hold, watch, now) for hold, watch in book.watches])
    for hold, answer in book.answers:
        keep(connection, hold.account_id, hold.id, answer)


def _grant_values(row: GrantRow, now: int) -> Values:
    return (
        row.id,
        row.account_id,
        row.key,
        str(row.source),
        row.amount,
        row.unspent,
        row.unspent == 0,
        row.priority,
        row.effective_at,
        row.expires_at,
        row.description,
        now,
    )


def _window_values(row: WindowRow) -> Values:
    account_id, start, metric = row.key
    return (
        account_id,
        str(metric),
        to_micros(start),
        to_micros(row.end),
        None if row.regular_start is None else to_micros(row.regular_start),
        row.limit,
        row.carried,
        row.used,
        row.plan_version_id,
        row.opened_by,
    )


def _window_changes(row: WindowRow) -> Values:
    account_id, start, metric = row.key
    return account_id, str(metric), to_micros(start), row.limit, row.used, row.plan_version_id


def _hold_changes(row: HoldRow) -> Values:
    return (
        row.id,
        str(row.state),
        row.settled_amount,
        row.refunded_amount,
        json_text(row.taken),
        row.job_id,
        str(row.on_deadline),
        row.deadline,
        row.ended_at,
        row.end_reason,
        row.late_at,
    )


def _hold_values(row: HoldRow, verb: Reserve, now: int) -> Values:
    request = verb.request
    return (
        row.id,
        row.account_id,
        request.user_id,
        request.key_id,
        str(row.state),
        str(row.funding),
        row.amount,
        row.settled_amount,
        row.refunded_amount,
        json_text(row.taken),
        request.model_key,
        request.action,
        request.route_id,
        request.policy_revision,
        request.rule,
        request.price_version,
        row.units,
        row.job_id,
        str(row.on_deadline),
        str(row.on_late),
        str(row.overrun),
        row.deadline,
        now,
        row.ended_at,
        row.end_reason,
        row.late_at,
    )


def _entry_values(entry: Entry, now: int) -> Values:
    return (
        entry.account_id,
        entry.version,
        str(entry.kind),
        entry.amount,
        entry.balance_after,
        entry.hold_id,
        entry.grant_id,
        entry.description,
        now,
    )


def _usage_values(hold: HoldRow, usage: Usage, now: int) -> Values:
    return hold.id, json_text(usage.units), usage.estimated, usage.upstream_status, usage.latency_ms, now


def _watch_values(hold: HoldRow, watch: Watch, now: int) -> Values:
    first, longest = watch.first // MICROSECOND, watch.longest // MICROSECOND
    return hold.id, watch.path, now + first, min(2 * first, longest), longest

"""Verification, account by account: balances, entries, quota windows and charges. Called by `store.verify`."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.terms import Funding, Metric
from store.archiving import archived_until
from store.findings import MAX_LISTED, Findings, Span, sums_by
from store.ids import id_text
from store.open_holds import IS_OPEN
from store.rows import EntryKind
from store.tables import (
    accounts,
    credit_grants,
    holds,
    ledger_entries,
    plan_versions,
    quota_windows,
    usage_events,
)
from store.verify_usage import archived_charges

_BY_CREDITS = holds.c.funding == Funding.CREDITS
_BY_WINDOW = holds.c.funding.in_([Funding.QUOTA, Funding.EXEMPT])


_LENT = sa.case((ledger_entries.c.kind == EntryKind.OVERRUN, -ledger_entries.c.amount), else_=0)
"""What an entry took beyond the credits there were."""


def check_balances(connection: Connection, span: Span, found: Findings) -> None:
    """What accounts have left, and what they owe, against their entries."""
    entries, grants = ledger_entries.c, credit_grants.c
    versions = sa.func.count(), sa.func.min(entries.version), sa.func.max(entries.version)
    sums = (*versions, sa.func.sum(entries.amount), sa.func.sum(_LENT))
    counted = sa.select(entries.account_id, *sums).where(span.has(entries.account_id)).group_by(entries.account_id)
    booked = {row[0]: row[1:] for row in connection.execute(counted)}
    unspent = sums_by(connection, grants.account_id, span.has(grants.account_id), grants.unspent)
    columns = sa.select(accounts.c.id, accounts.c.overdrawn)
    for account_id, owed in connection.execute(columns.where(span.has(accounts.c.id)).order_by(accounts.c.id)):
        count, first, last, total, lent = booked.get(account_id, (0, 1, 0, 0, 0))
        has = unspent.get(account_id, 0) - owed
        if has != total:
            found.breach("balances", f"account {account_id}: grants have {has} left, entries {total}")
        if count != last or first != 1:
            found.breach("entries", f"account {account_id}: {count} entries from {first} to {last}")
        if owed > lent:
            found.breach("available", f"account {account_id}: overdrawn {owed}, overruns {lent}")
        found.checked["entries"] += count
    found.checked.update(dict.fromkeys(("balances", "available"), span.count))
    _check_entries(connection, span, found)


def _check_entries(connection: Connection, span: Span, found: Findings) -> None:
    """An entry that was changed or deleted shows in the balance of the next one, or in what it names as its cause."""
    entries = ledger_entries.c
    by_version: dict[str, Any] = {"partition_by": entries.account_id, "order_by": entries.version}

    def previous(column: sa.Column[int]) -> sa.ColumnElement[int]:
        return sa.func.lag(column, 1, 0).over(**by_version)

    expected_version = (previous(entries.version) + 1).label("expected_version")
    expected_balance = (previous(entries.balance_after) + entries.amount).label("expected_balance")
    lent = sa.func.sum(_LENT).over(**by_version).label("lent")
    columns = (entries.account_id, entries.version, entries.balance_after, expected_version, expected_balance, lent)
    causeless = (~_names_its_cause()).label("causeless")
    chain = sa.select(*columns, causeless).where(span.has(entries.account_id)).subquery().c
    broken = (chain.version != chain.expected_version) | (chain.balance_after != chain.expected_balance)
    below = chain.balance_after + chain.lent < 0
    query = sa.select(chain.account_id, chain.version, (broken | chain.causeless).label("broken"), below.label("below"))
    for row in connection.execute(query.where(broken | chain.causeless | below).limit(MAX_LISTED)):
        for law, is_broken in (("entries", row.broken), ("available", row.below)):
            if is_broken:
                found.breach(law, f"account {row.account_id}: entry {row.version}")


def _names_its_cause() -> sa.ColumnElement[bool]:
    """Whether an entry has the sign of its kind, and names the hold and the grant that such an entry is about."""
    entry = ledger_entries.c
    of_hold, of_grant = entry.hold_id.is_not(None), entry.grant_id.is_not(None)
    gives, takes = entry.amount > 0, entry.amount < 0
    shapes = {
        EntryKind.GRANT: gives & ~of_hold & of_grant,
        EntryKind.USAGE: takes & of_hold & ~of_grant,
        EntryKind.OVERRUN: takes & of_hold & of_grant,
        EntryKind.LATE: takes & of_hold & ~of_grant,
        EntryKind.REFUND: gives & of_hold & ~of_grant,
        EntryKind.EXPIRE: takes & ~of_hold & of_grant,
        EntryKind.ADJUST: takes & ~of_hold & ~of_grant,
    }
    return sa.or_(*(sa.and_(entry.kind == kind, shape) for kind, shape in shapes.items()))


_Window = tuple[int, str, datetime]


def check_windows(connection: Connection, span: Span, found: Findings) -> None:
    """Quota windows against the holds that took from them."""
    # `taken` is the same text for all holds of the same windows, so the database can add them up.
    taken = sa.type_coerce(holds.c.taken, sa.Text)
    in_open = (
        sa.select(holds.c.account_id, taken, sa.func.sum(holds.c.amount))
        .where(IS_OPEN, _BY_WINDOW, span.has(holds.c.account_id))
        .group_by(holds.c.account_id, taken)
    )
    events = usage_events.c
    in_settled = (
        sa.select(events.account_id, taken, sa.func.sum(holds.c.settled_amount - holds.c.refunded_amount))
        # By way of the usage events, which have an index by account.
        .join(holds, holds.c.id == events.id)
        .where(_BY_WINDOW, span.has(events.account_id))
        .group_by(events.account_id, taken)
    )
    held, used = _by_window(connection, in_open, found), _by_window(connection, in_settled, found)
    windows, plan, archived = quota_windows.c, plan_versions.c, archived_until(connection)
    cap = sa.case((windows.metric == Metric.DAILY, plan.daily_rollover), else_=plan.monthly_rollover)
    stored = sa.select(
        windows.account_id, windows.metric, windows.window_start, windows.used, windows.carried, cap
    ).join_from(quota_windows, plan_versions, plan.id == windows.opened_by, isouter=True)
    for *key, value, carried, most in connection.execute(stored.where(span.has(windows.account_id))):
        window: _Window = (key[0], key[1], key[2])
        held.pop(window, None)
        if carried > (most or 0):
            found.breach("rollover", f"{_window_text(window)}: carried {carried}, at most {most or 0}")
        # Of a window that is older than the archives, some holds are not here to be counted.
        gone = archived is not None and window[2] < archived
        if (total := used[window]) != value and not gone:
            found.breach("windows", f"{_window_text(window)}: used {value}, holds {total}")
        found.checked.update(("windows", "rollover"))
    # A window may be dropped when it is over, but not while something is held in it.
    for window, total in held.items():
        if total:
            found.breach("windows", f"{_window_text(window)}: missing, holds {total}")


def _by_window(connection: Connection, query: sa.Select[Any], found: Findings) -> Counter[_Window]:
    sums: Counter[_Window] = Counter()
    windows_of: dict[str, list[tuple[str, datetime]]] = {}
    for account_id, taken, total in connection.execute(query):
        if taken not in windows_of:
            named = json.loads(taken).get("windows")
            windows_of[taken] = [(metric, datetime.fromisoformat(start)) for metric, start in named or ()]
            if named is None:
                found.breach("windows", f"account {account_id}: holds say {taken} instead of their windows")
        for metric, start in windows_of[taken]:
            sums[account_id, metric, start] += int(total)
    return sums


def _window_text(window: _Window) -> str:
    account_id, metric, start = window
    return f"account {account_id}: {metric} window of {start:%Y-%m-%d}"


def check_charges(connection: Connection, span: Span, found: Findings) -> None:
    """Entries of holds against the holds, and against the usage events."""
    entries, events = ledger_entries.c, usage_events.c

    def count(*kinds: EntryKind) -> sa.ColumnElement[int]:
        return sa.func.sum(sa.case((entries.kind.in_(kinds), 1), else_=0))

    is_charge = entries.kind.in_((EntryKind.USAGE, EntryKind.OVERRUN, EntryKind.LATE))
    charged = sa.case((is_charge, -entries.amount), else_=0)
    booked = (
        sa.select(
            entries.account_id,
            entries.hold_id,
            count(EntryKind.USAGE, EntryKind.LATE).label("charges"),
            count(EntryKind.OVERRUN).label("overruns"),
            count(EntryKind.LATE).label("late"),
            sa.func.sum(charged).label("charged"),
            sa.func.sum(sa.case((entries.kind == EntryKind.REFUND, entries.amount), else_=0)).label("refunded"),
        )
        .where(span.has(entries.account_id), entries.hold_id.is_not(None))
        .group_by(entries.account_id, entries.hold_id)
        .subquery()
    )
    wrong = (
        (holds.c.account_id != booked.c.account_id)
        | ~_BY_CREDITS
        | (booked.c.charges > 1)
        | (booked.c.overruns > 1)
        | ((booked.c.late > 0) != holds.c.late_at.is_not(None))
        | (booked.c.charged != holds.c.settled_amount)
        | (booked.c.refunded != holds.c.refunded_amount)
    )
    # Those of a hold that is not here any more are for `check_archived`.
    joined = booked.join(holds, holds.c.id == booked.c.hold_id)
    for hold_id in connection.scalars(sa.select(booked.c.hold_id).select_from(joined).where(wrong).limit(MAX_LISTED)):
        found.breach("charges", f"hold {id_text(hold_id)}: its entries have other amounts")
    # The other direction, by account: a settled hold without an entry is missing in the sum.
    in_entries = sums_by(connection, entries.account_id, span.has(entries.account_id), charged)
    by_credits = span.has(events.account_id) & (events.funding == Funding.CREDITS)
    in_usage = sums_by(connection, events.account_id, by_credits, events.charged)
    archived = archived_charges(connection, span)
    for account_id in sorted(in_entries.keys() | in_usage.keys() | archived.keys()):
        total, used = in_entries.get(account_id, 0), in_usage.get(account_id, 0) + archived.get(account_id, 0)
        if total != used:
            found.breach("charges", f"account {account_id}: charged {total}, usage {used}")
    found.checked["charges"] += span.count

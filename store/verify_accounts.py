"""Verification, account by account: balances, entries, grants, quota windows and charges. Called by `store.verify`."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.holds import HoldState
from policies.terms import Funding, Metric
from store.findings import MAX_LISTED, Findings, Span, sums_by
from store.ids import id_text
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

_OPEN = holds.c.state == HoldState.RESERVED
_BY_CREDITS = holds.c.funding == Funding.CREDITS
_BY_WINDOW = holds.c.funding.in_([Funding.QUOTA, Funding.EXEMPT])


def check_balances(connection: Connection, span: Span, found: Findings) -> None:
    """What accounts have left, against their entries."""
    entries, grants = ledger_entries.c, credit_grants.c
    counted = sa.select(entries.account_id, sa.func.count(), sa.func.min(entries.version), sa.func.max(entries.version))
    booked = {
        row[0]: row[1:]
        for row in connection.execute(counted.where(span.has(entries.account_id)).group_by(entries.account_id))
    }
    totals = sums_by(connection, entries.account_id, span.has(entries.account_id), entries.amount)
    unspent = sums_by(connection, grants.account_id, span.has(grants.account_id), grants.unspent)
    for account_id in connection.scalars(
        sa.select(accounts.c.id).where(span.has(accounts.c.id)).order_by(accounts.c.id)
    ):
        has, total = unspent.get(account_id, 0), totals.get(account_id, 0)
        if has != total:
            found.breach("balances", f"account {account_id}: grants have {has} left, entries {total}")
        count, first, last = booked.get(account_id, (0, 1, 0))
        if count != last or first != 1:
            found.breach("entries", f"account {account_id}: {count} entries from {first} to {last}")
        found.checked["entries"] += count
    found.checked["balances"] += span.count
    _check_entries(connection, span, found)


def _check_entries(connection: Connection, span: Span, found: Findings) -> None:
    """An entry that was changed or deleted shows in the balance of the next one."""
    entries = ledger_entries.c

    def previous(column: sa.Column[int]) -> sa.ColumnElement[int]:
        return sa.func.lag(column, 1, 0).over(partition_by=entries.account_id, order_by=entries.version)

    expected_version = (previous(entries.version) + 1).label("expected_version")
    expected_balance = (previous(entries.balance_after) + entries.amount).label("expected_balance")
    columns = (entries.account_id, entries.version, entries.balance_after, expected_version, expected_balance)
    chain = sa.select(*columns).where(span.has(entries.account_id)).subquery().c
    broken = (chain.version != chain.expected_version) | (chain.balance_after != chain.expected_balance)
    query = sa.select(chain.account_id, chain.version).where(broken).limit(MAX_LISTED)
    for account_id, version in connection.execute(query):
        found.breach("entries", f"account {account_id}: entry {version}")


def check_grants(connection: Connection, span: Span, found: Findings) -> None:
    """Grants against the entries that booked them."""
    grants, entries = credit_grants.c, ledger_entries.c
    booked = (
        sa.select(entries.grant_id, sa.func.count().label("times"), sa.func.sum(entries.amount).label("amount"))
        .where(span.has(entries.account_id), entries.kind == EntryKind.GRANT)
        .group_by(entries.account_id, entries.grant_id)
        .subquery()
    )
    wrong = booked.c.times.is_(None) | (booked.c.times != 1) | (booked.c.amount != grants.amount)
    joined = credit_grants.outerjoin(booked, booked.c.grant_id == grants.id)
    query = sa.select(grants.id).select_from(joined).where(span.has(grants.account_id), wrong).limit(MAX_LISTED)
    for grant_id in connection.scalars(query):
        found.breach("grants", f"grant {grant_id}: not booked once with its amount")
    found.checked["grants"] += span.count


def check_provenance(connection: Connection, span: Span, found: Findings) -> None:
    """The parts that open holds took from grants, against their amounts and what the grants have left."""
    grants = credit_grants.c
    taken: Counter[int] = Counter()
    query = sa.select(holds.c.id, holds.c.amount, holds.c.taken)
    for row in connection.execute(query.where(_OPEN, _BY_CREDITS, span.has(holds.c.account_id))):
        parts = row.taken["grants"]
        for grant_id, part in parts:
            taken[grant_id] += part
        if sum(part for _, part in parts) != row.amount:
            found.breach("provenance", f"hold {id_text(row.id)}: its parts are not its amount")
        found.checked["provenance"] += 1
    unspent_ones = sa.select(grants.id, grants.unspent).where(span.has(grants.account_id), sa.text("NOT spent"))
    unspent = {row.id: row.unspent for row in connection.execute(unspent_ones)}
    for grant_id, parts_taken in sorted(taken.items()):
        if parts_taken > unspent.get(grant_id, 0):
            has = unspent.get(grant_id, 0)
            found.breach("provenance", f"grant {grant_id}: has {has} left, open holds have taken {parts_taken}")


_Window = tuple[int, str, datetime]


def check_windows(connection: Connection, span: Span, found: Findings) -> None:
    """Quota windows against the holds that took from them."""
    # `taken` is the same text for all holds of the same windows, so the database can add them up.
    taken = sa.type_coerce(holds.c.taken, sa.Text)
    in_open = (
        sa.select(holds.c.account_id, taken, sa.func.sum(holds.c.amount))
        .where(_OPEN, _BY_WINDOW, span.has(holds.c.account_id))
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
    held, used = _by_window(connection, in_open), _by_window(connection, in_settled)
    windows, plan = quota_windows.c, plan_versions.c
    cap = sa.case((windows.metric == Metric.DAILY, plan.daily_rollover), else_=plan.monthly_rollover)
    stored = sa.select(
        windows.account_id, windows.metric, windows.window_start, windows.used, windows.carried, cap
    ).join_from(quota_windows, plan_versions, plan.id == windows.opened_by, isouter=True)
    for *key, value, carried, most in connection.execute(stored.where(span.has(windows.account_id))):
        window: _Window = (key[0], key[1], key[2])
        held.pop(window, None)
        if carried > (most or 0):
            found.breach("rollover", f"{_window_text(window)}: carried {carried}, at most {most or 0}")
        if (total := used[window]) != value:
            found.breach("windows", f"{_window_text(window)}: used {value}, holds {total}")
        found.checked.update(("windows", "rollover"))
    # A window may be dropped when it is over, but not while something is held in it.
    for window, total in held.items():
        if total:
            found.breach("windows", f"{_window_text(window)}: missing, holds {total}")


def _by_window(connection: Connection, query: sa.Select[Any]) -> Counter[_Window]:
    sums: Counter[_Window] = Counter()
    windows_of: dict[str, list[tuple[str, datetime]]] = {}
    for account_id, taken, total in connection.execute(query):
        if taken not in windows_of:
            named = json.loads(taken)["windows"]
            windows_of[taken] = [(metric, datetime.fromisoformat(start)) for metric, start in named]
        for metric, start in windows_of[taken]:
            sums[account_id, metric, start] += int(total)
    return sums


def _window_text(window: _Window) -> str:
    account_id, metric, start = window
    return f"account {account_id}: {metric} window of {start:%Y-%m-%d}"


def check_charges(connection: Connection, span: Span, found: Findings) -> None:
    """Entries of holds against the holds, and against the usage events."""
    entries, events = ledger_entries.c, usage_events.c
    is_charge, is_refund = entries.kind == EntryKind.USAGE, entries.kind == EntryKind.REFUND
    charged = sa.case((is_charge, -entries.amount), else_=0)
    booked = (
        sa.select(
            entries.account_id,
            entries.hold_id,
            sa.func.sum(sa.case((is_charge, 1), else_=0)).label("charges"),
            sa.func.sum(charged).label("charged"),
            sa.func.sum(sa.case((is_refund, entries.amount), else_=0)).label("refunded"),
        )
        .where(span.has(entries.account_id), entries.hold_id.is_not(None))
        .group_by(entries.account_id, entries.hold_id)
        .subquery()
    )
    wrong = (
        holds.c.id.is_(None)
        | (holds.c.account_id != booked.c.account_id)
        | ~_BY_CREDITS
        | (booked.c.charges != 1)
        | (booked.c.charged != holds.c.settled_amount)
        | (booked.c.refunded != holds.c.refunded_amount)
    )
    joined = booked.outerjoin(holds, holds.c.id == booked.c.hold_id)
    for hold_id in connection.scalars(sa.select(booked.c.hold_id).select_from(joined).where(wrong).limit(MAX_LISTED)):
        found.breach("charges", f"hold {id_text(hold_id)}: its entries have other amounts")
    # The other direction, by account: a settled hold without an entry is missing in the sum.
    in_entries = sums_by(connection, entries.account_id, span.has(entries.account_id), charged)
    by_credits = span.has(events.account_id) & (events.funding == Funding.CREDITS)
    in_usage = sums_by(connection, events.account_id, by_credits, events.charged)
    for account_id in sorted(in_entries.keys() | in_usage.keys()):
        total, used = in_entries.get(account_id, 0), in_usage.get(account_id, 0)
        if total != used:
            found.breach("charges", f"account {account_id}: charged {total}, usage {used}")
    found.checked["charges"] += span.count

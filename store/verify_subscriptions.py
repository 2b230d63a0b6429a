"""Verification of subscriptions: their histories, and the payments in them. Called by `store.verify`."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from policies.subscription import BEGINNINGS, CURRENT, MOVES, Event
from store.findings import MAX_LISTED, Findings, Span
from store.tables import payments, subscription_events, subscriptions


def check_one_current(connection: Connection, found: Findings) -> None:
    row = subscriptions.c
    query = sa.select(row.account_id).where(row.status.in_(sorted(CURRENT))).group_by(row.account_id)
    for account_id in connection.scalars(query.having(sa.func.count() > 1).limit(MAX_LISTED)):
        found.breach("subscriptions", f"account {account_id}: more than one is current")


def check_subscriptions(connection: Connection, span: Span, found: Findings) -> None:
    """Each subscription's events against its row, and against its payments."""
    histories = _by_subscription(connection, subscription_events, span)
    booked = _by_subscription(connection, payments, span)
    for row in connection.execute(sa.select(subscriptions).where(span.has(subscriptions.c.id))):
        if not _leads_to(histories[row.id], row):
            found.breach("subscriptions", f"subscription {row.id}: its events do not lead to its row")
        due = _due(row, histories[row.id])
        paid = {each.seq: (each.account_id, each.plan_version_id, each.amount) for each in booked[row.id]}
        for seq in sorted(due.keys() | paid.keys()):
            if due.get(seq) != paid.get(seq):
                amounts = f"due {due[seq][2] if seq in due else None}, paid {paid[seq][2] if seq in paid else None}"
                found.breach("payments", f"subscription {row.id}: event {seq}: {amounts}")
        found.checked["payments"] += len(paid)
    found.checked["subscriptions"] += span.count


def _by_subscription(connection: Connection, table: sa.Table, span: Span) -> defaultdict[int, list[Row[Any]]]:
    query = sa.select(table).where(span.has(table.c.subscription_id))
    rows: defaultdict[int, list[Row[Any]]] = defaultdict(list)
    for row in connection.execute(query.order_by(table.c.subscription_id, table.c.seq)):
        rows[row.subscription_id].append(row)
    return rows


def _leads_to(history: list[Row[Any]], row: Row[Any]) -> bool:
    """Whether the events, applied one by one, make the row."""
    if [event.seq for event in history] != [*range(1, len(history) + 1)]:
        return False
    status: str | None = None
    for event in history:
        begins = event.status if event.event == Event.SUBSCRIBED and event.status in BEGINNINGS else None
        moved = begins if status is None else _MOVES.get((status, event.event))
        if moved != event.status:
            return False
        status = event.status
    return bool(history) and all(getattr(history[-1], name) == getattr(row, name) for name in _REPLAYED)


def _due(row: Row[Any], history: list[Row[Any]]) -> dict[int, tuple[int, int, int]]:
    """By the number of each event that a payment has caused: whose, for which version of a plan, how much was due."""
    before = [0, *(event.amount_due for event in history)]
    return {
        event.seq: (row.account_id, event.plan_version_id, amount)
        for event, amount in zip(history, before, strict=False)
        if event.event == Event.PAID
    }


_REPLAYED = ("status", "plan_version_id", "amount_due", "carried")
"""What each event states of the subscription after it."""

_MOVES: dict[tuple[str, str], str] = {(status, event): to for (status, event), to in MOVES.items()}
"""The table of moves, for texts that need not be in the vocabulary."""

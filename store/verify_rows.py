"""Verification, row by row: holds, usage events, and the histories of subscriptions. Called by `store.verify`."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from policies.holds import HoldState
from policies.subscription import CURRENT, MOVES, Event
from store.findings import MAX_LISTED, Findings, Span
from store.ids import id_text
from store.tables import accounts, holds, subscription_events, subscriptions, usage_events

_SETTLED = holds.c.state == HoldState.SETTLED


def check_holds(connection: Connection, span: Span, found: Findings) -> None:
    """Each hold in itself."""
    hold = holds.c
    is_open = hold.state == HoldState.RESERVED
    suspect = (
        hold.state.not_in(list(HoldState))
        | (is_open & hold.ended_at.is_not(None))
        | (~is_open & hold.ended_at.is_(None))
        | (~_SETTLED & (hold.settled_amount != 0))
        | (hold.settled_amount > hold.amount)
        | ~sa.exists().where(accounts.c.id == hold.account_id)
    )
    query = sa.select(hold.id, hold.state, hold.amount, hold.settled_amount, hold.taken)
    for row in connection.execute(query.where(span.has(hold.id), suspect)):
        # What was taken beyond the amount is recorded part by part, and is the only way to settle for more.
        overrun = row.state == HoldState.SETTLED and row.settled_amount > row.amount
        if not overrun or sum(part for _, part in row.taken.get("grants", ())) != row.settled_amount:
            found.breach("holds", f"hold {id_text(row.id)}: {row.state}, {row.settled_amount} of {row.amount}")
    found.checked["holds"] += span.count


def check_usage_of_holds(connection: Connection, span: Span, found: Findings) -> None:
    hold, event = holds.c, usage_events.c
    wrong = (
        (_SETTLED & event.id.is_(None))
        | (~_SETTLED & event.id.is_not(None))
        | (event.charged != hold.settled_amount)
        | (event.account_id != hold.account_id)
        | (event.funding != hold.funding)
    )
    joined = holds.outerjoin(usage_events, event.id == hold.id)
    for hold_id in connection.scalars(sa.select(hold.id).select_from(joined).where(span.has(hold.id), wrong)):
        found.breach("usage", f"hold {id_text(hold_id)}")
    found.checked["usage"] += span.count


def check_holds_of_usage(connection: Connection, span: Span, found: Findings) -> None:
    joined = usage_events.outerjoin(holds, holds.c.id == usage_events.c.id)
    query = sa.select(usage_events.c.id).select_from(joined).where(span.has(usage_events.c.id), holds.c.id.is_(None))
    for event_id in connection.scalars(query):
        found.breach("usage", f"usage event {id_text(event_id)}: without a hold")


def check_one_current(connection: Connection, found: Findings) -> None:
    row = subscriptions.c
    query = sa.select(row.account_id).where(row.status.in_(sorted(CURRENT))).group_by(row.account_id)
    for account_id in connection.scalars(query.having(sa.func.count() > 1).limit(MAX_LISTED)):
        found.breach("subscriptions", f"account {account_id}: more than one is current")


def check_histories(connection: Connection, span: Span, found: Findings) -> None:
    """Each subscription's events against its row."""
    event = subscription_events.c
    query = sa.select(subscription_events).where(span.has(event.subscription_id))
    histories: defaultdict[int, list[Row[Any]]] = defaultdict(list)
    for row in connection.execute(query.order_by(event.subscription_id, event.seq)):
        histories[row.subscription_id].append(row)
    for row in connection.execute(sa.select(subscriptions).where(span.has(subscriptions.c.id))):
        if not _leads_to(histories[row.id], row):
            found.breach("subscriptions", f"subscription {row.id}: its events do not lead to its row")
    found.checked["subscriptions"] += span.count


def _leads_to(history: list[Row[Any]], row: Row[Any]) -> bool:
    """Whether the events, applied one by one, make the row."""
    if [event.seq for event in history] != [*range(1, len(history) + 1)]:
        return False
    status: str | None = None
    for event in history:
        moved = (
            event.status if status is None and event.event == Event.SUBSCRIBED else _MOVES.get((status, event.event))
        )
        if moved != event.status:
            return False
        status = event.status
    return bool(history) and status == row.status and history[-1].plan_version_id == row.plan_version_id


_MOVES: dict[tuple[str | None, str], str] = {(status, event): to for (status, event), to in MOVES.items()}
"""The table of moves, for texts that need not be in the vocabulary."""

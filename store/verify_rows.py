"""Verification, row by row: holds and usage events. Called by `store.verify`."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.holds import HoldState
from policies.terms import OnLate
from store.findings import Findings, Span
from store.ids import id_text
from store.tables import accounts, holds, usage_events

_SETTLED = holds.c.state == HoldState.SETTLED
_LATE = holds.c.late_at.is_not(None)
_CHARGED = _SETTLED | _LATE


def check_holds(connection: Connection, span: Span, found: Findings) -> None:
    """Each hold in itself."""
    hold = holds.c
    is_open = hold.state == HoldState.RESERVED
    suspect = (
        hold.state.not_in(list(HoldState))
        | (is_open & hold.ended_at.is_not(None))
        | (~is_open & hold.ended_at.is_(None))
        | (~_CHARGED & (hold.settled_amount != 0))
        | (_LATE & ((hold.state != HoldState.EXPIRED) | (hold.on_late != OnLate.CHARGE)))
        | (hold.settled_amount > hold.amount)
        | ~sa.exists().where(accounts.c.id == hold.account_id)
    )
    query = sa.select(hold.id, hold.state, hold.amount, hold.settled_amount, hold.taken, _CHARGED.label("charged"))
    for row in connection.execute(query.where(span.has(hold.id), suspect)):
        # What was taken beyond the amount is recorded part by part, and is the only way to be charged more.
        overrun = row.charged and row.settled_amount > row.amount
        if not overrun or sum(part for _, part in row.taken.get("grants", ())) != row.settled_amount:
            found.breach("holds", f"hold {id_text(row.id)}: {row.state}, {row.settled_amount} of {row.amount}")
    found.checked["holds"] += span.count


def check_usage_of_holds(connection: Connection, span: Span, found: Findings) -> None:
    hold, event = holds.c, usage_events.c
    wrong = (
        (_CHARGED & event.id.is_(None))
        | (~_CHARGED & event.id.is_not(None))
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

"""Verification of usage in sums: what was archived against the ledger, and the roll-up against both.

Called by `store.verify`, for a stretch of accounts at a time.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.terms import Funding
from store.archiving import archived_until
from store.findings import MAX_LISTED, Findings, Span, sums_by
from store.ids import first_id_at, id_text
from store.roll_up import EVERYBODY, frontier
from store.rows import CHARGES, EntryKind
from store.tables import archived_usage, holds, ledger_entries, usage_daily, usage_events

_archived, _day, _event, _entry = archived_usage.c, usage_daily.c, usage_events.c, ledger_entries.c


def archived_charges(connection: Connection, span: Span) -> dict[int, int]:
    """Micro-credits charged for usage that was archived, by account."""
    return sums_by(connection, _archived.account_id, _of_credits(span), _archived.charged)


def archived_spending(connection: Connection, span: Span) -> dict[int, int]:
    """The same, less what was given back of it."""
    return sums_by(connection, _archived.account_id, _of_credits(span), _archived.charged - _archived.refunded)


def _of_credits(span: Span) -> sa.ColumnElement[bool]:
    return span.has(_archived.account_id) & (_archived.funding == Funding.CREDITS)


def check_archived(connection: Connection, span: Span, found: Findings) -> None:
    """Entries whose hold is not here: no younger than the archives, and of the sums that were archived."""
    is_charge, is_refund = _entry.kind.in_(CHARGES), _entry.kind == EntryKind.REFUND
    amounts = (
        # An overrun that is lent has an entry of its own, beside that of the usage.
        sa.func.count(sa.distinct(sa.case((is_charge, _entry.hold_id)))),
        sa.func.sum(sa.case((is_charge, -_entry.amount), else_=0)),
        sa.func.sum(sa.case((is_refund, _entry.amount), else_=0)),
    )
    missing = (span.has(_entry.account_id), _entry.hold_id.is_not(None), holds.c.id.is_(None))
    joined = ledger_entries.outerjoin(holds, holds.c.id == _entry.hold_id)
    by_account = sa.select(_entry.account_id, *amounts).select_from(joined).where(*missing).group_by(_entry.account_id)
    booked = {row[0]: tuple(map(int, row[1:])) for row in connection.execute(by_account)}
    columns = (_archived.account_id, _archived.charges, _archived.charged, _archived.refunded)
    archived = {row[0]: tuple(row[1:]) for row in connection.execute(sa.select(*columns).where(_of_credits(span)))}
    for account_id in sorted(booked.keys() | archived.keys()):
        entries, sums = booked.get(account_id, (0, 0, 0)), archived.get(account_id, (0, 0, 0))
        if entries != sums:
            told = "account {}: charges, charged and refunded {} without a hold, archived {}"
            found.breach("charges", told.format(account_id, entries, sums))
    until = archived_until(connection)
    young = _entry.hold_id >= (first_id_at(until) if until is not None else 0)
    for hold_id in connection.scalars(
        sa.select(_entry.hold_id).select_from(joined).where(*missing, young).limit(MAX_LISTED)
    ):
        found.breach("charges", f"hold {id_text(hold_id)}: it has entries, and is neither here nor archived")


def check_roll_up(connection: Connection, span: Span, found: Findings) -> None:
    """Each account's sums by day, against its rows up to the frontier and its archived sums."""
    mark = frontier(connection)
    counted = (span.has(_event.account_id), _event.id <= mark.id, _event.at <= mark.at)
    here = sa.select(
        _event.account_id, _event.funding, sa.literal(1).label("calls"), _event.charged, sa.literal(0).label("refunded")
    ).where(*counted)
    names = ("calls", "charged", "refunded")
    gone = sa.select(_archived.account_id, _archived.funding, *(_archived[name] for name in names))
    summed = sa.select(_day.account_id, _day.funding, *(-_day[name] for name in names))
    summed = summed.where(span.has(_day.account_id), _day.account_id != EVERYBODY, _day.day <= mark.day)
    parts = sa.union_all(here, gone.where(span.has(_archived.account_id)), summed).subquery().c
    differences = [sa.func.sum(parts[name]) for name in names]
    query = sa.select(parts.account_id, parts.funding, *differences).group_by(parts.account_id, parts.funding)
    query = query.having(sa.or_(*(difference != 0 for difference in differences)))
    for account_id, funding, *missing in connection.execute(query.order_by(parts.account_id, parts.funding)):
        wrong = ", ".join(f"{name} {int(amount):+}" for name, amount in zip(names, missing, strict=True) if amount)
        found.breach("rollup", f"account {account_id}: {funding} usage by day lacks {wrong}")
    found.checked["rollup"] += span.count


def check_everybody(connection: Connection, found: Findings) -> None:
    """The sums of all accounts together, against those of each."""
    key = (_day.day, _day.model_key, _day.funding)
    sign = sa.case((_day.account_id == EVERYBODY, -1), else_=1)
    differences = [sa.func.sum(sign * _day[name]) for name in ("calls", "charged", "refunded", "estimated")]
    query = sa.select(*key).where(_day.day <= frontier(connection).day).group_by(*key)
    query = query.having(sa.or_(*(difference != 0 for difference in differences)))
    for day, model_key, funding in connection.execute(query.order_by(*key).limit(MAX_LISTED)):
        found.breach("rollup", f"{day:%Y-%m-%d}: {funding} usage of {model_key} by all is not that of each account")

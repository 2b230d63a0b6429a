"""Verification, account by account: grants, where open holds took from, and where what is gone has gone. Called by
`store.verify`.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.terms import Funding
from store.findings import MAX_LISTED, Findings, Span, sums_by
from store.ids import id_text
from store.open_holds import IS_OPEN
from store.rows import CHARGES, EntryKind
from store.tables import accounts, credit_grants, holds, ledger_entries
from store.verify_usage import archived_spending

ENTRIES_AT_ONCE = 5_000
"""Charges in memory at once, each with its hold's provenance: an account may have any number of them."""

_BY_CREDITS = holds.c.funding == Funding.CREDITS


def check_grants(connection: Connection, span: Span, found: Findings) -> None:
    """Grants against the entries that booked them."""
    grants, entries = credit_grants.c, ledger_entries.c
    booked = (
        sa.select(entries.grant_id, sa.func.count().label("times"), sa.func.sum(entries.amount).label("amount"))
        .where(span.has(entries.account_id), entries.kind.in_((EntryKind.GRANT, EntryKind.OVERRUN)))
        .group_by(entries.account_id, entries.grant_id)
        .subquery()
    )
    # An overrun is booked by what it took, which is what was lent.
    wrong = booked.c.times.is_(None) | (booked.c.times != 1) | (sa.func.abs(booked.c.amount) != grants.amount)
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
    for row in connection.execute(query.where(IS_OPEN, _BY_CREDITS, span.has(holds.c.account_id))):
        parts = row.taken.get("grants", ())
        for grant_id, part in parts:
            taken[grant_id] += part
        if sum(part for _, part in parts) != row.amount:
            found.breach("provenance", f"hold {id_text(row.id)}: its parts are not its amount")
        found.checked["provenance"] += 1
    unspent_ones = sa.select(grants.id, grants.unspent).where(span.has(grants.account_id), sa.text("NOT spent"))
    unspent = {row.id: row.unspent for row in connection.execute(unspent_ones)}
    for grant_id, parts_taken in sorted(taken.items()):
        if parts_taken > (has := unspent.get(grant_id, 0)):
            found.breach("provenance", f"grant {grant_id}: has {has} left, open holds have taken {parts_taken}")


def check_spending(connection: Connection, span: Span, found: Findings) -> None:
    """What is gone from each grant, against what holds have spent of it and what lapsed of it.

    Deductions, repaid overruns and what was archived do not say which grant they took from, so the rest is compared
    account by account: no grant has lost less than is known of it, and together they have lost what those took.
    """
    grants, entries = credit_grants.c, ledger_entries.c
    gone: Counter[int] = Counter()
    of_account: defaultdict[int, list[int]] = defaultdict(list)
    columns = sa.select(grants.id, grants.account_id, grants.amount - grants.unspent)
    for grant_id, account_id, amount in connection.execute(columns.where(span.has(grants.account_id))):
        gone[grant_id] = amount
        of_account[account_id].append(grant_id)
        found.checked["spending"] += 1
    lapsed = span.has(entries.account_id) & (entries.kind == EntryKind.EXPIRE)
    gone.update(sums_by(connection, entries.grant_id, lapsed, entries.amount))
    for grant_id, part in _spent(connection, span):
        gone[grant_id] -= part
    in_any_way = span.has(entries.account_id) & entries.kind.in_((EntryKind.ADJUST, EntryKind.OVERRUN))
    taken = sums_by(connection, entries.account_id, in_any_way, -entries.amount)
    archived = archived_spending(connection, span)
    owed = sums_by(connection, accounts.c.id, span.has(accounts.c.id), accounts.c.overdrawn)
    for account_id, grant_ids in of_account.items():
        total = sum(gone[grant_id] for grant_id in grant_ids)
        known = taken.get(account_id, 0) - owed.get(account_id, 0) + archived.get(account_id, 0)
        if total != known:
            found.breach("spending", f"account {account_id}: grants lost {total}, deducted and repaid {known}")
    for grant_id, amount in gone.items():
        if amount < 0:
            found.breach("spending", f"grant {grant_id}: spent and lapsed {-amount} more than is gone")
    _check_lapses(connection, span, found)


def _spent(connection: Connection, span: Span) -> Iterator[tuple[int, int]]:
    """Each grant with what one hold has spent of it, less what was refunded."""
    entries = ledger_entries.c
    charges = entries.kind.in_(CHARGES)
    taken = sa.type_coerce(holds.c.taken, sa.Text)
    query = (
        sa.select(entries.account_id, entries.version, holds.c.id, taken, holds.c.settled_amount)
        .add_columns(holds.c.refunded_amount)
        .join(holds, holds.c.id == entries.hold_id)
        .where(span.has(entries.account_id), charges)
        .order_by(entries.account_id, entries.version)
        .limit(ENTRIES_AT_ONCE)
    )
    last: tuple[int, int] = (span.after, 0)
    previous: int | None = None
    while rows := connection.execute(query.where(sa.tuple_(entries.account_id, entries.version) > last)).all():
        for account_id, version, hold_id, text, settled, refunded in rows:
            last = account_id, version
            # An overrun is booked right after the usage of its hold, and both are in the hold's amount.
            if hold_id != previous:
                yield from _parts(text, settled - refunded)
            previous = hold_id


def _parts(taken: str, left: int) -> Iterator[tuple[int, int]]:
    """What was taken first was spent first, and what was spent last was refunded first."""
    for grant_id, part in json.loads(taken).get("grants", ()):
        spent = min(part, left)
        left -= spent
        yield grant_id, spent


def _check_lapses(connection: Connection, span: Span, found: Findings) -> None:
    grants, entries = credit_grants.c, ledger_entries.c
    early = (
        sa.select(entries.account_id, entries.version)
        .outerjoin(credit_grants, grants.id == entries.grant_id)
        .where(span.has(entries.account_id), entries.kind == EntryKind.EXPIRE)
        .where(grants.expires_at.is_(None) | (grants.expires_at > entries.at))
    )
    for account_id, version in connection.execute(early.limit(MAX_LISTED)):
        found.breach("spending", f"account {account_id}: entry {version} lets credits lapse before their time")


def check_keys(connection: Connection, span: Span, found: Findings) -> None:
    """Should the index that keeps a key to one grant ever be lost."""
    grants = credit_grants.c
    doubled = sa.select(grants.account_id, grants.key).where(span.has(grants.account_id))
    doubled = doubled.group_by(grants.account_id, grants.key).having(sa.func.count() > 1)
    for account_id, key in connection.execute(doubled.limit(MAX_LISTED)):
        found.breach("keys", f"account {account_id}: more than one grant with the key {key!r}")
    found.checked["keys"] += span.count


def check_jobs(connection: Connection, found: Findings) -> None:
    """Should the index that keeps a job to one hold ever be lost."""
    bound = sa.select(holds.c.route_id, holds.c.job_id).where(holds.c.job_id.is_not(None))
    doubled = bound.group_by(holds.c.route_id, holds.c.job_id).having(sa.func.count() > 1)
    for route_id, job_id in connection.execute(doubled.limit(MAX_LISTED)):
        found.breach("keys", f"route {route_id}: more than one hold of the job {job_id!r}")

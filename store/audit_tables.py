"""The tables of the audit log: what operators asked for, what came of it, and the chain that shows any change of it.

Triggers of the database refuse to change a row of any of them, and to take one away that no cut allows; they are in
migration 0010. A part of `store.tables`, which everybody imports them from.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, Table, Text

from store.columns import Id, Json, Moment, metadata

audit_entries = Table(
    "audit_entries",
    metadata,
    Column("id", Id, primary_key=True),
    Column("at", Moment, nullable=False, index=True),
    Column("actor", Text, nullable=False),
    Column("place", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("arguments", Json, nullable=False),
    Column("role", Text),
    Column("moved", sa.BigInteger),
)
"""Append-only: one row for each change that was asked for, written before it is made."""

audit_outcomes = Table(
    "audit_outcomes",
    metadata,
    Column("entry_id", Id, primary_key=True, autoincrement=False),
    Column("at", Moment, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("error", Text),
    Column("revision_before", Text),
    Column("revision_after", Text),
)
"""Append-only: what came of it. By its key an entry has one outcome at most, and keeps it."""

audit_links = Table(
    "audit_links",
    metadata,
    Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("entry_id", sa.BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
    Column("chain", Text, nullable=False),
)
"""Append-only, and stays for ever: a link for each row above, numbered from 1 without gaps. `digest` is that of the
row, `chain` that of the digest and of the link before.
"""

audit_cuts = Table(
    "audit_cuts",
    metadata,
    Column("through", sa.BigInteger, primary_key=True, autoincrement=False),
    Column("at", Moment, nullable=False),
)
"""Append-only: retention has taken the entries up to this number. Only those can be taken."""

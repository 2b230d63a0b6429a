"""The tables of the audit log: what operators asked for, and what came of it.

A part of `store.tables`, which everybody imports them from.
"""

from __future__ import annotations

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

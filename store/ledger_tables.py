"""The tables of the ledger: grants, holds, entries. `store.tables` has the others and lists all.

Stored is what was granted, taken, spent and used. What follows from these is counted: balances, and what is held.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Table, Text, UniqueConstraint

from store.columns import Id, Json, Moment, metadata

credit_grants = Table(
    "credit_grants",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", sa.BigInteger, ForeignKey("accounts.id"), nullable=False),
    Column("key", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("amount", sa.BigInteger, nullable=False),
    Column("unspent", sa.BigInteger, nullable=False),
    Column("spent", sa.Boolean, nullable=False),
    Column("priority", sa.Integer, nullable=False),
    Column("effective_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("description", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("account_id", "key"),
    CheckConstraint("unspent >= 0 AND unspent <= amount", name="unspent"),
    CheckConstraint("spent = (unspent = 0)", name="spent"),
)
"""`unspent` counts what open holds have taken too: that is spent only when they settle. `spent` says that nothing is
left, in a column of its own so that the index of the others need not be written with every payment.
"""
_UNSPENT = sa.text("NOT spent")
Index("ix_credit_grants_unspent", credit_grants.c.account_id, sqlite_where=_UNSPENT, postgresql_where=_UNSPENT)

holds = Table(
    "holds",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("account_id", sa.BigInteger, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("key_id", Text),
    Column("state", Text, nullable=False),
    Column("funding", Text, nullable=False),
    Column("amount", sa.BigInteger, nullable=False),
    Column("settled_amount", sa.BigInteger, nullable=False, default=0),
    Column("refunded_amount", sa.BigInteger, nullable=False, default=0),
    Column("taken", Json, nullable=False),
    Column("model_key", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("route_id", Text, nullable=False),
    Column("policy_revision", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("price_version", sa.Integer, nullable=False),
    Column("units", Json, nullable=False),
    Column("job_id", Text),
    Column("on_deadline", Text, nullable=False),
    Column("on_late", Text, nullable=False, server_default="none"),
    Column("overrun", Text, nullable=False, server_default="cap"),
    Column("deadline", Moment, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("end_reason", Text),
    Column("late_at", Moment),
    CheckConstraint("amount >= 0 AND refunded_amount >= 0 AND refunded_amount <= settled_amount", name="amounts"),
)
"""The id is the request's id as well: one request, one hold. `taken` is the exact provenance of the amount.

What is held of a grant or a quota window is stored nowhere else: it is what the open holds have taken from it, so no
counter can drift from them.
"""
_OPEN = sa.text("state = 'reserved'")
Index("ix_holds_open", holds.c.deadline, sqlite_where=_OPEN, postgresql_where=_OPEN)
Index("ix_holds_open_of_account", holds.c.account_id, sqlite_where=_OPEN, postgresql_where=_OPEN)
REFUNDED = sa.text("refunded_amount > 0")
Index("ix_holds_refunded", holds.c.account_id, holds.c.id, sqlite_where=REFUNDED, postgresql_where=REFUNDED)
_HAS_JOB = sa.text("job_id IS NOT NULL")
Index(
    "uq_holds_job",
    holds.c.route_id,
    holds.c.job_id,
    unique=True,
    sqlite_where=_HAS_JOB,
    postgresql_where=_HAS_JOB,
)

ledger_entries = Table(
    "ledger_entries",
    metadata,
    Column("account_id", sa.BigInteger, primary_key=True, autoincrement=False),
    Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("amount", sa.BigInteger, nullable=False),
    Column("balance_after", sa.BigInteger, nullable=False),
    Column("hold_id", sa.BigInteger),
    Column("grant_id", sa.BigInteger),
    Column("description", Text, nullable=False),
    Column("at", Moment, nullable=False),
    sqlite_with_rowid=False,
)
"""Append-only; the key makes a gap or a doubled version impossible to overlook."""

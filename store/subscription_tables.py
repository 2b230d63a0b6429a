"""The tables of subscriptions, their history, and what was paid for them. `store.tables` names them with all others."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, ForeignKey, ForeignKeyConstraint, Index, Table, Text, UniqueConstraint

from policies.subscription import CURRENT, Status
from store.columns import Id, Moment, metadata

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", sa.BigInteger, ForeignKey("accounts.id"), nullable=False),
    Column("plan_version_id", sa.BigInteger, ForeignKey("plan_versions.id"), nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("anchor", Moment, nullable=False),
    Column("period_start", Moment, nullable=False),
    Column("period_end", Moment, nullable=False),
    Column("amount_due", sa.BigInteger, nullable=False),
    Column("cancel_at", Moment),
    Column("cancel_reason", Text),
    Column("canceled_at", Moment),
    Column("scheduled_plan_version_id", sa.BigInteger, ForeignKey("plan_versions.id")),
    Column("pending_plan_version_id", sa.BigInteger, ForeignKey("plan_versions.id")),
    Column("grace_s", sa.BigInteger, nullable=False),
    Column("previous_id", sa.BigInteger),
    Column("ended_at", Moment),
    Column("trial_end", Moment),
    Column("pending_until", Moment),
    Column("carried", sa.BigInteger, nullable=False, server_default="0"),
    Column("refund_quoted", sa.BigInteger, nullable=False, server_default="0"),
    Column("plan_since", Moment),
)
_STATES = ", ".join(f"'{status}'" for status in Status if status in CURRENT)
_CURRENT = sa.text(f"status IN ({_STATES})")
"""The states of the table of moves; a migration has to follow when they change, or a test fails."""

Index(
    "uq_subscriptions_current",
    subscriptions.c.account_id,
    unique=True,
    sqlite_where=_CURRENT,
    postgresql_where=_CURRENT,
)
Index("ix_subscriptions_account_id_id", subscriptions.c.account_id, subscriptions.c.id)
Index("ix_subscriptions_due", subscriptions.c.period_end, sqlite_where=_CURRENT, postgresql_where=_CURRENT)

subscription_events = Table(
    "subscription_events",
    metadata,
    Column("subscription_id", sa.BigInteger, ForeignKey("subscriptions.id"), primary_key=True),
    Column("seq", sa.Integer, primary_key=True),
    Column("event", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("plan_version_id", sa.BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("at", Moment, nullable=False),
    Column("amount_due", sa.BigInteger, nullable=False, server_default="0"),
    Column("carried", sa.BigInteger, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)
"""Append-only. `status`, `plan_version_id`, `amount_due` and `carried` are those of the subscription after the event,
so that every payment can be compared with what was due before it."""

payments = Table(
    "payments",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", sa.BigInteger, ForeignKey("accounts.id"), nullable=False),
    Column("subscription_id", sa.BigInteger, nullable=False),
    Column("seq", sa.Integer, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("amount", sa.BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("plan_version_id", sa.BigInteger, ForeignKey("plan_versions.id"), nullable=False),
    Column("key", Text, nullable=False, unique=True),
    Column("actor", Text, nullable=False),
    Column("at", Moment, nullable=False),
    UniqueConstraint("subscription_id", "seq"),
    ForeignKeyConstraint(
        ("subscription_id", "seq"), (subscription_events.c.subscription_id, subscription_events.c.seq)
    ),
    CheckConstraint("amount > 0", name="amount"),
    Index("ix_payments_account_id_id", "account_id", "id"),
)
"""Append-only: one for each event `paid`, which `seq` names. The key is unique over all accounts, since it names
something in the world outside, such as an invoice or a transfer, that can be paid once."""

"""Every table, in SQLAlchemy Core. The migrations in `store.migrations` build exactly these; a test compares them.

Amounts are BIGINT: credits in micro-credits, quota in units, money in minor units. Moments are BIGINT microseconds
since 1970 in UTC, which both databases order, index and compare alike. Free-form values are JSON texts.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Table, Text, UniqueConstraint

from store.columns import Id, Json, Moment, metadata

__all__ = [
    "accounts",
    "api_keys",
    "apps",
    "counters",
    "credit_grants",
    "holds",
    "leases",
    "ledger_entries",
    "metadata",
    "models",
    "plan_versions",
    "plans",
    "quota_windows",
    "subscription_events",
    "subscriptions",
    "usage_events",
    "users",
]

counters = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", sa.BigInteger, nullable=False),
)
"""Small numbers that processes agree on: the catalogue's revision, the count of processes started."""

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", Moment, nullable=False),
    Column("fencing_token", sa.BigInteger, nullable=False),
    Column("last_success", Moment),
)

apps = Table(
    "apps",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("icon", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("route_prefix", Text, nullable=False),
    Column("enabled", sa.Boolean, nullable=False),
    Column("beta", sa.Boolean, nullable=False),
    Column("coming_soon", sa.Boolean, nullable=False),
    Column("position", sa.Integer, nullable=False),
    Column("color", Text, nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("key", Text, primary_key=True),
    Column("app_id", Text, ForeignKey("apps.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("enabled", sa.Boolean, nullable=False),
    Column("beta", sa.Boolean, nullable=False),
    Column("price_base", sa.BigInteger, nullable=False),
    Column("price_rates", Json, nullable=False),
    Column("price_step", sa.BigInteger, nullable=False),
    Column("price_version", sa.Integer, nullable=False),
    Column("quota_cost", sa.BigInteger, nullable=False),
    Column("capabilities", Json, nullable=False),
    CheckConstraint("price_base >= 0 AND price_step > 0 AND quota_cost >= 0", name="price"),
)

plans = Table(
    "plans",
    metadata,
    Column("id", Text, primary_key=True),
    Column("active", sa.Boolean, nullable=False),
    Column("position", sa.Integer, nullable=False),
    Column("version_id", sa.BigInteger, nullable=False),
)
"""What is on sale now: points at the newest version of each plan."""

plan_versions = Table(
    "plan_versions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("plan_id", Text, nullable=False),
    Column("version", sa.Integer, nullable=False),
    Column("tier", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("price", sa.BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("cycle", Text, nullable=False),
    Column("daily_quota", sa.BigInteger, nullable=False),
    Column("monthly_quota", sa.BigInteger),
    Column("max_model_tier", Text, nullable=False),
    Column("features", Json, nullable=False),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("plan_id", "version"),
    CheckConstraint("price >= 0 AND daily_quota >= 0", name="amounts"),
)
"""Immutable: a changed plan is a new version, and subscribers keep theirs."""

accounts = Table(
    "accounts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("posted", sa.BigInteger, nullable=False, default=0),
    Column("pending", sa.BigInteger, nullable=False, default=0),
    Column("version", sa.BigInteger, nullable=False, default=0),
    Column("revision", sa.BigInteger, nullable=False, default=0),
    Column("may_overdraw", sa.Boolean, nullable=False, default=False),
    Column("tags", Json, nullable=False),
    Column("frozen_at", Moment),
    Column("created_at", Moment, nullable=False),
    CheckConstraint("pending >= 0", name="pending"),
    CheckConstraint("posted - pending >= 0 OR may_overdraw", name="available"),
)
"""`version` numbers the account's ledger entries; `revision` counts changes of what a decision depends on."""

users = Table(
    "users",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", sa.BigInteger, ForeignKey("accounts.id"), nullable=False, index=True),
    Column("email", Text),
    Column("created_at", Moment, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("sha256", Text, nullable=False, unique=True),
    Column("account_id", sa.BigInteger, ForeignKey("accounts.id"), nullable=False, index=True),
    Column("user_id", Text, ForeignKey("users.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("models", Json, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("revoked_at", Moment),
)
"""`id` is the visible beginning of the key; the key itself is never stored."""

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
)
_CURRENT = sa.text("status IN ('incomplete', 'active', 'past_due')")
Index(
    "uq_subscriptions_current",
    subscriptions.c.account_id,
    unique=True,
    sqlite_where=_CURRENT,
    postgresql_where=_CURRENT,
)
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
    sqlite_with_rowid=False,
)

credit_grants = Table(
    "credit_grants",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", sa.BigInteger, ForeignKey("accounts.id"), nullable=False),
    Column("key", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("amount", sa.BigInteger, nullable=False),
    Column("remaining", sa.BigInteger, nullable=False),
    Column("held", sa.BigInteger, nullable=False),
    Column("priority", sa.Integer, nullable=False),
    Column("effective_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("description", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("account_id", "key"),
    CheckConstraint("remaining >= 0 AND held >= 0 AND remaining + held <= amount", name="parts"),
)
_ALIVE = sa.text("remaining > 0 OR held > 0")
Index("ix_credit_grants_alive", credit_grants.c.account_id, sqlite_where=_ALIVE, postgresql_where=_ALIVE)

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
    Column("deadline", Moment, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("end_reason", Text),
    CheckConstraint("amount >= 0 AND refunded_amount >= 0 AND refunded_amount <= settled_amount", name="amounts"),
)
"""The id is the request's id as well: one request, one hold. `taken` is the exact provenance of the amount."""
_OPEN = sa.text("state = 'reserved'")
Index("ix_holds_open", holds.c.deadline, sqlite_where=_OPEN, postgresql_where=_OPEN)
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

quota_windows = Table(
    "quota_windows",
    metadata,
    Column("account_id", sa.BigInteger, primary_key=True, autoincrement=False),
    Column("window_start", Moment, primary_key=True),
    Column("metric", Text, primary_key=True),
    Column("window_end", Moment, nullable=False),
    Column("limit", sa.BigInteger, nullable=False),
    Column("used", sa.BigInteger, nullable=False),
    Column("held", sa.BigInteger, nullable=False),
    Column("plan_version_id", sa.BigInteger, nullable=False),
    CheckConstraint("used >= 0 AND held >= 0", name="amounts"),
    sqlite_with_rowid=False,
)
"""No CHECK of used <= limit: a downgrade in the middle of a window may make it false."""

usage_events = Table(
    "usage_events",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("account_id", sa.BigInteger, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("key_id", Text),
    Column("model_key", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("route_id", Text, nullable=False),
    Column("funding", Text, nullable=False),
    Column("quoted", sa.BigInteger, nullable=False),
    Column("charged", sa.BigInteger, nullable=False),
    Column("units", Json, nullable=False),
    Column("estimated", sa.Boolean, nullable=False),
    Column("upstream_status", sa.Integer),
    Column("latency_ms", sa.Integer),
    Column("at", Moment, nullable=False),
    Index("ix_usage_events_account_id_id", "account_id", "id"),
)
"""One row for every settled hold, with the hold's id, which orders rows by time."""

"""Every table, in SQLAlchemy Core; those of subscriptions and policies are in files of their own. The migrations in
`store.migrations` build exactly these; a test compares them.

Amounts are BIGINT: credits in micro-credits, quota in units, money in minor units. Moments are BIGINT microseconds
since 1970 in UTC, which both databases order, index and compare alike. Free-form values are JSON texts.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, ForeignKey, Table, Text, UniqueConstraint

from store.audit_tables import audit_cuts, audit_entries, audit_links, audit_outcomes
from store.columns import Id, Json, Moment, metadata
from store.later_tables import idempotency_keys, job_watches
from store.ledger_tables import credit_grants, holds, ledger_entries
from store.policy_tables import decisions, policy_nodes, policy_revisions, rate_counters, rate_places
from store.quota_table import quota_windows
from store.subscription_tables import payments, subscription_events, subscriptions
from store.usage_tables import archived_usage, usage_archives, usage_daily, usage_events

__all__ = [
    "accounts",
    "api_keys",
    "apps",
    "archived_usage",
    "audit_cuts",
    "audit_entries",
    "audit_links",
    "audit_outcomes",
    "counters",
    "credit_grants",
    "decisions",
    "holds",
    "idempotency_keys",
    "job_watches",
    "leases",
    "ledger_entries",
    "metadata",
    "models",
    "payments",
    "plan_versions",
    "plans",
    "policy_nodes",
    "policy_revisions",
    "quota_windows",
    "rate_counters",
    "rate_places",
    "subscription_events",
    "subscriptions",
    "usage_archives",
    "usage_daily",
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
    Column("price_terms", Json, nullable=False, server_default="{}"),
    Column("quota_terms", Json, nullable=False, server_default="{}"),
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
    Column("trial_days", sa.Integer),
    Column("quota_timezone", Text, nullable=False, server_default="UTC"),
    Column("quota_day_starts", Text, nullable=False, server_default="00:00"),
    Column("quota_month", Text, nullable=False, server_default="calendar"),
    Column("daily_rollover", sa.BigInteger, nullable=False, server_default="0"),
    Column("monthly_rollover", sa.BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("plan_id", "version"),
    CheckConstraint("price >= 0 AND daily_quota >= 0", name="amounts"),
)
"""Immutable: a changed plan is a new version, and subscribers keep theirs."""

accounts = Table(
    "accounts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("revision", sa.BigInteger, nullable=False, default=0),
    Column("overdrawn", sa.BigInteger, nullable=False, server_default="0"),
    Column("tags", Json, nullable=False),
    Column("frozen_at", Moment),
    Column("created_at", Moment, nullable=False),
    CheckConstraint("overdrawn >= 0", name="overdrawn"),
)
"""`revision` counts changes of what a decision depends on. `overdrawn` is what overruns have taken beyond the credits
there were, and what has come in since has not made good yet. The row is also the lock of everything the account has.

There is no balance here: it is what the grants have left, less what is overdrawn. A request that pays therefore never
writes this row.
"""

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
    Column("scopes", Json, nullable=False, server_default='["use","read","manage"]'),
    Column("replaced_by", Text),
)
"""`id` is the visible beginning of the key; the key itself is never stored. `replaced_by` is the id of the key that a
rotation has made in its place.
"""

"""The tables about policies: what was in force, who reports what, what was decided, and what limits have counted.

`store.tables` names them with all others.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, Index, Table, Text

from store.columns import Id, Json, Moment, metadata

policy_revisions = Table(
    "policy_revisions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("revision", Text, nullable=False),
    Column("source", Json, nullable=False),
    Column("origin", Text, nullable=False),
    Column("overrules", Text),
    Column("at", Moment, nullable=False),
)
"""Append-only: each policy that was put in force, with its text. `source` is a list of names and texts of files.

`overrules` is the fingerprint of the files that a rollback stands in for: as long as they are on disk.
"""

policy_nodes = Table(
    "policy_nodes",
    metadata,
    Column("node", Text, primary_key=True),
    Column("revision", Text, nullable=False),
    Column("loaded_at", Moment, nullable=False),
    Column("using_last_good", sa.Boolean, nullable=False),
    Column("error", Text),
    Column("seen_at", Moment, nullable=False),
)
"""What each serving process says of itself."""

decisions = Table(
    "decisions",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("account_id", sa.BigInteger, nullable=False),
    Column("at", Moment, nullable=False),
    Column("allowed", sa.Boolean, nullable=False),
    Column("code", Text),
    Column("rule", Text),
    Column("revision", Text, nullable=False),
    Column("model_key", Text, nullable=False),
    Column("route_id", Text, nullable=False),
    Column("details", Json, nullable=False),
    Index("ix_decisions_account_id_id", "account_id", "id"),
    Index("ix_decisions_rule_id", "rule", "id"),
)
"""One row for each metered request that was decided, with the request's id, which orders rows by time."""

rate_counters = Table(
    "rate_counters",
    metadata,
    Column("limit_id", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("empty_at", sa.BigInteger, nullable=False),
)
"""Counters of limits, where the settings say that processes share them: the moment at which each is empty again."""

rate_places = Table(
    "rate_places",
    metadata,
    Column("hold_id", sa.BigInteger, primary_key=True, autoincrement=False),
    Column("limit_id", Text, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("until", Moment, nullable=False),
    Index("ix_rate_places_limit_id_subject", "limit_id", "subject"),
)
"""Running calls of limits on concurrency: each as long as its hold is open, and until then for a moment."""

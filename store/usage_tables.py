"""The tables of usage: the rows themselves, their sums by day, and what was moved out of the database into archives.

A part of `store.tables`, which everybody imports them from.
"""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy import Column, Index, Table, Text

from store.columns import Id, Json, Moment, metadata, to_micros
from store.ids import EPOCH, IDS_PER_MS

PROMPT = timedelta(minutes=15)
"""How long after its request most usage is settled. What comes later is in an index of its own, so that changing this
takes a migration. Longer would keep jobs out of that index, and more of today out of the roll-up.
"""

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
"""One row for every settled hold, with the hold's id, which orders rows by time. `at` is when it was settled."""

LATE = sa.text(f"at - id / {IDS_PER_MS} * 1000 > {to_micros(EPOCH + PROMPT)}")
"""Settled more than `PROMPT` after the request. As an index needs it: word for word the same wherever it is asked."""
Index("ix_usage_events_late", usage_events.c.at, sqlite_where=LATE, postgresql_where=LATE)

usage_daily = Table(
    "usage_daily",
    metadata,
    Column("account_id", sa.BigInteger, primary_key=True, autoincrement=False),
    Column("day", Moment, primary_key=True),
    Column("model_key", Text, primary_key=True),
    Column("funding", Text, primary_key=True),
    Column("calls", sa.BigInteger, nullable=False),
    Column("charged", sa.BigInteger, nullable=False),
    Column("refunded", sa.BigInteger, nullable=False),
    Column("estimated", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Usage added up, by the day of the request (its midnight, UTC); of account 0, that of all accounts together.

How far it goes is the frontier of `store.roll_up`. `refunded` counts what has been archived; of rows that are still
here, refunds are read where they stand, in the holds. Actions and routes are left out: they follow from the model in
nearly every catalogue, and would multiply the rows.
"""

archived_usage = Table(
    "archived_usage",
    metadata,
    Column("account_id", sa.BigInteger, primary_key=True, autoincrement=False),
    Column("funding", Text, primary_key=True),
    Column("calls", sa.BigInteger, nullable=False),
    Column("charges", sa.BigInteger, nullable=False),
    Column("charged", sa.BigInteger, nullable=False),
    Column("refunded", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""The sums of all rows that were deleted here, so that verification stays exact. `charges` are calls above zero."""

usage_archives = Table(
    "usage_archives",
    metadata,
    Column("month", Moment, primary_key=True),
    Column("until", Moment, nullable=False),
    Column("ended_by", Moment, nullable=False),
    Column("file", Text),
    Column("begun_at", Moment, nullable=False),
    Column("rows", sa.BigInteger),
    Column("sha256", Text),
    Column("deleted_through", sa.BigInteger, nullable=False),
    Column("done_at", Moment),
)
"""One row for every month that has left or is leaving. `file` is null where nothing was kept; `rows` and `sha256` are
null until the file is complete, and nothing is deleted before. Each state is in `store.archiving`."""

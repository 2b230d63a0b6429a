"""The tables of what goes on after its request: jobs that are asked about, and requests that are sent again.
`store.tables` lists all.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, Index, Table, Text

from store.columns import AsciiJson, Moment, metadata

job_watches = Table(
    "job_watches",
    metadata,
    Column("hold_id", sa.BigInteger, primary_key=True, autoincrement=False),
    Column("path", Text, nullable=False),
    Column("next_at", Moment, nullable=False),
    Column("wait_us", sa.BigInteger, nullable=False),
    Column("longest_us", sa.BigInteger, nullable=False),
)
"""A job that the scheduler asks about: with which path, when next, and how long it waits after that. The row is written
with the binding of the job to its hold, and goes when it comes up and the hold has ended.
"""
Index("ix_job_watches_next_at", job_watches.c.next_at)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("account_id", sa.BigInteger, primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("request_id", sa.BigInteger, nullable=False),
    Column("claimed_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("status", sa.Integer),
    Column("headers", AsciiJson),
    Column("body", sa.LargeBinary),
)
"""Which request acts for a key, and its answer where that is kept. What else became of it is told by its hold, whose id
is the request's.
"""
Index("ix_idempotency_keys_expires_at", idempotency_keys.c.expires_at)

"""The table of quota windows: one row for each window of an account that anything was asked of. Part of `store.tables`.

The key finds the newest window of an account and a metric with one look. `limit` is the plan's own part of what a
window allows, by the plan version `plan_version_id`, which was the last one seen in it. `carried` comes on top: it was
fixed by the version `opened_by`, when the row was made, as were the start and the end. `regular_start` is only there
for a short window, see `policies.quota`.

There is no CHECK of used <= limit + carried: a downgrade in the middle of a window may make it false.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, Table, Text

from store.columns import Moment, metadata

quota_windows = Table(
    "quota_windows",
    metadata,
    Column("account_id", sa.BigInteger, primary_key=True, autoincrement=False),
    Column("metric", Text, primary_key=True),
    Column("window_start", Moment, primary_key=True),
    Column("window_end", Moment, nullable=False),
    Column("regular_start", Moment),
    Column("limit", sa.BigInteger, nullable=False),
    Column("carried", sa.BigInteger, nullable=False),
    Column("used", sa.BigInteger, nullable=False),
    Column("plan_version_id", sa.BigInteger, nullable=False),
    Column("opened_by", sa.BigInteger, nullable=False),
    CheckConstraint("carried >= 0 AND used >= 0", name="amounts"),
    sqlite_with_rowid=False,
)

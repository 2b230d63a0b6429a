"""Quota windows that have ended long ago: found and dropped, a few accounts at a time.

A window is kept while anything can still ask for it: the history shows it, unused quota of it counts, or an open hold
has taken from it. How long that is, by metric, is for the job to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.terms import AccountId, Metric
from store.open_holds import IS_OPEN
from store.tables import holds, quota_windows

Ends = Mapping[Metric, datetime]
"""By metric: a window that ended then or earlier may go. Those of exemptions stay as long as the longest of them."""


def accounts_with_windows_before(connection: Connection, ends: Ends, after: int, limit: int) -> list[AccountId]:
    """The next accounts above the id `after` that have windows to drop: ended early enough, nothing held.

    Reads along the primary key, so that a run over all accounts is one pass over the table.
    """
    query = sa.select(quota_windows.c.account_id).where(quota_windows.c.account_id > after, _droppable(ends))
    rows = connection.execute(query.distinct().order_by(quota_windows.c.account_id).limit(limit))
    return [AccountId(row.account_id) for row in rows]


def drop_windows(connection: Connection, accounts: Sequence[AccountId], ends: Ends) -> int:
    """Delete the windows of `accounts` that ended early enough; returns their number. Safe to repeat."""
    gone = sa.delete(quota_windows).where(quota_windows.c.account_id.in_(accounts), _droppable(ends))
    return connection.execute(gone).rowcount


def _droppable(ends: Ends) -> sa.ColumnElement[bool]:
    window = quota_windows.c
    ended = [(window.metric == metric) & (window.window_end <= end) for metric, end in ends.items()]
    ended.append(window.metric.not_in(list(ends)) & (window.window_end <= min(ends.values())))
    held = sa.exists().where(holds.c.account_id == window.account_id, IS_OPEN, holds.c.created_at < window.window_end)
    return sa.or_(*ended) & ~held

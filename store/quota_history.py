"""Quota windows that have ended long ago: found and dropped, a few accounts at a time.

A window is kept while anything can still ask for it: the history shows it, or an open hold has taken from it. What
is dropped changes no decision, since a decision looks at the window of its own moment only.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.terms import AccountId
from store.open_holds import IS_OPEN
from store.tables import holds, quota_windows


def accounts_with_windows_before(connection: Connection, end: datetime, after: int, limit: int) -> list[AccountId]:
    """The next accounts above the id `after` that have windows to drop: ended at `end` or earlier, nothing held.

    Reads along the primary key, so that a run over all accounts is one pass over the table.
    """
    query = sa.select(quota_windows.c.account_id).where(quota_windows.c.account_id > after, _droppable(end))
    rows = connection.execute(query.distinct().order_by(quota_windows.c.account_id).limit(limit))
    return [AccountId(row.account_id) for row in rows]


def drop_windows(connection: Connection, accounts: Sequence[AccountId], end: datetime) -> int:
    """Delete the windows of `accounts` that ended at `end` or earlier; returns their number. Safe to repeat."""
    gone = sa.delete(quota_windows).where(quota_windows.c.account_id.in_(accounts), _droppable(end))
    return connection.execute(gone).rowcount


def _droppable(end: datetime) -> sa.ColumnElement[bool]:
    windows = quota_windows.c
    held = sa.exists().where(holds.c.account_id == windows.account_id, IS_OPEN, holds.c.created_at < windows.window_end)
    return (windows.window_end <= end) & ~held

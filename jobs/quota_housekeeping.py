"""Drops the quota windows that nobody can ask for any more.

A reset is not among its tasks: at midnight the window of the day is another one by itself (`policies.windows`).
"""

from __future__ import annotations

from datetime import timedelta

from jobs.turns import Turn
from policies.terms import Metric
from policies.windows import window_at
from store.opening import Store
from store.quota_history import accounts_with_windows_before, drop_windows

HISTORY = timedelta(days=30)
"""How long a window that has ended stays readable. The current month's days are always among them."""

BATCH = 100
"""Accounts in one transaction: normally one window of each, so that no request waits for more than milliseconds."""


async def quota_housekeeping(store: Store, turn: Turn) -> dict[str, int]:
    """Drop what ended more than `HISTORY` before today."""
    now = await store.database.read(store.database.now)
    end = window_at(Metric.DAILY, now).start - HISTORY
    dropped, after = 0, 0
    while accounts := await store.database.read(accounts_with_windows_before, end, after, BATCH):
        dropped += await store.database.write(drop_windows, accounts, end)
        after = accounts[-1]
        if not await turn.goes_on():
            break
    return {"windows_dropped": dropped}

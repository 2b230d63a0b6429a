"""Drops the quota windows that nobody can ask for any more.

A reset is not among its tasks: at midnight, wherever that is, the window of the day is another one by itself
(`policies.windows`). Nor does rollover depend on it: what is dropped here is further back than unused quota counts.
"""

from __future__ import annotations

from datetime import timedelta

from jobs.turns import Turn
from policies.terms import Metric
from store.opening import Store
from store.quota_history import accounts_with_windows_before, drop_windows

KEPT = {Metric.DAILY: timedelta(days=35), Metric.MONTHLY: timedelta(days=64)}
"""How long a window stays after its end. A day: the thirty of the history, and so many more that they are complete in
every time zone, and that thirty whole days lie between what is dropped and now (`policies.quota.ROLLOVER_WINDOWS`).
A month: so that a whole one does."""

BATCH = 100
"""Accounts in one transaction: normally one window of each, so that no request waits for more than milliseconds."""


async def quota_housekeeping(store: Store, turn: Turn) -> dict[str, int]:
    """Drop what ended longer ago than it is kept."""
    now = await store.database.read(store.database.now)
    ends = {metric: now - kept for metric, kept in KEPT.items()}
    dropped, after = 0, 0
    while accounts := await store.database.read(accounts_with_windows_before, ends, after, BATCH):
        dropped += await store.database.write(drop_windows, accounts, ends)
        after = accounts[-1]
        if not await turn.goes_on():
            break
    return {"windows_dropped": dropped}

"""Drops the counters of rate limits that say nothing any more, where processes share them in the database.

No decision waits for it: a counter that is empty lets through what a missing one does (`policies.limiting`).
"""

from __future__ import annotations

from jobs.turns import Turn
from store.opening import Store
from store.rate_counters import drop_quiet


async def rate_housekeeping(store: Store, turn: Turn) -> dict[str, int]:
    """Drop what nobody has asked for a day, in one statement: there is a row for each caller of a day at most."""
    now = await store.database.read(store.database.now)
    return {"rows_dropped": await store.database.write(drop_quiet, now)}

"""Adds usage up for dashboards: what was settled since the last time, or since the beginning.

Dashboards are exact without it (`store.usage_sums`): they read what is not counted yet, which takes longer.
"""

from __future__ import annotations

import logging
from datetime import datetime

from jobs.pacing import unhurried
from jobs.turns import Turn
from store.opening import Store
from store.roll_up import clear_leftovers, count_anew, frontier, next_step, settled_until, take_step

log = logging.getLogger(__name__)


async def roll_up_usage(store: Store, turn: Turn) -> dict[str, int]:
    """Count everything that can be, a step at a time. Two processes at it count every row once."""
    rolled_up, until = 0, await _until(store)
    if until is not None and await _cleared(store, turn):
        while (step := await store.database.read(next_step, until)) is not None:
            if await unhurried(store.database.write(take_step, step)):
                rolled_up += step.count
            if not await turn.goes_on():
                break
    return {"usage_rolled_up": rolled_up}


async def _until(store: Store) -> datetime | None:
    """The moment up to which usage can be counted now. Notices when the clock was set back."""
    # First: a frontier that somebody moves from now on may well be beyond our moment.
    mark = await store.database.read(frontier)
    until = await settled_until(store.database)
    if until is None:
        log.warning("usage is not added up now: some transaction of the database does not end")
    elif until < mark.at:
        # What is settled now may be below a frontier that was drawn by the wrong clock.
        log.warning("the clock was set back, by %s or more: all usage is added up anew", mark.at - until)
        await store.database.write(count_anew, until)
    return until


async def _cleared(store: Store, turn: Turn) -> bool:
    """Clear what does not count any more, if somebody wants it counted anew. False when the turn ends meanwhile."""
    mark = await store.database.read(frontier)
    after: int | None = 0 if mark.anew else None
    while after is not None:
        after = await unhurried(store.database.write(clear_leftovers, after))
        if not await turn.goes_on():
            return False
    return True

"""Asks backends how their jobs stand, for clients that went away: what a backend says ends the holds of its jobs.

Without it a job whose client never asks again would be held until its deadline, and then end by a rule instead of by
what became of it. How a backend is asked is the proxy's, and comes as an argument: this floor speaks no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from jobs.turns import Turn
from store import job_watches
from store.engine import StoreUnavailable
from store.job_watches import Watched
from store.opening import Store

BATCH = 40
"""Questions at the same moment: as each is given ten seconds, a batch stays far below the lease of the turn."""

FORGET = 1000
"""Watches of jobs that have ended, dropped at once: one short transaction."""

Ask = Callable[[Watched], Awaitable[bool]]
"""Asks about one job and ends what has ended. False when no answer could be read."""

log = logging.getLogger(__name__)


async def watch_jobs(store: Store, turn: Turn, ask: Ask | None) -> dict[str, int]:
    """Ask about every job that is due. One that cannot be asked for is asked for again after its wait, which grows."""
    counts = {"asked": 0, "unanswered": 0}
    if ask is None:
        return counts
    now = await store.database.read(store.database.now)
    while await store.database.write(job_watches.forget, now, FORGET) == FORGET:
        if not await turn.goes_on():
            return counts
    while due := await store.database.read(job_watches.due, now, BATCH):
        answers = await asyncio.gather(*(ask(watched) for watched in due), return_exceptions=True)
        # Also after a fault: whatever it was, the others must not wait for it for ever.
        await store.database.write(job_watches.asked, due, await store.database.read(store.database.now))
        for watched, answer in zip(due, answers, strict=True):
            if isinstance(answer, StoreUnavailable) or (isinstance(answer, BaseException) and _ends_us(answer)):
                raise answer
            if isinstance(answer, BaseException):
                log.error("the job %s of %s cannot be asked for", watched.job_id, watched.route_id, exc_info=answer)
            counts["asked"] += 1
            counts["unanswered"] += answer is not True
        if not await turn.goes_on():
            break
    return counts


def _ends_us(error: BaseException) -> bool:
    return not isinstance(error, Exception)

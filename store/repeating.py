"""Endings of holds that the store could not take: kept in memory, and tried again until it does.

A backend has answered, the client has its answer, and the database is away: only this process knows what the hold owes.
Without another try the hold would end at its deadline by the rule for crashes, which gives it back by default. What
this process cannot write before it ends is left to that deadline. Every ending is safe to repeat, so it does not matter
whether the attempt that seemed to fail had reached the disk.

Called by the ledger for the data plane. Operators are told of a failure, and try again themselves.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from itertools import islice

from policies.terms import HoldId
from store.committer import MAX_BATCH, Committer
from store.engine import StoreUnavailable
from store.ids import id_text
from store.verbs import Release, Settle

PAUSE_S = 1
"""Between two tries: a database that comes back is noticed at once, and one that is away is not worn out."""

MAX_KEPT = 10_000
"""Endings in memory: those of the requests that run when a database goes away. None are let in while it is."""

LAST_TRY_S = 5
"""How long a process that stops still tries: less than what a supervisor leaves it."""

log = logging.getLogger(__name__)


class Repeater:
    """The endings of one process that are not written yet."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._kept: dict[HoldId, Settle | Release] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> tuple[Settle | Release, ...]:
        """What is not written yet, in the order in which it came."""
        return tuple(self._kept.values())

    def keep(self, verb: Settle | Release, *, at_most: int = MAX_KEPT) -> None:
        """Try again later. Beyond `at_most` the hold is left to its deadline; of two endings the first one counts."""
        if len(self._kept) >= at_most:
            log.error("hold %s is left to its deadline: too many endings wait for the store", id_text(verb.hold_id))
            return
        if isinstance(verb, Settle) and verb.answer is not None:
            # Thousands of answers would not fit here. Its request is charged, and then not run again either.
            verb = replace(verb, answer=None)
        self._kept.setdefault(verb.hold_id, verb)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="endings to repeat")

    async def close(self) -> None:
        """A last try, before the committer closes."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_TRY_S):
                while self._kept and await self._try_some():
                    pass
        if self._kept:
            log.error("%d holds are left to their deadline: the store took no ending of theirs", len(self._kept))

    async def _run(self) -> None:
        while self._kept:
            await asyncio.sleep(PAUSE_S)
            while self._kept and await self._try_some():
                pass

    async def _try_some(self) -> bool:
        """One batch of them. False when the store is still away."""
        verbs = list(islice(self._kept.values(), MAX_BATCH))
        outcomes = await asyncio.gather(*(self._try(verb) for verb in verbs))
        return all(outcomes)

    async def _try(self, verb: Settle | Release) -> bool:
        try:
            await self._committer.submit(verb)
        except StoreUnavailable:
            return False
        except Exception:
            # A fault of ours, which another try would only repeat.
            log.exception("hold %s cannot be ended", id_text(verb.hold_id))
        self._kept.pop(verb.hold_id, None)
        return True

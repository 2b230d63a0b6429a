"""Group commit: the verbs that wait are run in one transaction, and each is answered after the commit.

A batch closes when the previous commit ends. There is no timer: an idle system commits at once, a busy one grows its
batches by itself. A batch that fails is run again verb by verb, so that only the verbs that caused it fail.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

from policies.spending import DEFAULT_ORDER, SpendOrder
from policies.values import value
from store.batch import run_batch
from store.engine import AlreadyExists, Database, StoreUnavailable
from store.verbs import Outcome, Release, Verb

MAX_BATCH = 256
"""Verbs in one transaction: beyond this a batch gets slower without getting cheaper for each."""

MAX_WAITING = 10_000
"""Verbs that may wait: about a second of work. Beyond it, waiting longer only makes everybody time out."""

log = logging.getLogger(__name__)


Unheard = Callable[[Outcome | Exception], None]
"""Told what came of a verb whose waiter has left."""


@value
class _Waiting:
    verb: Verb
    answer: asyncio.Future[Outcome]
    unheard: Unheard | None

    def tell(self, outcome: Outcome | Exception) -> None:
        if self.answer.done():
            if self.unheard is not None:
                self.unheard(outcome)
        elif isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
            # Looked at here: where its waiter leaves now, asyncio would tell the log of one never retrieved.
            self.answer.exception()
        else:
            self.answer.set_result(outcome)


class Committer:
    """The queue of one process. `submit` from any task; `run` in exactly one."""

    def __init__(self, database: Database, order: SpendOrder = DEFAULT_ORDER) -> None:
        self._database = database
        self._order = order
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="ledger committer")

    async def close(self) -> None:
        """Commit what waits, then stop."""
        self._closing = True
        self._arrived.set()
        if self._task is not None:
            await self._task

    def submit(self, verb: Verb, unheard: Unheard | None = None) -> asyncio.Future[Outcome]:
        """The answer to come. Who cancels it does not stop the verb, and has `unheard` told instead."""
        if self._closing or len(self._queue) >= MAX_WAITING:
            raise StoreUnavailable("too many requests wait for the ledger" if not self._closing else "shutting down")
        return self._enqueue(verb, unheard)

    def undo(self, verb: Release) -> None:
        """Release a hold that nobody waits for any more. Never refused: there are no more of them than a batch has
        verbs, and a hold left to its deadline could be charged there for a request that was never forwarded.
        """
        # Where it fails, the deadline is what is left.
        self._enqueue(verb)

    def _enqueue(self, verb: Verb, unheard: Unheard | None = None) -> asyncio.Future[Outcome]:
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(verb, answer, unheard))
        self._arrived.set()
        return answer

    async def _run(self) -> None:
        while True:
            if not self._queue and self._closing:
                # Those whose waiter has left learn of the last commit now, and may have something to undo.
                await asyncio.sleep(0)
                if not self._queue:
                    return
            if not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]
            await self._commit(batch)

    async def _commit(self, batch: Sequence[_Waiting], *, again: bool = False) -> None:
        try:
            verbs = [waiting.verb for waiting in batch]
            outcomes = await self._database.write(run_batch, verbs, self._database.now, self._order)
        except Exception as error:
            await self._failed(batch, error, again)
            return
        for waiting, outcome in zip(batch, outcomes, strict=True):
            waiting.tell(outcome)

    async def _failed(self, batch: Sequence[_Waiting], error: Exception, again: bool) -> None:
        if len(batch) == 1 and isinstance(error, AlreadyExists) and not again:
            # Another node was first, at the same moment; who looks again finds what it made.
            await self._commit(batch, again=True)
            return
        if len(batch) > 1 and not isinstance(error, StoreUnavailable):
            log.warning("a batch of %d verbs failed and is run verb by verb: %s", len(batch), error)
            for waiting in batch:
                await self._commit([waiting])
            return
        if not isinstance(error, StoreUnavailable):
            log.error("a ledger verb failed: %s", type(batch[0].verb).__name__, exc_info=error)
        for waiting in batch:
            waiting.tell(error)

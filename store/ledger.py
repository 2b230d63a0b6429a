"""The ledger: holds from their reservation to their end, grants, refunds and adjustments.

A hold is an amount taken aside, durably, before a request is forwarded. It ends exactly once: settled with the true
amount, released, or expired; what it did not use goes back to exactly the grants and windows it came from.

The data plane reserves and settles; jobs expire what is overdue; operators grant, refund and deduct. Nothing here
decides a price or a policy, and no transaction is kept open while another machine is waited for.

Not enough credits, already settled: these are answers, returned as values. StoreUnavailable is raised when the
database cannot answer; then nothing has happened. Every verb is safe to repeat.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from functools import partial

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.spending import DEFAULT_PRIORITY
from policies.terms import AccountId, HoldId
from store.archiving import is_final
from store.committer import Committer, Unheard
from store.engine import Database, StoreUnavailable
from store.ids import IdGenerator, id_text
from store.repeating import MAX_KEPT, Repeater
from store.tables import holds
from store.verbs import (
    BindJob,
    Deduct,
    Ended,
    Expire,
    Extend,
    GrantCredits,
    Granted,
    GrantSource,
    Hold,
    LacksCredits,
    LacksQuota,
    Outcome,
    Refund,
    Refunded,
    Refused,
    Release,
    Reserve,
    Settle,
)

log = logging.getLogger(__name__)

SWEEP_SIZE = 500
"""Overdue holds resolved at once: a few transactions' worth, so that requests are not held up."""


class Ledger:
    """The verbs, each one transaction, joined with those of other requests that wait at the same moment."""

    def __init__(self, database: Database, committer: Committer, repeater: Repeater, ids: IdGenerator) -> None:
        self._database = database
        self._committer = committer
        self._repeater = repeater
        self._ids = ids

    async def reserve(self, verb: Reserve) -> Hold | LacksCredits | LacksQuota | Refused:
        """Take a quote aside. When the caller is cancelled meanwhile, the hold is released as soon as it exists."""
        undo = partial(self._undo, verb)
        answer = self._committer.submit(verb, undo)
        try:
            outcome = await _heard(answer, undo)
        except StoreUnavailable as error:
            undo(error)
            raise
        assert isinstance(outcome, Hold | LacksCredits | LacksQuota | Refused)
        return outcome

    def _undo(self, verb: Reserve, outcome: Outcome | Exception) -> None:
        """Release what nobody waits for. A connection that broke may have done so after the commit."""
        release = Release(verb.hold_id, verb.account_id, "canceled")
        if isinstance(outcome, Exception):
            # Most of these never became holds; they leave room for the endings of those that did.
            self._repeater.keep(release, at_most=MAX_KEPT // 2)
        elif isinstance(outcome, Hold):
            self._committer.undo(release)

    def extend(self, verb: Extend) -> asyncio.Future[Outcome]:
        """A sign of life of a request that is still running. The answer is there when it is there: nothing waits for
        it, least of all the bytes of the request.
        """
        return self._committer.submit(verb)

    async def bind_job(self, verb: BindJob) -> Hold | Refused:
        outcome = await self._committer.submit(verb)
        assert isinstance(outcome, Hold | Refused)
        return outcome

    async def settle(self, verb: Settle) -> Ended | Refused:
        """Take the true amount. Of a hold that has ended already, the stored outcome is returned."""
        outcome = await self._committer.submit(verb)
        assert isinstance(outcome, Ended | Refused)
        return outcome

    async def end(self, verb: Settle | Release) -> Ended | Refused:
        """End a hold for the data plane, in whichever way. What the store cannot take now it is asked again, until it
        does; whoever waits is told with StoreUnavailable meanwhile.
        """
        repeat = partial(self._repeat_unwritten, verb)
        try:
            outcome = await _heard(self._committer.submit(verb, repeat), repeat)
        except StoreUnavailable as error:
            repeat(error)
            raise
        assert isinstance(outcome, Ended | Refused)
        return outcome

    def end_soon(self, verb: Settle | Release) -> None:
        """`end` without waiting for it: for a request whose client has left, where nothing may be awaited."""
        repeat = partial(self._repeat_unwritten, verb)
        try:
            self._committer.submit(verb, repeat).cancel()
        except StoreUnavailable as error:
            repeat(error)

    def _repeat_unwritten(self, verb: Settle | Release, outcome: Outcome | Exception) -> None:
        if isinstance(outcome, StoreUnavailable):
            self._repeater.keep(verb)

    async def release(self, hold_id: HoldId, account_id: AccountId, reason: str) -> Ended | Refused:
        outcome = await self._committer.submit(Release(hold_id, account_id, reason))
        assert isinstance(outcome, Ended | Refused)
        return outcome

    async def expire_overdue(self, now: datetime) -> int:
        """Resolve every hold whose deadline has passed, by its own rule. Two sweepers resolve each one once.

        One that cannot be resolved is told to the log and does not stand in the way of the others.
        """
        count = 0
        last: tuple[datetime, HoldId] | None = None
        while overdue := await self._database.read(_overdue, now, last):
            answers = [self._committer.submit(Expire(hold_id, account_id)) for hold_id, account_id, _ in overdue]
            outcomes = await asyncio.gather(*answers, return_exceptions=True)
            for (hold_id, _, deadline), outcome in zip(overdue, outcomes, strict=True):
                if isinstance(outcome, StoreUnavailable):
                    raise outcome
                if isinstance(outcome, BaseException):
                    log.error("hold %s is overdue and cannot be resolved: %s", id_text(hold_id), outcome)
                count += isinstance(outcome, Ended) and outcome.changed
                last = deadline, hold_id
        return count

    async def grant(
        self,
        account_id: AccountId,
        amount: int,
        source: GrantSource,
        key: str,
        description: str,
        expires_at: datetime | None = None,
        priority: int = DEFAULT_PRIORITY,
    ) -> Granted | Refused:
        """Add micro-credits. The same key again returns the first grant and adds nothing."""
        what = account_id, amount, source, key, description
        verb = GrantCredits(self._ids.next(), *what, priority, expires_at)
        outcome = await self._committer.submit(verb)
        assert isinstance(outcome, Granted | Refused)
        return outcome

    async def deduct(self, account_id: AccountId, amount: int, description: str) -> Granted | LacksCredits | Refused:
        """Take micro-credits away, at most what is available."""
        outcome = await self._committer.submit(Deduct(account_id, amount, description))
        assert isinstance(outcome, Granted | LacksCredits | Refused)
        return outcome

    async def refund(
        self, hold_id: HoldId, account_id: AccountId, amount: int | None, reason: str
    ) -> Refunded | Refused:
        """Give back settled micro-credits or units, all that is left when `amount` is None."""
        # Whoever slips in behind this question is still booked right: see `store.archiving.delete`.
        if await self._database.read(is_final, hold_id):
            return Refused.ARCHIVED
        outcome = await self._committer.submit(Refund(hold_id, account_id, amount, reason))
        assert isinstance(outcome, Refunded | Refused)
        return outcome


async def _heard(answer: asyncio.Future[Outcome], unheard: Unheard) -> Outcome:
    """The answer. Whoever is cancelled while it comes leaves it to `unheard`, whom the committer tells; or this does,
    where it came at the same moment.
    """
    try:
        return await answer
    except asyncio.CancelledError:
        if not answer.cancelled():
            error = answer.exception()
            unheard(error if isinstance(error, Exception) else answer.result())
        raise


def _overdue(
    connection: Connection, now: datetime, after: tuple[datetime, HoldId] | None
) -> list[tuple[HoldId, AccountId, datetime]]:
    """Overdue holds behind the hold `after`, the longest overdue first."""
    query = (
        sa.select(holds.c.id, holds.c.account_id, holds.c.deadline)
        .where(holds.c.state == "reserved", holds.c.deadline <= now)
        .order_by(holds.c.deadline, holds.c.id)
        .limit(SWEEP_SIZE)
    )
    if after is not None:
        query = query.where(sa.tuple_(holds.c.deadline, holds.c.id) > after)
    return [(HoldId(row.id), AccountId(row.account_id), row.deadline) for row in connection.execute(query)]

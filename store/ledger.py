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
from contextlib import suppress
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.spending import DEFAULT_PRIORITY
from policies.terms import AccountId, HoldId
from store.archiving import is_final
from store.committer import Committer
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
        answer = self._committer.submit(verb)
        try:
            outcome = await asyncio.shield(answer)
        except asyncio.CancelledError:
            answer.add_done_callback(lambda done: self._undo(verb, done))
            raise
        except StoreUnavailable:
            self._undo(verb, answer)
            raise
        assert isinstance(outcome, Hold | LacksCredits | LacksQuota | Refused)
        return outcome

    def _undo(self, verb: Reserve, answer: asyncio.Future[Outcome]) -> None:
        """Release what nobody waits for. A connection that broke may have done so after the commit."""
        if answer.cancelled():
            return
        release = Release(verb.hold_id, verb.account_id, "canceled")
        if answer.exception() is not None:
            # Most of these never became holds; they leave room for the endings of those that did.
            self._repeater.keep(release, at_most=MAX_KEPT // 2)
        elif isinstance(answer.result(), Hold):
            self._committer.undo(release)

    def extend(self, verb: Extend) -> asyncio.Future[Outcome]:
        """A sign of life of a request that is still running. The answer is there when it is there: nothing waits for
        it, least of all the bytes of the request.
        """
        return self._committer.submit(verb)

    async def bind_job(self, verb: BindJob) -> Hold | Refused:
        outcome = await asyncio.shield(self._committer.submit(verb))
        assert isinstance(outcome, Hold | Refused)
        return outcome

    async def settle(self, verb: Settle) -> Ended | Refused:
        """Take the true amount. Of a hold that has ended already, the stored outcome is returned."""
        outcome = await asyncio.shield(self._committer.submit(verb))
        assert isinstance(outcome, Ended | Refused)
        return outcome

    async def end(self, verb: Settle | Release) -> Ended | Refused:
        """End a hold for the data plane, in whichever way. What the store cannot take now it is asked again, until it
        does; whoever waits is told with StoreUnavailable meanwhile.
        """
        outcome = await asyncio.shield(self._ending(verb))
        assert isinstance(outcome, Ended | Refused)
        return outcome

    def end_soon(self, verb: Settle | Release) -> None:
        """`end` without waiting for it: for a request whose client has left, where nothing may be awaited."""
        with suppress(StoreUnavailable):
            self._ending(verb)

    def _ending(self, verb: Settle | Release) -> asyncio.Future[Outcome]:
        """The answer to an ending that is repeated if need be, whether anybody still waits for the answer or not."""

        def repeat_unwritten(done: asyncio.Future[Outcome]) -> None:
            if not done.cancelled() and isinstance(done.exception(), StoreUnavailable):
                self._repeater.keep(verb)

        try:
            answer = self._committer.submit(verb)
        except StoreUnavailable:
            self._repeater.keep(verb)
            raise
        answer.add_done_callback(repeat_unwritten)
        return answer

    async def release(self, hold_id: HoldId, account_id: AccountId, reason: str) -> Ended | Refused:
        outcome = await asyncio.shield(self._committer.submit(Release(hold_id, account_id, reason)))
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
        outcome = await asyncio.shield(self._committer.submit(verb))
        assert isinstance(outcome, Granted | Refused)
        return outcome

    async def deduct(self, account_id: AccountId, amount: int, description: str) -> Granted | LacksCredits | Refused:
        """Take micro-credits away, at most what is available."""
        outcome = await asyncio.shield(self._committer.submit(Deduct(account_id, amount, description)))
        assert isinstance(outcome, Granted | LacksCredits | Refused)
        return outcome

    async def refund(
        self, hold_id: HoldId, account_id: AccountId, amount: int | None, reason: str
    ) -> Refunded | Refused:
        """Give back settled micro-credits or units, all that is left when `amount` is None."""
        # Whoever slips in behind this question is still booked right: see `store.archiving.delete`.
        if await self._database.read(is_final, hold_id):
            return Refused.ARCHIVED
        outcome = await asyncio.shield(self._committer.submit(Refund(hold_id, account_id, amount, reason)))
        assert isinstance(outcome, Refunded | Refused)
        return outcome


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

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
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.terms import AccountId, HoldId
from store.committer import Committer
from store.engine import Database
from store.ids import IdGenerator
from store.tables import holds
from store.verbs import (
    BindJob,
    Deduct,
    Ended,
    Expire,
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

SWEEP_SIZE = 500
"""Overdue holds resolved at once: a few transactions' worth, so that requests are not held up."""


class Ledger:
    """The verbs, each one transaction, joined with those of other requests that wait at the same moment."""

    def __init__(self, database: Database, committer: Committer, ids: IdGenerator) -> None:
        self._database = database
        self._committer = committer
        self._ids = ids

    async def reserve(self, verb: Reserve) -> Hold | LacksCredits | LacksQuota | Refused:
        """Take a quote aside. When the caller is cancelled meanwhile, the hold is released as soon as it exists."""
        answer = self._committer.submit(verb)
        try:
            outcome = await asyncio.shield(answer)
        except asyncio.CancelledError:
            answer.add_done_callback(self._release_orphan)
            raise
        assert isinstance(outcome, Hold | LacksCredits | LacksQuota | Refused)
        return outcome

    def _release_orphan(self, answer: asyncio.Future[Outcome]) -> None:
        if not answer.cancelled() and answer.exception() is None and isinstance(hold := answer.result(), Hold):
            self._committer.undo(Release(hold.hold_id, hold.account_id, "canceled"))

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
        """End a hold, in whichever way."""
        outcome = await asyncio.shield(self._committer.submit(verb))
        assert isinstance(outcome, Ended | Refused)
        return outcome

    def end_soon(self, verb: Settle | Release) -> None:
        """End a hold without waiting for it: for a request whose client has left, where nothing may be awaited."""
        answer = self._committer.submit(verb)
        # Whoever could be told has left; the committer logs, and the deadline resolves what it could not write.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def release(self, hold_id: HoldId, account_id: AccountId, reason: str) -> Ended | Refused:
        outcome = await asyncio.shield(self._committer.submit(Release(hold_id, account_id, reason)))
        assert isinstance(outcome, Ended | Refused)
        return outcome

    async def expire_overdue(self, now: datetime) -> int:
        """Resolve every hold whose deadline has passed, by its own rule. Two sweepers resolve each one once."""
        count = 0
        while overdue := await self._database.read(_overdue, now):
            answers = [self._committer.submit(Expire(hold_id, account_id)) for hold_id, account_id in overdue]
            outcomes = await asyncio.gather(*answers)
            changed = sum(isinstance(outcome, Ended) and outcome.changed for outcome in outcomes)
            count += changed
            if not changed or len(overdue) < SWEEP_SIZE:
                break
        return count

    async def grant(
        self,
        account_id: AccountId,
        amount: int,
        source: GrantSource,
        key: str,
        description: str,
        expires_at: datetime | None = None,
    ) -> Granted | Refused:
        """Add micro-credits. The same key again returns the first grant and adds nothing."""
        verb = GrantCredits(self._ids.next(), account_id, amount, source, key, description, expires_at=expires_at)
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
        outcome = await asyncio.shield(self._committer.submit(Refund(hold_id, account_id, amount, reason)))
        assert isinstance(outcome, Refunded | Refused)
        return outcome


def _overdue(connection: Connection, now: datetime) -> list[tuple[HoldId, AccountId]]:
    query = (
        sa.select(holds.c.id, holds.c.account_id)
        .where(holds.c.state == "reserved", holds.c.deadline <= now)
        .order_by(holds.c.deadline)
        .limit(SWEEP_SIZE)
    )
    return [(HoldId(row.id), AccountId(row.account_id)) for row in connection.execute(query)]

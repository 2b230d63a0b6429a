"""The sweeper ends what is overdue, by its own rule, once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from jobs.process import Outcome, run_job_once
from policies.terms import Funding, OnDeadline
from store import reports
from store.verify import verify

NAME = "sweep_holds"
OVERDUE = -timedelta(seconds=1)


async def _states(house: Any, *holds: Any) -> list[tuple[str, int]]:
    rows = [await house.store.database.read(reports.hold, hold_id) for hold_id in holds]
    return [(row["state"], row["settled_amount"]) for row in rows]


async def test_overdue_holds_end_by_their_own_rule(house: Any) -> None:
    """One is given back, one is charged its quote, and one whose time has not come stays."""
    account = await house.account(credits=100)
    back = await house.reserve(account, 10, funding=Funding.CREDITS, lasts=OVERDUE)
    quote = await house.reserve(account, 20, funding=Funding.CREDITS, lasts=OVERDUE, on_deadline=OnDeadline.QUOTE)
    stays = await house.reserve(account, 30, funding=Funding.CREDITS)
    report = await run_job_once(house.store, house.clock, NAME)
    assert (report.outcome, report.counts) == (Outcome.DONE, {"holds_ended": 2})
    assert await _states(house, back, quote, stays) == [("expired", 0), ("settled", 20), ("reserved", 0)]
    balance = await house.store.database.read(reports.balance, account, house.clock.now)
    assert (balance.posted, balance.pending) == (80, 30)
    assert [check.breaches for check in await house.store.database.read(verify) if check.breaches] == []


async def test_sweeping_again_ends_nothing(house: Any) -> None:
    """The job is safe to repeat."""
    await house.reserve(await house.account(), 3, lasts=OVERDUE)
    counts = [(await run_job_once(house.store, house.clock, NAME)).counts["holds_ended"] for _ in range(2)]
    assert counts == [1, 0]


async def test_two_sweepers_expire_a_hold_once(house: Any) -> None:
    """At the same moment, with or without the lease between them: together they end every hold once."""
    account = await house.account(credits=100)
    for _ in range(20):
        await house.reserve(account, 1, funding=Funding.CREDITS, lasts=OVERDUE, on_deadline=OnDeadline.QUOTE)
    now = await house.store.database.read(house.store.database.now)
    ended = await asyncio.gather(house.store.ledger.expire_overdue(now), house.store.ledger.expire_overdue(now))
    assert sum(ended) == 20
    assert (await house.store.database.read(reports.balance, account, now)).posted == 80

"""Usage at moments of a test's choosing, and what all of it adds up to, counted from the rows one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.terms import AccountId, HoldId, ModelKey
from store.ids import first_id_at, moment_of
from store.roll_up import next_step, take_step
from store.tables import holds, usage_events
from store.usage_sums import By, Scope, used
from store.verbs import Hold, Settle, Usage
from tests.store.till import QUOTA, REQUEST, Till, reserving, terms

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ALWAYS = Scope(datetime(2024, 1, 1, tzinfo=UTC), datetime(2034, 1, 1, tzinfo=UTC))
KEY: tuple[By, ...] = ("account_id", "day", "model_key", "funding")

Sums = dict[tuple[Any, ...], tuple[int, int, int, int]]
"""By account, day, model and funding: calls, charged, refunded, estimated."""


async def use(
    till: Till,
    account: AccountId,
    at: datetime,
    model: str = "app:model",
    units: int = 1,
    *,
    funding: str = "quota",
    after: timedelta = timedelta(0),
    usage: Usage | None = None,
) -> Hold:
    """A call whose id is of the moment `at`, settled `after` that."""
    hold = await reserve(till, account, at, model, units, funding)
    till.now = at + after
    await till.run(Settle(hold.hold_id, account, None, usage or Usage(), "done"))
    return hold


async def reserve(till: Till, account: AccountId, at: datetime, model: str, units: int, funding: str) -> Hold:
    """A call of the moment `at` that is still running."""
    till.now, request = at, replace(REQUEST, model_key=ModelKey(model))
    hold_id = HoldId(first_id_at(at) + till.hold_id())
    paying = {"quota": units, "fundings": QUOTA, "terms": terms(10**6)} if funding == "quota" else {"credits": units}
    verb = reserving(hold_id, account, request=request, lasts=HOUR, **paying)  # type: ignore[arg-type]
    (held,) = await till.run(verb)
    assert isinstance(held, Hold), held
    return held


async def roll_up(till: Till, until: datetime) -> int:
    """Count what was settled by `until`; the number of steps it took."""
    steps = 0
    while (step := await till.database.read(next_step, until)) is not None:
        assert await till.database.write(take_step, step)
        steps += 1
    return steps


async def shown(till: Till, scope: Scope = ALWAYS, by: Sequence[By] = KEY) -> Sums:
    """The sums that dashboards show."""
    found = await till.database.read(used, scope, by)
    assert all(type(amount) is int for amounts in found.values() for amount in astuple(amounts))
    return {
        key: (sums.calls, sums.credits + sums.quota, sums.credits_refunded + sums.quota_refunded, sums.estimated)
        for key, sums in found.items()
    }


async def counted(till: Till) -> Sums:
    """The sums as they are, from every row."""
    return await till.database.read(_counted)


def _counted(connection: Connection) -> Sums:
    query = sa.select(usage_events, holds.c.refunded_amount).join(holds, holds.c.id == usage_events.c.id)
    sums: dict[tuple[Any, ...], Counter[str]] = {}
    for row in connection.execute(query):
        day = moment_of(row.id).replace(hour=0, minute=0, second=0, microsecond=0)
        total = sums.setdefault((row.account_id, day, row.model_key, row.funding), Counter())
        total.update(calls=1, charged=row.charged, refunded=row.refunded_amount, estimated=row.estimated)
    return {key: (c["calls"], c["charged"], c["refunded"], int(c["estimated"])) for key, c in sorted(sums.items())}

"""Counters that processes share: together they let through what one of them would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from config.clock import utc_now
from policies.evaluate import Allow
from policies.limiting import Counted, Limits
from policies.refusals import Refusal
from policies.rulebook import Rulebook
from policies.terms import HoldId
from proxy.limiting import OwnLimiter, Pass, SharedLimiter
from store import rate_counters
from store.engine import Database
from store.rate_counters import ENTERING, QUIET
from store.tables import rate_counters as counters
from store.tables import rate_places
from tests.policies.samples import caller, compiled, decide
from tests.store.till import NOON, Till

BOTH = (
    "{id: each, requests: 4/hour, concurrent: 2, per: user}, {id: all, requests: 9/hour, concurrent: 3, per: everyone}"
)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, utc_now)
    yield opened
    await opened.close()


@pytest.fixture
async def nodes(database_url: str) -> AsyncIterator[list[Database]]:
    """Three processes on one database."""
    opened = [Database(database_url, utc_now) for _ in range(3)]
    yield opened
    for one in opened:
        await one.close()


def rulebook(text: str) -> Rulebook:
    return compiled(f"limits: [{text}]")


def limits_of(text: str, user: str = "ann") -> Limits:
    allow = decide(rulebook(text), caller(user=user), "video:wan2.2")
    assert isinstance(allow, Allow)
    return allow.limits


async def ask(database: Database, text: str, call: int, user: str = "ann", now: datetime = NOON) -> Refusal | Counted:
    def clock(_: Connection) -> datetime:
        return now

    return await database.write(rate_counters.admit, limits_of(text, user), caller(user=user), HoldId(call), clock)


async def test_nodes_that_ask_at_once_let_through_what_is_allowed(nodes: list[Database]) -> None:
    """Of sixty calls at the same moment on three nodes seven are let through, by whichever node."""
    asked = [ask(nodes[number % 3], "{id: one, requests: 7/hour, concurrent: 50}", number) for number in range(60)]
    answers = await asyncio.gather(*asked)
    assert sum(isinstance(answer, Counted) for answer in answers) == 7


async def test_places_are_counted_over_nodes(nodes: list[Database]) -> None:
    """Three at a time, wherever they run; what one gives back another may take."""
    text = "{id: three, concurrent: 3, per: everyone}"
    answers = await asyncio.gather(*(ask(nodes[call % 3], text, call) for call in range(12)))
    inside = [call for call, answer in enumerate(answers) if isinstance(answer, Counted)]
    assert len(inside) == 3
    await nodes[0].write(rate_counters.leave, HoldId(inside[0]))
    assert isinstance(await ask(nodes[1], text, 100), Counted)
    assert isinstance(await ask(nodes[2], text, 101), Refusal)


async def test_a_refused_call_writes_nothing(database: Database) -> None:
    """Neither the limit that has room nor a place of it."""
    text = "{id: wide, requests: 9/hour, concurrent: 9}, {id: narrow, requests: 1/hour}"
    await ask(database, text, 1)
    before = await database.read(_everything)
    assert isinstance(await ask(database, text, 2), Refusal)
    assert await database.read(_everything) == before


async def test_a_call_that_is_undone_leaves_no_trace(database: Database) -> None:
    """Its counters are as they were, and its places free."""
    counted = await ask(database, BOTH, 1)
    assert isinstance(counted, Counted)
    before = await database.read(_everything)
    again = await ask(database, BOTH, 2)
    assert isinstance(again, Counted)
    await database.write(rate_counters.undo, HoldId(2), again.steps)
    assert await database.read(_everything) == before


@pytest.mark.asyncio(loop_scope="session")
async def test_a_place_lasts_as_long_as_the_hold_of_its_call(till: Till) -> None:
    """A process that dies gives nothing back: its place ends with its hold, or soon where it came to none."""
    text, account = "{id: one, concurrent: 1}", await till.account(100)
    hold = await till.hold(account, 5)

    async def come(call: int) -> bool:
        return isinstance(await ask(till.database, text, call, now=till.now), Counted)

    assert await come(hold.hold_id)
    till.now += 2 * ENTERING
    assert not await come(hold.hold_id + 1)
    await till.release(hold)
    assert await come(hold.hold_id + 2)
    assert not await come(hold.hold_id + 3)
    till.now += ENTERING
    assert await come(hold.hold_id + 4)


@pytest.mark.asyncio(loop_scope="session")
async def test_what_says_nothing_any_more_is_dropped(till: Till) -> None:
    """Counters that have been empty for a day, and places whose calls have ended; nothing that still counts."""
    account = await till.account(100)
    hold = await till.hold(account, 5, lasts=timedelta(days=9))
    await ask(till.database, "{id: one, requests: 1/hour, concurrent: 5, per: user}", hold.hold_id)
    await ask(till.database, "{id: one, requests: 1/hour, concurrent: 5, per: user}", hold.hold_id + 1, user="ben")
    await ask(till.database, "{id: two, requests: 1/day, concurrent: 5}", hold.hold_id + 2)
    assert await till.database.write(rate_counters.drop_quiet, NOON + ENTERING) == 0
    assert await till.database.write(rate_counters.drop_quiet, NOON + QUIET + timedelta(hours=1)) == 4
    left = await till.database.read(_everything)
    assert [row[:2] for row in left[0]] == [("two", "account 1")]
    assert [row[0] for row in left[1]] == [hold.hold_id]


steps = st.lists(
    st.tuples(st.sampled_from(["ann", "ben", "cid"]), st.sampled_from(["come", "leave", "undo"]), st.integers(0, 3000)),
    max_size=30,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_shared_counters_come_to_the_same_as_those_of_one_process(database_url: str, series: Any) -> None:
    """Whoever comes, leaves or is undone in whatever order and at whatever time."""
    with pytest.MonkeyPatch.context() as patch:
        # No call has a hold here, so its place has to last by itself.
        patch.setattr(rate_counters, "ENTERING", timedelta(days=9))
        asyncio.run(_compare(database_url, series))


async def _compare(url: str, series: list[tuple[str, str, int]]) -> None:
    now = NOON
    database = _At(url, lambda: now)
    await database.write(_empty)
    own, shared = OwnLimiter(), SharedLimiter(database)
    inside: list[tuple[Pass, Pass]] = []
    try:
        for number, (user, what, seconds) in enumerate(series):
            now += timedelta(seconds=seconds)
            if what == "come":
                asked = limits_of(BOTH, user), caller(user=user), HoldId(number), now
                one, other = await own.admit(*asked), await shared.admit(*asked)
                if isinstance(one, Pass) and isinstance(other, Pass):
                    inside.append((one, other))
                else:
                    assert one == other
            elif inside:
                for passing in inside.pop():
                    if what == "undo":
                        await passing.undo()
                    else:
                        passing.leave()
                await shared.close()
    finally:
        await shared.close()
        await database.close()


class _At(Database):
    """A database whose time is that of the test, also where it is a server."""

    def __init__(self, url: str, clock: Callable[[], datetime]) -> None:
        super().__init__(url, clock)
        self._time = clock

    def now(self, connection: Connection) -> datetime:
        return self._time()


def _empty(connection: Connection) -> None:
    for table in (counters, rate_places):
        connection.execute(table.delete())


def _everything(connection: Connection) -> tuple[list[Any], list[Any]]:
    rows = connection.execute(sa.select(counters).order_by(*counters.primary_key))
    places = connection.execute(
        sa.select(rate_places.c.hold_id, rate_places.c.limit_id).order_by(rate_places.c.hold_id)
    )
    return [tuple(row) for row in rows], [tuple(row) for row in places]

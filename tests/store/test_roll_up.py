"""The roll-up and what it has not counted yet are together all usage, to the unit, wherever the frontier stands."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

import store.roll_up
from store.engine import Database
from store.ids import first_id_at
from store.roll_up import (
    EVERYBODY,
    MARGIN,
    clear_leftovers,
    count_anew,
    frontier,
    next_step,
    settled_until,
    take_step,
)
from store.tables import accounts
from store.usage_sums import By, Scope, last_days, parts, popular
from store.usage_tables import PROMPT
from store.verbs import Settle, Usage
from tests.store.till import NOON, Till
from tests.store.usages import ALWAYS, DAY, HOUR, counted, reserve, roll_up, shown, use

pytestmark = pytest.mark.asyncio(loop_scope="session")

MIDNIGHT = datetime(2025, 3, 10, tzinfo=UTC)
MONTH = timedelta(days=31)
MINUTE = timedelta(minutes=1)


async def _stored(till: Till) -> list[tuple[int, str, int, int]]:
    query = "SELECT account_id, model_key, calls, charged FROM usage_daily ORDER BY account_id, day, model_key, funding"
    return [tuple(row.values()) for row in await till.rows(query)]  # type: ignore[misc]


async def test_what_is_counted_is_what_was_used(till: Till) -> None:
    """By account, day, model and funding; and once more for everybody together."""
    ana, ben = await till.account(1_000), await till.account(1_000)
    for account, at, model, units, funding in [
        (ana, MIDNIGHT, "a:x", 1, "quota"),
        (ana, MIDNIGHT + DAY - timedelta(milliseconds=1), "a:x", 2, "quota"),
        (ana, MIDNIGHT + DAY, "a:x", 4, "quota"),
        (ana, NOON, "a:y", 8, "quota"),
        (ana, NOON, "a:x", 16, "credits"),
        (ben, NOON, "a:x", 32, "quota"),
    ]:
        await use(till, account, at, model, units, funding=funding)
    before = await counted(till)
    assert await shown(till) == before
    await roll_up(till, MIDNIGHT + 3 * DAY)
    assert await shown(till) == before
    assert await _stored(till) == [
        (EVERYBODY, "a:x", 1, 16),
        (EVERYBODY, "a:x", 3, 35),
        (EVERYBODY, "a:y", 1, 8),
        (EVERYBODY, "a:x", 1, 4),
        (ana, "a:x", 1, 16),
        (ana, "a:x", 2, 3),
        (ana, "a:y", 1, 8),
        (ana, "a:x", 1, 4),
        (ben, "a:x", 1, 32),
    ]


async def test_counting_again_adds_nothing(till: Till) -> None:
    """A run that finds nothing new changes nothing."""
    ana = await till.account()
    await use(till, ana, NOON)
    await roll_up(till, NOON + HOUR)
    stored = await _stored(till)
    assert await roll_up(till, NOON + HOUR) == 0
    await roll_up(till, NOON + DAY)
    assert await _stored(till) == stored


async def test_a_step_is_taken_by_one_of_two(till: Till) -> None:
    """Two schedulers that have read the same step: the later one finds the frontier moved, and adds nothing."""
    await use(till, await till.account(), NOON)
    step = await till.database.read(next_step, NOON + HOUR)
    assert step is not None
    assert await till.database.write(take_step, step)
    following = await till.database.read(next_step, NOON + HOUR)
    assert following is not None
    answers = await asyncio.gather(*(till.database.write(take_step, following) for _ in range(3)))
    assert sorted(answers) == [False, False, True]
    assert await shown(till) == await counted(till)


@pytest.mark.parametrize("late", [PROMPT - MINUTE, PROMPT + MINUTE, 3 * DAY, 2 * MONTH])
async def test_usage_that_is_settled_late_is_counted_once_for_the_day_of_its_request(
    till: Till, late: timedelta
) -> None:
    """A job that ends days after the frontier has passed its request is found by the moment of its end."""
    ana = await till.account()
    running = await reserve(till, ana, NOON, "a:slow", 7, "quota")
    for minutes in range(0, 60, 5):
        await use(till, ana, NOON + minutes * MINUTE)
    await roll_up(till, NOON + late - MINUTE)
    till.now = NOON + late
    await till.run(Settle(running.hold_id, ana, None, Usage(), "done"))
    assert await shown(till) == await counted(till)
    for since in (-HOUR, MINUTE, HOUR, DAY):
        await roll_up(till, NOON + late + since)
        assert await shown(till) == await counted(till)
    assert (ana, "a:slow", 1, 7) in await _stored(till)


async def test_a_refund_shows_at_once(till: Till) -> None:
    """Of usage that is counted long since, as of usage that is not."""
    ana = await till.account(1_000)
    old = await use(till, ana, NOON, "a:x", 10, funding="credits")
    await roll_up(till, NOON + DAY)
    new = await use(till, ana, NOON + 2 * DAY, "a:x", 10, funding="credits")
    for hold in (old, new):
        await till.refund(hold, 4)
        assert await shown(till) == await counted(till)
    assert [amounts[2] for amounts in (await shown(till)).values()] == [4, 4]


async def test_estimates_are_counted(till: Till) -> None:
    """Where a quote was charged because nothing could be measured."""
    ana = await till.account()
    for estimated in (True, False, True):
        await use(till, ana, NOON, usage=Usage(estimated=estimated))
    await roll_up(till, NOON + DAY)
    assert [amounts[3] for amounts in (await shown(till)).values()] == [2]


async def test_many_rows_are_counted_in_small_steps(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Days of absence are caught up with in transactions that nobody notices; after each of them the sums are right."""
    monkeypatch.setattr(store.roll_up, "STEP", 7)
    ana, ben = await till.account(), await till.account()
    for number in range(40):
        late = DAY if number % 3 == 0 else MINUTE
        await use(till, (ana, ben)[number % 2], NOON + number * HOUR, f"a:{number % 4}", number, after=late)
    expected, until, steps = await counted(till), NOON + 9 * DAY, 0
    while (step := await till.database.read(next_step, until)) is not None:
        assert step.count <= 7
        assert await till.database.write(take_step, step)
        assert await shown(till) == expected
        steps += 1
    assert steps > 40 // 7
    assert sum(calls for account, _, calls, _ in await _stored(till) if account == EVERYBODY) == 40


async def test_late_rows_of_one_moment_are_counted_together(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step may be larger than its bound, but a moment is never split: its rest would be forgotten."""
    monkeypatch.setattr(store.roll_up, "STEP", 2)
    ana = await till.account()
    holds = [await reserve(till, ana, NOON + number * MINUTE, "a:x", 1, "quota") for number in range(5)]
    await roll_up(till, NOON + 2 * HOUR)
    till.now = NOON + DAY
    await till.run(*(Settle(hold.hold_id, ana, None, Usage(), "done") for hold in holds))
    await roll_up(till, NOON + 2 * DAY)
    assert await shown(till) == await counted(till)
    assert (ana, "a:x", 5, 5) in await _stored(till)


async def test_ids_ahead_of_the_databases_clock_are_counted(till: Till) -> None:
    """A node whose clock runs an hour ahead numbers its requests so; they are settled before they were made."""
    ana = await till.account()
    await use(till, ana, NOON + HOUR, after=-HOUR)
    await use(till, ana, NOON)
    for minutes in range(0, 120, 10):
        await roll_up(till, NOON + minutes * MINUTE)
        assert await shown(till) == await counted(till)
    assert len(await _stored(till)) == 2


async def test_a_scope_takes_whole_days_of_one_account_or_of_all(till: Till) -> None:
    """On both sides of the frontier."""
    ana, ben = await till.account(), await till.account()
    for day in range(4):
        await use(till, ana, MIDNIGHT + day * DAY, units=10**day)
        await use(till, ben, MIDNIGHT + day * DAY + 23 * HOUR, units=10**day)
    for until in (MIDNIGHT, MIDNIGHT + 2 * DAY, MIDNIGHT + 9 * DAY):
        await roll_up(till, until)
        scope = Scope(MIDNIGHT + DAY, MIDNIGHT + 3 * DAY)
        assert [sums[1] for sums in (await shown(till, scope, ["day"])).values()] == [20, 200]
        assert list((await shown(till, scope, ["account_id"])).values()) == [(2, 110, 0, 0)] * 2
        of_ana = Scope(scope.since, scope.until, ana)
        assert await shown(till, of_ana, ["account_id"]) == {(ana,): (2, 110, 0, 0)}
        assert len(await shown(till, of_ana)) == 2


async def test_popular_models_are_those_called_most(till: Till) -> None:
    """Whatever paid for them; of equals the first by name; not those of other days."""
    ana = await till.account(1_000)
    for at, model, funding in [
        (NOON - DAY, "a:old", "quota"),
        (NOON, "a:y", "quota"),
        (NOON, "a:x", "credits"),
        (NOON, "a:z", "quota"),
        (NOON, "a:z", "credits"),
        (NOON + DAY, "a:new", "quota"),
    ]:
        await use(till, ana, at, model, funding=funding)
    for until in (NOON, NOON + HOUR, NOON + 3 * DAY):
        await roll_up(till, until)
        assert await till.database.read(popular, last_days(1, NOON), 2) == [("a:z", 2), ("a:x", 1)]
        assert len(await till.database.read(popular, last_days(3, NOON + DAY), 10)) == 5


async def test_counting_anew_is_exact_at_every_moment(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers use the rows until the sums are right again, also while leftovers are still to be cleared."""
    monkeypatch.setattr(store.roll_up, "STEP", 2)
    ana, ben = await till.account(), await till.account()
    for day in range(6):
        await use(till, (ana, ben)[day % 2], NOON + day * DAY, after=2 * HOUR if day == 3 else MINUTE)
    await roll_up(till, NOON + 9 * DAY)
    expected, stored = await counted(till), await _stored(till)
    await till.tamper("UPDATE usage_daily SET calls = calls + 1")
    assert await shown(till) != expected
    await till.database.write(count_anew, NOON + 9 * DAY)
    assert await shown(till) == expected
    assert await till.database.read(next_step, NOON + 9 * DAY) is None
    after: int | None = 0
    while after is not None:
        after = await till.database.write(clear_leftovers, after, 2)
        assert await shown(till) == expected
    await roll_up(till, NOON + 9 * DAY)
    assert await shown(till) == expected
    assert await _stored(till) == stored


async def test_clearing_is_over_when_the_sums_count(till: Till) -> None:
    """What counts is never taken for leftovers."""
    await use(till, await till.account(), NOON)
    await roll_up(till, NOON + DAY)
    stored = await _stored(till)
    assert await till.database.write(clear_leftovers, 0) is None
    assert await _stored(till) == stored


async def test_nothing_can_appear_before_what_is_settled(shared_url: str, till: Till) -> None:
    """A transaction that has taken its moment and not ended yet holds the roll-up back; on SQLite there is none."""
    now = await till.database.read(till.database.now)
    until = await settled_until(till.database)
    assert until is not None
    assert timedelta(0) <= until - (now - MARGIN) < MINUTE
    if shared_url.startswith("sqlite"):
        return
    account = await till.account()
    engine = create_async_engine(shared_url)
    async with engine.connect() as slow:
        await slow.execute(sa.select(accounts.c.id).where(accounts.c.id == account).with_for_update())
        with pytest.MonkeyPatch.context() as impatient:
            impatient.setattr(store.roll_up, "TRIES", 3)
            assert await settled_until(till.database) is None
        await slow.rollback()
    await engine.dispose()
    assert await settled_until(till.database) is not None


async def test_the_frontier_is_kept_in_the_database(till: Till) -> None:
    """It starts below every id, and runs behind the moment up to which rows are settled."""
    start = await till.database.read(frontier)
    assert (start.id, start.day) == (-1, datetime(2023, 12, 31, tzinfo=UTC))
    await roll_up(till, NOON)
    reached = await till.database.read(frontier)
    assert (reached.id, reached.at) == (first_id_at(NOON - PROMPT) - 1, NOON)
    assert reached.day == MIDNIGHT
    assert await shown(till, ALWAYS) == {}


async def test_no_dashboard_reads_rows_that_are_counted(shared_database: Database, till: Till) -> None:
    """Whatever the scope: rows are looked up beyond the frontier, late ones and refunds in indexes of their own."""
    if not shared_database.url.startswith("sqlite"):
        pytest.skip("PostgreSQL plans by the size of tables, which are empty here")
    plans = await till.database.read(_plans)
    assert len(plans) == 12
    assert not [plan for plan in plans if "SCAN usage_events" in plan]
    for kind in ("PRIMARY KEY (rowid>", "ix_usage_events_account_id_id (account_id=? AND id>", "late (at>"):
        assert any(kind in plan for plan in plans)
    assert {plan for plan in plans if "holds" in plan} == {
        "SCAN holds USING INDEX ix_holds_refunded",
        "SEARCH holds USING INDEX ix_holds_refunded (account_id=? AND id>? AND id<?)",
    }


def _plans(connection: Connection) -> list[str]:
    """How SQLite would read each part of a sum: of an account, of everybody, and by account."""
    scopes: list[tuple[Scope, By]] = [(Scope(NOON, NOON, 1), "day"), (Scope(NOON, NOON), "day")]
    scopes.append((Scope(NOON, NOON), "account_id"))
    texts = [
        str(part.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
        for scope, by in scopes
        for part in parts(scope, frontier(connection), [by])
    ]
    return [row[-1] for text in texts for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]

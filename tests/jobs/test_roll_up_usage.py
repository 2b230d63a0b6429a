"""Usage is added up by whoever comes first, however long nobody came, and by a clock that may be wrong."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

import store.roll_up
from config.clock import utc_now
from jobs.process import Outcome, run_job_once
from jobs.roll_up_usage import roll_up_usage
from jobs.timetable import EVERY_5_MIN
from jobs.turns import Turn
from policies.terms import Funding
from store.opening import open_store
from store.roll_up import MARGIN, frontier
from store.usage_sums import used
from store.verbs import Settle, Usage
from tests.jobs.conftest import House
from tests.store.usages import ALWAYS

NAME = "roll_up_usage"


async def _use(house: House, account_id: Any, calls: int = 1) -> None:
    for _ in range(calls):
        hold_id = await house.reserve(account_id, 1, funding=Funding.CREDITS)
        await house.store.ledger.settle(Settle(hold_id, account_id, None, Usage(), "done"))


async def _calls(house: House) -> int:
    found = await house.store.database.read(used, ALWAYS, ("account_id",))
    return sum(amounts.calls for amounts in found.values())


async def _rolled_up(house: House) -> int:
    report = await run_job_once(house.store, house.clock, NAME)
    assert report.outcome is Outcome.DONE
    return int(report.counts["usage_rolled_up"])


def test_the_job_comes_more_often_than_clocks_may_err() -> None:
    """Otherwise a clock that is set back could go unnoticed."""
    assert EVERY_5_MIN.every < MARGIN


async def test_days_of_absence_are_caught_up_with(houses: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one run, in steps; what is younger than the margin waits for the next one."""
    monkeypatch.setattr(store.roll_up, "STEP", 10)
    house = houses[0]
    account = await house.account(credits=1000)
    for _ in range(12):
        await _use(house, account, 5)
        house.clock.now += timedelta(days=1)
    await _use(house, account)
    assert [await _rolled_up(house), await _rolled_up(house), await _calls(house)] == [60, 0, 61]
    house.clock.now += timedelta(hours=1)
    assert [await _rolled_up(house), await _calls(house)] == [1, 61]


async def test_a_turn_that_is_cut_short_is_gone_on_with(houses: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was counted stays counted; the next turn counts the rest."""
    monkeypatch.setattr(store.roll_up, "STEP", 4)
    house = houses[0]
    account = await house.account(credits=1000)
    await _use(house, account, 20)
    house.clock.now += timedelta(days=1)
    stop = asyncio.Event()
    stop.set()
    counted = []
    for _ in range(9):
        turn = Turn(house.store, house.clock, stop, NAME, "tester")
        assert await turn.begin()
        counted.append((await roll_up_usage(house.store, turn))["usage_rolled_up"])
        assert await _calls(house) == 20
    assert sum(counted) == 20
    assert max(counted) == 4


async def test_several_schedulers_count_every_row_once(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even without a lease that would keep them apart."""
    monkeypatch.setattr(store.roll_up, "STEP", 5)
    monkeypatch.setattr(store.roll_up, "MARGIN", timedelta(0))
    monkeypatch.setattr(store.roll_up, "PROMPT", timedelta(0))
    async with open_store(database_url, utc_now) as one, open_store(database_url, utc_now) as other:
        house = House(one, utc_now)  # type: ignore[arg-type]
        await _use(house, await house.account(credits=1000), 60)
        turns = [
            Turn(each, utc_now, asyncio.Event(), f"turn {number}", "x") for number, each in enumerate((one, other))
        ]
        for turn in turns:
            assert await turn.begin()
        counts = await asyncio.gather(*(roll_up_usage(turn._store, turn) for turn in turns))
        assert sum(count["usage_rolled_up"] for count in counts) == 60
        assert await _calls(house) == 60


async def test_a_clock_that_was_set_back_makes_everything_be_counted_anew(
    houses: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine that began with a clock years ahead: nothing that is used after the correction is lost or doubled."""
    house = houses[0]
    account = await house.account(credits=1000)
    await _use(house, account, 3)
    house.clock.now += timedelta(days=1500)
    await _use(house, account, 2)
    house.clock.now += timedelta(days=1)
    assert await _rolled_up(house) == 5
    house.clock.now -= timedelta(days=1500)
    await _use(house, account, 4)
    with caplog.at_level(logging.WARNING, "jobs"):
        await _rolled_up(house)
    assert "the clock was set back" in caplog.text
    assert await _calls(house) == 9
    house.clock.now += timedelta(days=2)
    await _rolled_up(house)
    assert await _calls(house) == 9
    assert (await house.store.database.read(frontier)).anew is False
    house.clock.now += timedelta(days=1600)
    await _rolled_up(house)
    assert await _calls(house) == 9


async def test_usage_of_now_is_not_counted_before_its_time(house: House) -> None:
    """By the database's clock, where it has one: what has just been used is read as it is."""
    await _use(house, await house.account(credits=100), 3)
    assert await _rolled_up(house) == 0

"""The scheduler process: each job by one runner, none in the way of another, and an end when it is told to end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from config.clock import utc_now
from jobs.process import JobReport, Outcome, Runner, run_job_once, run_jobs, run_timetable
from jobs.timetable import DAILY, EVERY_15_S, JOBS, Job, UnknownJob
from jobs.turns import LEASE, RENEWAL, Turn
from store import leases
from store.archive_files import ArchiveTrouble
from store.opening import open_store

PATIENCE_S = 30


def _job(name: str, run: Callable[[Any, Turn], Awaitable[dict[str, int]]], when: Any = DAILY) -> Job:
    return Job(name, when, "A job of a test.", run)


class Counter:
    """A job that counts its runs and can be kept waiting in the middle of one."""

    def __init__(self) -> None:
        self.runs = 0
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self, store: Any, turn: Turn) -> dict[str, int]:
        self.runs += 1
        self.begun.set()
        await self.may_end.wait()
        return {"runs": self.runs}


async def _leases(house: Any) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in await house.store.database.read(leases.page)}


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("local_time")
async def test_the_process_runs_every_job_at_its_start_and_ends_when_told(house: Any) -> None:
    """All jobs succeed once; after `stop` the loop returns and no task is left behind."""
    stop = asyncio.Event()
    before = asyncio.all_tasks()
    running = asyncio.create_task(run_jobs(house.store, house.clock, stop, None))

    async def all_succeeded() -> bool:
        rows = await _leases(house)
        return {name for name, row in rows.items() if row["last_success"]} == {job.name for job in JOBS}

    await _until(all_succeeded)
    stop.set()
    await asyncio.wait_for(running, PATIENCE_S)
    assert asyncio.all_tasks() == before


async def test_two_runners_do_not_run_a_job_together(house: Any) -> None:
    """While one is at it the other finds the lease taken, and does nothing."""
    counter = Counter()
    counter.may_end.clear()
    job = _job("counted", counter)
    one, other = (Runner(house.store, house.clock, asyncio.Event()) for _ in range(2))
    first = asyncio.create_task(one.run(job, repeat=False))
    await counter.begun.wait()
    assert await other.run(job, repeat=False) == JobReport("counted", Outcome.BUSY)
    assert await other.run(job, repeat=True) == JobReport("counted", Outcome.BUSY)
    counter.may_end.set()
    assert await first == JobReport("counted", Outcome.DONE, {"runs": 1})


async def test_two_runners_do_not_repeat_each_other(house: Any) -> None:
    """What one has done today the other does not do again today; tomorrow whoever comes first does it."""
    counter = Counter()
    job = _job("counted", counter)
    runners = [Runner(house.store, house.clock, asyncio.Event()) for _ in range(2)]
    outcomes = [(await runner.run(job, repeat=False)).outcome for runner in (*runners, *runners)]
    assert outcomes == [Outcome.DONE, Outcome.DONE_ALREADY, Outcome.DONE_ALREADY, Outcome.DONE_ALREADY]
    house.clock.now += timedelta(days=1)
    outcomes = [(await runner.run(job, repeat=False)).outcome for runner in reversed(runners)]
    assert (outcomes, counter.runs) == ([Outcome.DONE, Outcome.DONE_ALREADY], 2)


async def test_two_processes_on_one_database_run_a_job_once(database_url: str) -> None:
    """Two loops with stores of their own, started together: one of them does the job."""
    counter = Counter()
    stop = asyncio.Event()
    now = utc_now()

    async def process() -> None:
        async with open_store(database_url, lambda: now) as store:
            await run_timetable([_job("counted", counter)], Runner(store, lambda: now, stop), stop, None)

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(process())
        await counter.begun.wait()
        # Several looks at the timetable, in which the other process has its chance.
        await asyncio.sleep(1.5)
        stop.set()
    assert counter.runs == 1


async def test_a_crashing_job_does_not_stop_the_others(house: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The failure is logged with its cause, its lease is given back without a success, and the loop goes on."""

    async def crash(store: Any, turn: Turn) -> dict[str, int]:
        raise ZeroDivisionError("of this test")

    counter = Counter()
    stop = asyncio.Event()
    jobs = [_job("crashing", crash), _job("counted", counter), _job("crashing_often", crash, EVERY_15_S)]
    with caplog.at_level(logging.ERROR, "jobs"):
        running = asyncio.create_task(run_timetable(jobs, Runner(house.store, house.clock, stop), stop, None))
        await asyncio.wait_for(counter.begun.wait(), PATIENCE_S)

        async def given_back() -> bool:
            rows = await _leases(house)
            return len(rows) == 3 and all(row["until"] <= house.clock.now for row in rows.values())

        await _until(given_back)
        assert not running.done()
        stop.set()
        await asyncio.wait_for(running, PATIENCE_S)
    assert {record.message for record in caplog.records} == {
        "the job crashing failed",
        "the job crashing_often failed",
    }
    assert "ZeroDivisionError" in caplog.text
    succeeded = {name for name, row in (await _leases(house)).items() if row["last_success"]}
    assert succeeded == {"counted"}


async def test_what_an_operator_has_to_mend_is_told_in_a_sentence(house: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Again with every try, and without a stack trace, which would bury it."""

    async def stuck(store: Any, turn: Turn) -> dict[str, int]:
        raise ArchiveTrouble("there is no folder archive; make or mount it")

    stop, counter = asyncio.Event(), Counter()
    jobs = [_job("stuck", stuck), _job("counted", counter)]
    with caplog.at_level(logging.ERROR, "jobs"):
        running = asyncio.create_task(run_timetable(jobs, Runner(house.store, house.clock, stop), stop, None))
        await asyncio.wait_for(counter.begun.wait(), PATIENCE_S)

        async def told() -> bool:
            return bool(caplog.records)

        await _until(told)
        stop.set()
        await asyncio.wait_for(running, PATIENCE_S)
    (record,) = caplog.records
    assert record.getMessage() == "the job stuck cannot go on: there is no folder archive; make or mount it"
    assert record.exc_info is None
    assert (await _leases(house))["stuck"]["last_success"] is None


async def test_a_job_of_a_process_that_died_is_taken_over_when_its_lease_is_over(house: Any) -> None:
    """Nobody gives the lease back; until its end the job is busy, and then it is anybody's."""
    dead = Turn(house.store, house.clock, asyncio.Event(), "counted", "a process that was killed")
    assert await dead.begin()
    job = _job("counted", Counter())
    runner = Runner(house.store, house.clock, asyncio.Event())
    house.clock.now += LEASE - timedelta(milliseconds=1)
    assert (await runner.run(job, repeat=False)).outcome is Outcome.BUSY
    house.clock.now += timedelta(milliseconds=1)
    assert (await runner.run(job, repeat=False)).outcome is Outcome.DONE


async def test_a_runner_that_slept_through_its_lease_stops_and_reports_no_success(house: Any) -> None:
    """Another one had a turn meanwhile: the job ends after its batch, whoever has the lease by then."""

    async def slow(store: Any, turn: Turn) -> dict[str, int]:
        house.clock.now += LEASE * 2
        await Runner(store, house.clock, asyncio.Event()).run(_job("slow", Counter()), repeat=True)
        house.clock.now += LEASE * 2
        return {"went_on": int(await turn.goes_on())}

    report = await Runner(house.store, house.clock, asyncio.Event()).run(_job("slow", slow), repeat=True)
    assert report == JobReport("slow", Outcome.STOPPED, {"went_on": 0})
    assert (await _leases(house))["slow"]["last_success"] == house.clock.now - LEASE * 2


async def test_a_long_job_keeps_its_lease_from_batch_to_batch(house: Any) -> None:
    """Renewed after every batch, a lease outlasts its length as often as needed."""
    other = Runner(house.store, house.clock, asyncio.Event())

    async def long(store: Any, turn: Turn) -> dict[str, int]:
        batches = 0
        for _ in range(5):
            house.clock.now += LEASE * 0.9
            assert (await other.run(_job("long", Counter()), repeat=True)).outcome is Outcome.BUSY
            batches += await turn.goes_on()
        return {"batches": batches}

    report = await Runner(house.store, house.clock, asyncio.Event()).run(_job("long", long), repeat=True)
    assert report == JobReport("long", Outcome.DONE, {"batches": 5})


async def test_a_lease_is_renewed_now_and_then(house: Any) -> None:
    """A job of many short batches writes its lease a few times a minute, and not once for each of them."""
    turn = Turn(house.store, house.clock, asyncio.Event(), "counted", "holder")
    assert await turn.begin()
    ends = [(await _leases(house))["counted"]["until"]]
    for step in (RENEWAL * 0.9, RENEWAL * 0.2, RENEWAL * 0.9, -timedelta(seconds=1)):
        house.clock.now += step
        assert await turn.goes_on()
        ends.append((await _leases(house))["counted"]["until"])
    assert [later - earlier for earlier, later in pairwise(ends)] == [
        timedelta(0),
        RENEWAL * 1.1,
        timedelta(0),
        timedelta(0),
    ]
    house.clock.now -= RENEWAL
    assert await turn.goes_on()
    assert (await _leases(house))["counted"]["until"] == house.clock.now + LEASE


async def test_stopping_ends_a_job_between_two_batches(house: Any) -> None:
    """What is under way is finished, what has not begun is left for the next time, and the report says so."""
    stop = asyncio.Event()

    async def endless(store: Any, turn: Turn) -> dict[str, int]:
        batches = 1
        while await turn.goes_on():
            batches += 1
            if batches == 3:
                stop.set()
        return {"batches": batches}

    report = await asyncio.wait_for(
        Runner(house.store, house.clock, stop).run(_job("endless", endless), repeat=False), PATIENCE_S
    )
    assert report == JobReport("endless", Outcome.STOPPED, {"batches": 3})
    assert (await _leases(house))["endless"]["last_success"] is None


async def test_the_process_ends_with_its_parent(house: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A scheduler whose parent is another process than the one that started it stops by itself."""
    stop = asyncio.Event()
    runner = Runner(house.store, house.clock, stop)
    await asyncio.wait_for(run_timetable([], runner, stop, os.getppid() + 1), PATIENCE_S)
    assert stop.is_set()
    assert "is gone" in caplog.text


async def test_a_job_can_be_run_now_and_again(house: Any) -> None:
    """An operator who asks for a run gets one, however recently the job has succeeded."""
    reports = [await run_job_once(house.store, house.clock, "sweep_holds") for _ in range(2)]
    assert reports == [JobReport("sweep_holds", Outcome.DONE, {"holds_ended": 0})] * 2
    with pytest.raises(UnknownJob):
        await run_job_once(house.store, house.clock, "make_coffee")


_PROGRAM = """
import asyncio, sys
from config.clock import utc_now
from jobs.process import run_jobs, stop_on_signals
from store.opening import open_store

async def main():
    stop = asyncio.Event()
    with stop_on_signals(stop):
        async with open_store(sys.argv[1], utc_now) as store:
            await run_jobs(store, utc_now, stop, None)
    print("ended well")

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_process_in_good_order(database_url: str, number: signal.Signals) -> None:
    """SIGTERM and SIGINT let it give back its leases and close its store; the exit code is 0."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", _PROGRAM, database_url, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    now = utc_now
    try:
        async with open_store(database_url, now) as store:

            async def swept() -> bool:
                assert process.returncode is None
                return await store.database.read(leases.last_success, "sweep_holds") is not None

            await _until(swept)
            process.send_signal(number)
            output, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
            assert (process.returncode, output, errors) == (0, b"ended well\n", b"")
            rows = await store.database.read(leases.page)
            assert all(row["until"] <= now() for row in rows)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

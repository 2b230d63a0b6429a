"""The scheduler process, `farebox jobs`: runs every job when it is due, until it is told to stop.

Jobs run beside each other, a job never beside itself. One that fails is logged and tried again; the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from config.clock import Clock
from jobs.timetable import JOBS, Job, Timetable, in_utc, job_named
from jobs.turns import Turn
from store import leases
from store.archive_files import ArchiveTrouble
from store.opening import Store

TICK_S = 0.5
"""How often the timetable is looked at, and whether the parent process is still there."""

log = logging.getLogger(__name__)


class Outcome(StrEnum):
    """What became of a turn."""

    DONE = "done"
    STOPPED = "stopped"
    """Ended between two batches, because the process is stopping or has lost its lease."""
    BUSY = "busy"
    """Another process is at it."""
    DONE_ALREADY = "done already"
    """Another process has done it in this stretch of time."""


@dataclass(frozen=True, slots=True)
class JobReport:
    """`counts` says what the job did, by the job's own names."""

    job: str
    outcome: Outcome
    counts: Mapping[str, int] = field(default_factory=dict)


class Runner:
    """Runs jobs for one process, each under its lease."""

    def __init__(self, store: Store, clock: Clock, stop: asyncio.Event) -> None:
        self._store = store
        self._clock = clock
        self._stop = stop
        # For operators to recognise the process, and for two processes never to take each other for themselves.
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"

    async def run(self, job: Job, *, repeat: bool) -> JobReport:
        """One turn. Without `repeat`, what was done in this stretch of time already is not done again.

        Raises whatever the job raises, after giving its lease back.
        """
        turn = Turn(self._store, self._clock, self._stop, job.name, self._holder)
        if not await turn.begin():
            return JobReport(job.name, Outcome.BUSY)
        succeeded = False
        try:
            if not repeat and await self._done_already(job):
                return JobReport(job.name, Outcome.DONE_ALREADY)
            counts = await job.run(self._store, turn)
            succeeded = not turn.cut_short
        finally:
            await turn.end(succeeded)
        return JobReport(job.name, Outcome.DONE if succeeded else Outcome.STOPPED, counts)

    async def _done_already(self, job: Job) -> bool:
        last = await self._store.database.read(leases.last_success, job.name)
        return last is not None and job.when.same_stretch(last, self._clock())


async def run_jobs(
    store: Store, clock: Clock, stop: asyncio.Event, parent_pid: int | None, jobs: Sequence[Job] = JOBS
) -> None:
    """Run all jobs of the timetable until `stop` is set, or the parent process is gone. Moves the process to UTC.

    `clock` says whose turn it is; what a job decides, it decides by the database's moment. Ends after the batches
    that are under way.
    """
    in_utc()
    await run_timetable(jobs, Runner(store, clock, stop), stop, parent_pid)


async def run_timetable(jobs: Sequence[Job], runner: Runner, stop: asyncio.Event, parent_pid: int | None) -> None:
    """The loop: looks at the timetable, starts what is due and not under way, and waits for it all at the end."""
    timetable = Timetable(jobs)
    running: dict[str, asyncio.Task[None]] = {}
    while not stop.is_set():
        for job in timetable.due():
            if job.name not in running or running[job.name].done():
                running[job.name] = asyncio.create_task(_guarded(job, runner, timetable), name=job.name)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), TICK_S)
        if parent_pid is not None and os.getppid() != parent_pid:
            log.warning("the parent process %d is gone; stopping", parent_pid)
            stop.set()
    await asyncio.gather(*running.values())


async def _guarded(job: Job, runner: Runner, timetable: Timetable) -> None:
    """One turn whose failure is logged, and repaired by the next one."""
    try:
        report = await runner.run(job, repeat=False)
    except ArchiveTrouble as error:
        # For an operator to mend, and it says how; where in our code it was noticed is no help.
        log.error("the job %s cannot go on: %s", job.name, error)
        timetable.try_again(job)
        return
    except Exception:
        log.exception("the job %s failed", job.name)
        timetable.try_again(job)
        return
    level = logging.INFO if any(report.counts.values()) else logging.DEBUG
    log.log(level, "the job %s: %s %s", job.name, report.outcome, dict(report.counts))
    if report.outcome in (Outcome.BUSY, Outcome.STOPPED):
        timetable.try_again(job)


async def run_job_once(store: Store, clock: Clock, name: str, jobs: Sequence[Job] = JOBS) -> JobReport:
    """Run one job now, whether it is due or not. Raises UnknownJob, or whatever the job raises."""
    return await Runner(store, clock, asyncio.Event()).run(job_named(name, jobs), repeat=True)


@contextlib.contextmanager
def stop_on_signals(stop: asyncio.Event) -> Iterator[None]:
    """Within it, SIGTERM and SIGINT set `stop` instead of ending the process where it stands."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

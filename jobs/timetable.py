"""The table of jobs: what there is, when it is due, and what it is for. The only file that knows `schedule`.

`schedule` reads the system's local time, so the process that uses a Timetable lives in UTC (`in_utc`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import schedule

from config.findings import did_you_mean
from jobs.archive_usage import Keep, archive_usage
from jobs.audit_housekeeping import audit_housekeeping
from jobs.expire_subscriptions import expire_subscriptions
from jobs.forget_keys import forget_keys
from jobs.quota_housekeeping import quota_housekeeping
from jobs.rate_housekeeping import rate_housekeeping
from jobs.roll_up_usage import roll_up_usage
from jobs.sweep_holds import sweep_holds
from jobs.turns import Turn
from jobs.watch_jobs import Ask, watch_jobs
from store.opening import Store

RETRY_S = 60
"""After this a job is tried again that failed, or that another process had begun and may have died over."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class When:
    """How often a job is due. Stretches of the length `every` count from midnight UTC; a job is done once in each."""

    text: str
    every: timedelta
    plan: Callable[[schedule.Scheduler], Any]

    def same_stretch(self, one: datetime, other: datetime) -> bool:
        """Whether two moments are in the same day, or hour, or whatever `every` is."""
        return (one - _EPOCH) // self.every == (other - _EPOCH) // self.every


DAILY = When("daily at 00:00 UTC", timedelta(days=1), lambda scheduler: scheduler.every().day.at("00:00"))
HOURLY = When("hourly", timedelta(hours=1), lambda scheduler: scheduler.every().hour.at(":00"))
EVERY_5_MIN = When("every 5 minutes", timedelta(minutes=5), lambda scheduler: scheduler.every(5).minutes)
EVERY_5_S = When("every 5 seconds", timedelta(seconds=5), lambda scheduler: scheduler.every(5).seconds)
EVERY_15_S = When("every 15 seconds", timedelta(seconds=15), lambda scheduler: scheduler.every(15).seconds)


@dataclass(frozen=True, slots=True)
class Job:
    """`run` is safe to repeat, and returns what it did, counted; the sentence is for people."""

    name: str
    when: When
    sentence: str
    run: Callable[[Store, Turn], Awaitable[dict[str, int]]]


_ARCHIVE, _AUDIT, _WATCH = "archive_usage", "audit_housekeeping", "watch_jobs"

JOBS: tuple[Job, ...] = (
    Job("quota_housekeeping", DAILY, "Drops quota windows that nobody can ask for any more.", quota_housekeeping),
    Job("expire_subscriptions", HOURLY, "Writes down which subscriptions have renewed or ended.", expire_subscriptions),
    Job("roll_up_usage", EVERY_5_MIN, "Adds usage up by day, for dashboards.", roll_up_usage),
    Job("sweep_holds", EVERY_15_S, "Ends holds whose deadline has passed.", sweep_holds),
    Job("forget_keys", HOURLY, "Forgets idempotency keys that have expired.", forget_keys),
    Job(_WATCH, EVERY_5_S, "Asks backends how jobs stand that clients do not ask for.", partial(watch_jobs, ask=None)),
    Job(_ARCHIVE, DAILY, "Moves old usage into files, where `retention` says so.", partial(archive_usage, keep=None)),
    Job("rate_housekeeping", HOURLY, "Drops counters of limits that count nothing any more.", rate_housekeeping),
    Job(_AUDIT, DAILY, "Drops old entries of the audit log, where `retention` says so.",
        partial(audit_housekeeping, months=None)),
)  # fmt: skip
"""As it is without settings, which keep everything and ask for nothing."""


def jobs_for(keep: Keep | None, audit: int | None = None, ask: Ask | None = None) -> tuple[Job, ...]:
    """The jobs of a place where so much usage, and so many months of the audit log, are kept, and where backends are
    asked like this.
    """
    run = {
        _ARCHIVE: partial(archive_usage, keep=keep),
        _AUDIT: partial(audit_housekeeping, months=audit),
        _WATCH: partial(watch_jobs, ask=ask),
    }
    return tuple(replace(job, run=run.get(job.name, job.run)) for job in JOBS)


class UnknownJob(Exception):
    """There is no job of this name; the message says which there are."""


def job_named(name: str, jobs: Sequence[Job] = JOBS) -> Job:
    for job in jobs:
        if job.name == name:
            return job
    raise UnknownJob(f"there is no job {name!r}{did_you_mean(name, [job.name for job in jobs])}")


class Timetable:
    """Says which jobs are due. All of them are at the start, to make up for what was missed."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._scheduler = schedule.Scheduler()
        self._due = list(jobs)
        for job in jobs:
            job.when.plan(self._scheduler).do(self._due.append, job)

    def due(self) -> list[Job]:
        """The jobs that have become due since the last call, each once."""
        self._scheduler.run_pending()
        due = list(dict.fromkeys(self._due))
        self._due.clear()
        return due

    def try_again(self, job: Job) -> None:
        """Make a job due in a while, unless its next time comes sooner anyway."""
        if job.when.every > timedelta(seconds=RETRY_S):
            # Instead of an earlier try that is still to come, or a long outage would pile them up.
            self._scheduler.clear(job.name)
            self._scheduler.every(RETRY_S).seconds.do(self._once, job).tag(job.name)

    def _once(self, job: Job) -> type[schedule.CancelJob]:
        self._due.append(job)
        return schedule.CancelJob


def in_utc() -> None:
    """Make this process's local time UTC, for `schedule` and for the log."""
    os.environ["TZ"] = "UTC"
    time.tzset()

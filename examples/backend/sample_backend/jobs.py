"""Generations that were accepted and finish later, kept in memory.

A job's state is a pure function of its dates and `now`: nothing runs in the background, so a test that reads the
status too early or too late gets the same answer as a client that polls. Handlers of every app add jobs here and show
them as rows; nothing in this file knows what an app's job produces.

    pending ──▶ processing ──▶ completed | failed
       └──────────────┴──────▶ cancelled             (only on request)
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

MAX_JOBS = 10_000
"""Jobs kept before the oldest is forgotten: far more than a demo polls, and a few tens of megabytes at most."""

PENDING_SHARE = 0.25
"""Part of a job's time that it spends waiting in the queue, so that a quick poll can see `pending` at all."""


def new_id() -> str:
    """A fresh row id of the shape the real apps use: 25 characters that start with `c`."""
    return f"c{secrets.token_hex(12)}"


def iso(seconds: float) -> str:
    """Epoch seconds as the apps print dates: UTC, milliseconds, a `Z` at the end."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One accepted generation.

    `queue` is the app (or the part of it) that may show the job; `details` are the columns of the app's own row;
    `takes_s` is the time from acceptance to its end.
    """

    queue: str
    owner: str
    takes_s: float
    fails: bool
    details: Mapping[str, Any]
    project_id: str = ""
    id: str = field(default_factory=new_id)
    created_s: float = field(default_factory=time.time)
    cancelled: bool = False

    def share_done(self, now: float) -> float:
        """How much of the job's time has passed, from 0.0 to 1.0; a job that takes none is done the moment after."""
        elapsed_s = now - self.created_s
        if elapsed_s <= 0:
            return 0.0
        return 1.0 if elapsed_s >= self.takes_s else elapsed_s / self.takes_s

    def status(self, now: float) -> str:
        """`pending`, `processing`, `completed`, `failed` or `cancelled`; the last three are final."""
        if self.cancelled:
            return "cancelled"
        done = self.share_done(now)
        if done < 1.0:
            return "pending" if done < PENDING_SHARE else "processing"
        return "failed" if self.fails else "completed"

    def row(self, now: float) -> dict[str, Any]:
        """The job as a database row in JSON, without the columns that exist only once it has ended."""
        status = self.status(now)
        return {
            "id": self.id,
            "projectId": self.project_id,
            "userId": self.owner,
            **self.details,
            "status": status,
            "createdAt": iso(self.created_s),
            "completedAt": iso(self.created_s + self.takes_s) if status == "completed" else None,
        }


class JobBook:
    """The jobs of one server process; the oldest is forgotten when `limit` is exceeded."""

    def __init__(self, job_seconds: float, limit: int = MAX_JOBS) -> None:
        self.job_seconds = job_seconds
        self._limit = limit
        self._jobs: OrderedDict[tuple[str, str], Job] = OrderedDict()

    def add(self, job: Job) -> Job:
        """Keep a job, and return it."""
        self._jobs[job.queue, job.id] = job
        while len(self._jobs) > self._limit:
            self._jobs.popitem(last=False)
        return job

    def get(self, queue: str, job_id: str) -> Job | None:
        """The job of that id in that queue, or None when it is unknown or forgotten."""
        return self._jobs.get((queue, job_id))

    def in_project(self, queue: str, project_id: str) -> list[Job]:
        """All remembered jobs of a project, newest first, as the apps list them."""
        found = [job for job in self._jobs.values() if job.queue == queue and job.project_id == project_id]
        return found[::-1]

    def cancel(self, job: Job) -> Job:
        """Mark a job as cancelled; the caller has checked that it has not ended."""
        cancelled = replace(job, cancelled=True)
        self._jobs[job.queue, job.id] = cancelled
        return cancelled


JOBS = web.AppKey("JOBS", JobBook)

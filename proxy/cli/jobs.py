"""`farebox jobs`: the scheduler process, or one of its jobs now; `farebox jobs list` for what has run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from proxy.cli.invocation import Invocation, common
from proxy.cli.output import show
from proxy.cli.verbs import Noun

if TYPE_CHECKING:
    from config.settings import LoadedSettings
    from jobs.process import JobReport
    from jobs.timetable import Job
    from store.opening import Store


@common
def run(invocation: Invocation, once: str | None, parent_pid: int | None) -> None:
    """Runs the scheduler alone, until SIGTERM or Ctrl-C; with --once, one job now.

    Any number of schedulers may run: a job is done by one of them at a time. No request waits for a job, and none
    is decided by one.
    """
    if click.get_current_context().invoked_subcommand is not None:
        return
    settings = invocation.settings()
    if once is None:
        asyncio.run(_run(settings, parent_pid))
        return
    report = asyncio.run(_run_once(settings, once))
    show({"job": report.job, "outcome": str(report.outcome), **report.counts}, invocation.json)


async def _run(settings: LoadedSettings, parent_pid: int | None) -> None:
    from config.clock import utc_now
    from config.log import set_up_log
    from jobs.process import run_jobs, stop_on_signals
    from store.opening import open_store

    set_up_log(settings.values.log)
    stop = asyncio.Event()
    with stop_on_signals(stop):
        async with open_store(settings.database_url, utc_now) as store, _timetable(settings, store) as jobs_here:
            await run_jobs(store, utc_now, stop, parent_pid, jobs_here)


async def _run_once(settings: LoadedSettings, name: str) -> JobReport:
    from config.clock import utc_now
    from jobs.process import run_job_once
    from jobs.timetable import UnknownJob, job_named
    from proxy.operations.auditing import audited, command_line
    from store.audit import Act
    from store.opening import open_store

    try:
        job_named(name)
    except UnknownJob as error:
        raise click.UsageError(str(error)) from None
    act = Act("operator", command_line(), "jobs once", {"job": name})
    async with (
        open_store(settings.database_url, utc_now) as store,
        audited(store, act),
        _timetable(settings, store) as jobs_here,
    ):
        return await run_job_once(store, utc_now, name, jobs_here)


@asynccontextmanager
async def _timetable(settings: LoadedSettings, store: Store) -> AsyncIterator[Sequence[Job]]:
    from config.clock import utc_now
    from jobs.archive_usage import Keep
    from jobs.timetable import jobs_for
    from proxy.asking import asking

    retention = settings.values.retention
    keep = None if retention.usage == "forever" else Keep(retention.usage, settings.archive_folder)
    audit = None if retention.audit == "forever" else retention.audit
    async with asking(settings, store, utc_now) as ask:
        yield jobs_for(keep, audit, ask)


jobs = Noun(
    "jobs",
    run.__doc__ or "",
    ["jobs", "jobs --once sweep_holds", "jobs list"],
    callback=run,
    invoke_without_command=True,
    params=[
        click.Option(["--once"], metavar="NAME", help="Run this job now, whether it is due or not, and end."),
        click.Option(["--parent-pid"], type=int, hidden=True),
        *reversed(getattr(run, "__click_params__", [])),
    ],
)

"""The jobs of the scheduler: who runs them, and when each last succeeded."""

from __future__ import annotations

from config.roles import Role
from policies.refusals import iso
from proxy.operations.operation import Answer, Arguments, Desk, Operation
from store import leases


class ListJobs(Arguments):
    pass


async def list_jobs(desk: Desk, given: ListJobs) -> Answer:
    rows, now = await desk.store.database.read(leases.page), desk.now()
    shown = [
        {
            "job": row["name"],
            "running": row["until"] > now,
            "holder": row["holder"],
            "until": iso(row["until"]),
            "last_success": iso(row["last_success"]) if row["last_success"] else None,
        }
        for row in rows
    ]
    return {"jobs": shown}


OPERATIONS = (
    Operation("jobs", "list", "Lists the jobs that have run, who runs them, and their last success.", "jobs list",
              ListJobs, list_jobs, Role.VIEWER),
)  # fmt: skip

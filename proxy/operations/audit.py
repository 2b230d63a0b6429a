"""The audit log: what operators and processes have changed. Reading it changes nothing, and nothing else can."""

from __future__ import annotations

from typing import Any

from policies.refusals import iso
from proxy.operations.arguments import Cursor, Limit, Moment, Name
from proxy.operations.operation import Answer, Arguments, Desk, Operation
from store import audit


class ListEntries(Arguments):
    actor: Name | None = None
    """Only what this one has done: `operator` by the command line, `admin` by the admin API, `farebox` by itself."""
    operation: Name | None = None
    """Only this operation, such as `credits grant`, or all of a noun, such as `policy`."""
    about: Name | None = None
    """Only with this as one of the arguments: the account, user or key as it was named then."""
    since: Moment | None = None
    """Only from this date or moment on, in UTC."""
    before: Cursor | None = None
    """Only entries below this number."""
    limit: Limit = 50
    """How many."""


async def list_entries(desk: Desk, given: ListEntries) -> Answer:
    rows = await desk.store.database.read(
        lambda connection: audit.page(
            connection,
            actor=given.actor,
            operation=given.operation,
            about=given.about,
            since=given.since,
            before=given.before,
            limit=given.limit + 1,
        )
    )
    shown = rows[: given.limit]
    return {
        "entries": [_told(row) for row in shown],
        "next": shown[-1]["id"] if len(rows) > given.limit else None,
    }


def _told(row: dict[str, Any]) -> Answer:
    return {
        "number": row["id"],
        "at": iso(row["at"]),
        "actor": row["actor"],
        "from": row["place"],
        "operation": row["operation"],
        "arguments": row["arguments"],
        "outcome": row["outcome"],
        "error": row["error"],
        "revision_before": row["revision_before"],
        "revision_after": row["revision_after"],
    }


OPERATIONS = (
    Operation("audit", "list", "Lists what was changed, by whom, from where and with what result, newest first.",
              "audit list --operation credits --since 2026-01-01", ListEntries, list_entries),
)  # fmt: skip

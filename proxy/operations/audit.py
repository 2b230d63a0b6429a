"""The audit log: what operators and processes have changed, and whether it is as it was written."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from config.roles import Role
from policies.refusals import iso
from proxy.operations.arguments import Cursor, Limit, Moment, Name
from proxy.operations.operation import Answer, Arguments, Desk, Operation
from store import audit, audit_chain
from store.audit_chain import Link


class ListEntries(Arguments):
    actor: Name | None = None
    """Only what this one has done: an operator by name, `operator` by a command, `farebox` by itself."""
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
        "role": row["role"],
        "from": row["place"],
        "operation": row["operation"],
        "arguments": row["arguments"],
        "outcome": row["outcome"],
        "error": row["error"],
        "revision_before": row["revision_before"],
        "revision_after": row["revision_after"],
    }


_HEAD = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{64})")


def _head(value: object) -> str:
    if not isinstance(value, str) or not _HEAD.fullmatch(value):
        raise ValueError("expected a head as `audit verify` tells it: a number, a colon and 64 digits")
    return value


class Verify(Arguments):
    head: Annotated[str, BeforeValidator(_head)] | None = None
    """The head that an earlier verification has told: it must still be in the chain."""


async def verify_chain(desk: Desk, given: Verify) -> Answer:
    known = None
    if given.head is not None:
        number, _, chain = given.head.partition(":")
        known = Link(int(number), chain)

    def progress(done: int, total: int) -> None:
        desk.progress("links of the audit log", done, total)

    found = await desk.store.database.read(audit_chain.verify, known, progress)
    return {
        "ok": not found.breaches,
        "head": f"{found.head.number}:{found.head.chain}",
        "rows": found.rows,
        "dropped": found.dropped,
        "older": found.older,
        "breaches": found.breaches,
        "further_breaches": found.further,
    }


OPERATIONS = (
    Operation("audit", "list", "Lists what was changed, by whom, from where and with what result, newest first.",
              "audit list --operation credits --since 2026-01-01", ListEntries, list_entries, Role.VIEWER,
              personal=("from",)),
    Operation("audit", "verify", "Checks that no entry of the audit log was changed, added or taken away.",
              "audit verify --json", Verify, verify_chain, Role.OPERATOR, passes="ok"),
)  # fmt: skip

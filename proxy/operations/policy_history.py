"""Policies that were in force: listing them, showing one, going back to one, and which process has which."""

from __future__ import annotations

from config.findings import InvalidDocument, did_you_mean
from config.roles import Role
from policies.refusals import Refusal, iso
from proxy.operations.arguments import Cursor, Limit, Name
from proxy.operations.compiling import compiled_again
from proxy.operations.operation import Answer, Arguments, Desk, Operation, conflict, not_found
from store import policy_history
from store.policy_history import StoredPolicy


class History(Arguments):
    before: Cursor | None = None
    """Only policies below this number."""
    limit: Limit = 20
    """How many."""


async def history(desk: Desk, given: History) -> Answer | Refusal:
    rows = await desk.store.database.read(policy_history.page, given.before, given.limit + 1)
    return {
        "policies": [_told(row) for row in rows[: given.limit]],
        "next": rows[given.limit - 1].number if len(rows) > given.limit else None,
    }


def _told(row: StoredPolicy) -> Answer:
    files = [name for name, _ in row.source]
    return {"number": row.number, "revision": row.revision, "at": iso(row.at), "origin": row.origin, "files": files}


class One(Arguments):
    revision: Name
    """The revision of a policy that was in force."""


async def show(desk: Desk, given: One) -> Answer | Refusal:
    found = await _found(desk, given.revision)
    if isinstance(found, Refusal):
        return found
    return {**_told(found), "source": [{"file": name, "text": text} for name, text in found.source]}


async def _found(desk: Desk, revision: str) -> StoredPolicy | Refusal:
    found = await desk.store.database.read(policy_history.find, revision)
    if found is not None:
        return found
    known = [row.revision for row in await desk.store.database.read(policy_history.page, None, 100)]
    hint = "See: farebox policy history"
    return not_found(f"No policy {revision!r} was in force" + did_you_mean(revision, known), hint)


async def rollback(desk: Desk, given: One) -> Answer | Refusal:
    """The earlier policy stands in for the files that are on disk now, in every process that has the same files."""
    from proxy.policy_reading import fingerprint

    found = await _found(desk, given.revision)
    if isinstance(found, Refusal):
        return found
    if desk.policies is None:
        return conflict("There is no policy folder", "Name one with `policies` in farebox.yaml.")
    last = await desk.store.database.read(policy_history.latest)
    try:
        rulebook = await compiled_again(desk, found.source)
    except InvalidDocument as error:
        return conflict("The earlier policy does not fit what is for sale now", str(error))
    origin = f"rollback to {found.revision} by {desk.actor}"
    arguments = (rulebook.revision, found.source, origin, fingerprint(desk.policies), desk.now())
    number = await desk.store.database.write(policy_history.record, *arguments)
    return {
        "number": number,
        "revision": rulebook.revision,
        "instead_of": last.revision if last is not None else None,
        "until": "the policy files are changed",
    }


class Nothing(Arguments):
    pass


async def nodes(desk: Desk, given: Nothing) -> Answer | Refusal:
    rows = await desk.store.database.read(policy_history.nodes)
    told = [
        {
            "process": row["node"],
            "revision": row["revision"],
            "loaded_at": iso(row["loaded_at"]),
            "using_last_good": row["using_last_good"],
            "error": row["error"],
            "seen_at": iso(row["seen_at"]),
        }
        for row in rows
    ]
    return {"processes": told, "revisions": len({row["revision"] for row in rows})}


OPERATIONS = (
    Operation("policy", "history", "Lists the policies that were in force, newest first.",
              "policy history --limit 5", History, history, Role.VIEWER),
    Operation("policy", "show", "Shows a policy that was in force, with the text of its files.",
              "policy show 9e792461cddb", One, show, Role.VIEWER, positional=("revision",)),
    Operation("policy", "rollback", "Puts an earlier policy in force again, until the policy files are changed.",
              "policy rollback 9e792461cddb", One, rollback, Role.OWNER, changes=True, positional=("revision",),
              revisions=("instead_of", "revision")),
    Operation("policy", "nodes", "Lists the serving processes, and the policy that each of them has.",
              "policy nodes", Nothing, nodes, Role.VIEWER),
)  # fmt: skip

"""The audit log as operators meet it: every change is in it, whatever became of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from policies.refusals import Reason
from proxy.operations.auditing import MASKED, audited, command_line
from proxy.operations.operation import Operation
from proxy.operations.table import OPERATIONS
from store import audit
from store.audit import Act
from store.engine import StoreUnavailable
from tests.proxy.operations.desk import Counter


async def entries(counter: Counter, **asked: object) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = (await counter.do("audit list", **asked))["entries"]
    return listed


async def test_a_change_is_in_the_log_with_who_from_where_and_what(counter: Counter) -> None:
    """The arguments as they were understood, the result, and no value that nobody needs to read again."""
    counter.desk = replace(counter.desk, place="10.0.0.7")
    await counter.do("accounts create", user="ana", email="ana@example.com", credits=2.5)
    (entry,) = await entries(counter)
    assert entry == {
        "number": 1,
        "at": "2026-01-15T10:30:00.000Z",
        "actor": "tester",
        "role": None,
        "from": "10.0.0.7",
        "operation": "accounts create",
        "arguments": {"user": "ana", "email": MASKED, "credits": 2.5},
        "outcome": "done",
        "error": None,
        "revision_before": None,
        "revision_after": None,
    }


async def test_a_refused_change_is_in_the_log_too(counter: Counter) -> None:
    """With what it was refused for."""
    await counter.do("accounts create", user="ana", credits=0)
    await counter.refused("credits deduct", Reason.INSUFFICIENT_CREDITS, account="ana", credits=5, description="x")
    entry, _ = await entries(counter)
    assert (entry["operation"], entry["outcome"]) == ("credits deduct", "refused")
    assert entry["error"]


async def test_a_fault_is_in_the_log_too(counter: Counter) -> None:
    """What it has changed until then stays changed, so it must be seen; and it goes on its way."""

    async def fails(*_: object) -> None:
        raise RuntimeError("broken pipe")

    operation = next(found for found in OPERATIONS if found.verb == "freeze")
    given = operation.read({"account": "ana"})
    with pytest.raises(RuntimeError):
        await replace(operation, run=fails).perform(counter.desk, given)
    (entry,) = await entries(counter)
    assert (entry["outcome"], entry["error"]) == ("failed", "RuntimeError")


async def test_what_leaves_no_trace_is_not_done(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that cannot take the entry is not asked for the change."""

    def unavailable(*_: object) -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(audit, "begin", unavailable)
    with pytest.raises(StoreUnavailable):
        await counter.do("accounts create", user="ana")
    monkeypatch.undo()
    await counter.refused("accounts show", Reason.NOT_FOUND, account="ana")


async def test_a_result_that_cannot_be_written_is_unknown(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The change is made, and whoever asked for it is told so."""

    def unavailable(*_: object) -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(audit, "end", unavailable)
    async with audited(counter.desk.store, Act("tester", "", "test", {})):
        pass
    (entry,) = await entries(counter)
    assert entry["outcome"] == "unknown"


async def test_the_log_is_read_page_by_page(counter: Counter) -> None:
    """Newest first, with the number that the next page begins below."""
    for user in ("ana", "ben", "cid"):
        await counter.do("accounts create", user=user)
    page = await counter.do("audit list", limit=2)
    assert [entry["arguments"]["user"] for entry in page["entries"]] == ["cid", "ben"]
    rest = await counter.do("audit list", limit=2, before=page["next"])
    assert ([entry["arguments"]["user"] for entry in rest["entries"]], rest["next"]) == (["ana"], None)


async def test_what_was_done_about_somebody(counter: Counter) -> None:
    """By the value of an argument, whichever it is; not by a part of one, nor by the name of one."""
    await counter.do("accounts create", user="ana%")
    await counter.do("accounts create", user="anab", email="user@example.com")
    await counter.do("accounts tag", account="ana%", tags=["anab"])
    assert [entry["operation"] for entry in await entries(counter, about="ana%")] == ["accounts tag", "accounts create"]
    assert [entry["operation"] for entry in await entries(counter, about="anab")] == ["accounts create"]
    assert await entries(counter, about="user") == []


def test_reading_leaves_no_entry() -> None:
    """Only what changes something does; the verbs of the log itself change nothing."""
    assert all(not operation.changes for operation in OPERATIONS if operation.noun == "audit")
    assert Operation.perform in {type(operation).perform for operation in OPERATIONS}


def test_a_command_says_where_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also as a user that has no name on this machine."""
    assert "@" in command_line()
    monkeypatch.setattr("getpass.getuser", lambda: (_ for _ in ()).throw(KeyError("no such user")))
    user, _, host = command_line().partition("@")
    assert user.isdigit()
    assert host

"""The audit log of the store: what is written stays as it is, until retention takes it."""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

import store
from config.clock import utc_now
from store import audit
from store.audit import MAX_ERROR, Act, Outcome, Result
from store.engine import AlreadyExists, Database
from tests.store.till import NOON

GRANT = Act("operator", "root@host", "credits grant", {"account": "ana", "credits": 5})
DAY = timedelta(days=1)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, utc_now)
    yield opened
    await opened.close()


async def test_an_entry_is_there_before_its_outcome(database: Database) -> None:
    """What a process was killed over is shown, with an outcome that nobody knows."""
    number = await database.write(audit.begin, GRANT, NOON)
    (row,) = await database.read(lambda connection: audit.page(connection, limit=9))
    assert (row["id"], row["at"], row["actor"], row["place"]) == (number, NOON, "operator", "root@host")
    assert (row["arguments"], row["outcome"], row["ended_at"]) == (GRANT.arguments, "unknown", None)
    await database.write(audit.end, number, Result(Outcome.REFUSED, "x" * 2 * MAX_ERROR, "r1", "r2"), NOON + DAY)
    (row,) = await database.read(lambda connection: audit.page(connection, limit=9))
    assert (row["outcome"], row["ended_at"], row["error"]) == ("refused", NOON + DAY, "x" * MAX_ERROR)
    assert (row["revision_before"], row["revision_after"]) == ("r1", "r2")


async def test_an_outcome_cannot_be_replaced(database: Database) -> None:
    """By the key of the table, whoever tries."""
    number = await database.write(audit.note, GRANT, Result(Outcome.DONE), NOON)
    with pytest.raises(AlreadyExists):
        await database.write(audit.end, number, Result(Outcome.FAILED), NOON)
    (row,) = await database.read(lambda connection: audit.page(connection, limit=9))
    assert row["outcome"] == "done"


async def test_entries_are_found_by_who_what_and_when(database: Database) -> None:
    """Newest first; an operation by its name or by its noun, and no other one that begins like it."""
    acts = [
        ("operator", "policy rollback"),
        ("farebox", "policy reload"),
        ("admin", "policy_x y"),
        ("admin", "policyx z"),
    ]
    numbers = [
        await database.write(audit.note, Act(actor, "", name, {}), Result(Outcome.DONE), NOON + number * DAY)
        for number, (actor, name) in enumerate(acts)
    ]

    async def found(**asked: object) -> list[int]:
        rows = await database.read(lambda connection: audit.page(connection, limit=9, **asked))  # type: ignore[arg-type]
        return [row["id"] for row in rows]

    first, second, third, fourth = numbers
    assert await found() == [fourth, third, second, first]
    assert await found(operation="policy") == [second, first]
    assert await found(operation="policy reload") == [second]
    assert await found(operation="policy_") == []
    assert await found(actor="admin") == [fourth, third]
    assert await found(since=NOON + 2 * DAY) == [fourth, third]
    assert await found(before=third) == [second, first]


async def test_retention_takes_the_oldest_with_their_outcomes(database: Database) -> None:
    """So many at a time, and nothing from the moment on."""
    for days in range(5):
        await database.write(audit.note, GRANT, Result(Outcome.DONE), NOON + days * DAY)
    assert await database.write(audit.drop_before, NOON + 3 * DAY, 2) == 2
    assert await database.write(audit.drop_before, NOON + 3 * DAY, 2) == 1
    assert await database.write(audit.drop_before, NOON + 3 * DAY, 2) == 0
    rows = await database.read(lambda connection: audit.page(connection, limit=9))
    assert [row["at"] for row in rows] == [NOON + 4 * DAY, NOON + 3 * DAY]


def test_nothing_else_touches_the_audit_log() -> None:
    """No statement changes a row, and only retention deletes any: in one file of the store, in one function."""
    folder = Path(store.__file__).parent
    users = {
        file.name
        for file in folder.glob("*.py")
        if "audit_entries" in file.read_text("utf-8") and file.name not in ("tables.py", "audit_tables.py")
    }
    assert users == {"audit.py"}
    called = [
        (function.name, call.func.attr)
        for function in ast.walk(ast.parse((folder / "audit.py").read_text("utf-8")))
        if isinstance(function, ast.FunctionDef)
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
    ]
    writing = {(name, verb) for name, verb in called if verb in ("insert", "update", "delete", "text")}
    assert writing == {("begin", "insert"), ("end", "insert"), ("drop_before", "delete")}

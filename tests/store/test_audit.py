"""The audit log of the store: what is written stays as it is, until retention takes it."""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError

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
    number = (await database.write(audit.begin, GRANT, NOON)).number
    (row,) = await database.read(lambda connection: audit.page(connection, limit=9))
    assert (row["id"], row["at"], row["actor"], row["place"]) == (number, NOON, "operator", "root@host")
    assert (row["arguments"], row["outcome"], row["ended_at"]) == (GRANT.arguments, "unknown", None)
    await database.write(audit.end, number, Result(Outcome.REFUSED, "x" * 2 * MAX_ERROR, "r1", "r2"), NOON + DAY)
    (row,) = await database.read(lambda connection: audit.page(connection, limit=9))
    assert (row["outcome"], row["ended_at"], row["error"]) == ("refused", NOON + DAY, "x" * MAX_ERROR)
    assert (row["revision_before"], row["revision_after"]) == ("r1", "r2")


async def test_an_outcome_cannot_be_replaced(database: Database) -> None:
    """By the key of the table and a trigger, whoever tries."""
    number = await database.write(audit.note, GRANT, Result(Outcome.DONE), NOON)
    with pytest.raises((AlreadyExists, IntegrityError)):
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
    dropped = [await database.write(audit.drop_before, NOON + 3 * DAY, 2, NOON + 9 * DAY) for _ in range(3)]
    assert dropped == [2, 1, 0]
    rows = await database.read(lambda connection: audit.page(connection, limit=9))
    assert [row["at"] for row in rows] == [NOON + 4 * DAY, NOON + 3 * DAY]


ROWS = {"audit_entries": "id", "audit_outcomes": "entry_id", "audit_links": "number", "audit_cuts": "through"}
CHANGES = [
    *(f"UPDATE {table} SET {key} = {key} + 1" for table, key in ROWS.items()),
    *(f"DELETE FROM {table}" for table in ROWS),
    "UPDATE audit_entries SET actor = 'nobody'",
]
REPLACING = "REPLACE INTO audit_outcomes (entry_id, at, outcome) SELECT entry_id, at, 'done' FROM audit_outcomes"


@pytest.mark.parametrize("change", CHANGES)
async def test_the_database_keeps_what_is_written(database: Database, change: str) -> None:
    """Neither a row nor its link can be changed or taken away, whoever is connected and whatever code they run."""
    for _ in range(2):
        await database.write(audit.note, GRANT, Result(Outcome.REFUSED), NOON)
    await database.write(audit.drop_before, NOON + DAY, 1, NOON)
    before = await database.read(_everything)
    with pytest.raises(DBAPIError, match="append-only"):
        await database.write(lambda connection: connection.execute(sa.text(change)))
    assert await database.read(_everything) == before


async def test_the_database_keeps_it_in_its_own_ways_too(database: Database) -> None:
    """REPLACE on SQLite, which asks no trigger for deletions, and TRUNCATE on PostgreSQL, which asks none for rows."""
    await database.write(audit.note, GRANT, Result(Outcome.REFUSED), NOON)
    sqlite = database.url.startswith("sqlite")
    for change in [REPLACING] if sqlite else [f"TRUNCATE {table}" for table in ROWS]:
        with pytest.raises(DBAPIError, match="append-only"):
            await database.write(lambda connection, change=change: connection.execute(sa.text(change)))


def _everything(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    return {
        table: [tuple(row) for row in connection.execute(sa.text(f"SELECT * FROM {table} ORDER BY {key}"))]
        for table, key in ROWS.items()
    }


def test_nothing_else_touches_the_audit_log() -> None:
    """No statement changes a row, and only retention deletes any: in one file of the store, in one function. The chain
    is added to, and nothing else.
    """
    folder = Path(store.__file__).parent
    users = {
        file.name
        for file in folder.glob("*.py")
        if "audit_entries" in file.read_text("utf-8") and file.name not in ("tables.py", "audit_tables.py")
    }
    assert users == {"audit.py", "audit_chain.py"}
    called = [
        (function.name, call.func.attr)
        for user in users
        for function in ast.walk(ast.parse((folder / user).read_text("utf-8")))
        if isinstance(function, ast.FunctionDef)
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
    ]
    writing = {(name, verb) for name, verb in called if verb in ("insert", "update", "delete", "text")}
    assert writing == {("begin", "insert"), ("end", "insert"), ("append", "insert"), ("drop_before", "insert"),
                       ("drop_before", "delete")}  # fmt: skip

"""The database: one snapshot to read, all or nothing to write, and trouble told apart from mistakes."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import await_only

from config.clock import utc_now
from store.catalogue import next_number
from store.engine import AlreadyExists, Database, StoreUnavailable
from store.tables import counters
from tests.postgres import PostgresServer


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, utc_now)
    yield opened
    await opened.close()


def _execute(statement: str) -> Callable[[Connection], Any]:
    return lambda connection: connection.execute(sa.text(statement))


def _value(connection: Connection) -> int | None:
    return connection.execute(sa.select(counters.c.value).where(counters.c.name == "n")).scalar()


def _insert(connection: Connection) -> None:
    connection.execute(sa.insert(counters).values(name="n", value=1))


async def test_a_write_is_there_for_everybody(database: Database, database_url: str) -> None:
    """After it was answered, for every connection."""
    assert await database.write(next_number, "n") == 1
    assert await database.read(_value) == 1
    other = Database(database_url, utc_now)
    assert await other.read(_value) == 1
    await other.close()


async def test_a_write_that_fails_leaves_nothing(database: Database) -> None:
    """All or nothing, whatever the failure."""

    def change(connection: Connection) -> None:
        _insert(connection)
        raise RuntimeError("after the first statement")

    with pytest.raises(RuntimeError, match="after the first statement"):
        await database.write(change)
    assert await database.read(_value) is None


async def test_a_read_sees_one_snapshot(database: Database) -> None:
    """What is committed meanwhile is seen by the next read, on both databases."""
    await database.write(_insert)

    def twice(connection: Connection) -> tuple[int | None, int | None]:
        before = _value(connection)
        await_only(database.write(next_number, "n"))
        return before, _value(connection)

    assert await database.read(twice) == (1, 1)
    assert await database.read(_value) == 2


async def test_writes_of_one_process_wait_for_each_other(database: Database) -> None:
    """None is lost, and none fails."""
    await asyncio.gather(*(database.write(next_number, "n") for _ in range(50)))
    assert await database.read(_value) == 50


async def test_the_first_number_is_given_once(database_url: str) -> None:
    """Also when several processes start on a new database at the same moment."""
    databases = [Database(database_url, utc_now) for _ in range(8)]
    numbers = await asyncio.gather(*(database.write(next_number, "process") for database in databases))
    assert sorted(numbers) == list(range(1, 9))
    for database in databases:
        await database.close()


async def test_a_row_that_is_there_already_is_told_apart(database: Database) -> None:
    """So that the loser of a race can look for what the winner made."""
    await database.write(_insert)
    with pytest.raises(AlreadyExists, match=r"(?i)unique"):
        await database.write(_insert)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO counters (name, value) VALUES ('n', NULL)",
        "INSERT INTO users (id, account_id, created_at) VALUES ('u', 1000000000, 0)",
        "INSERT INTO credit_grants (id, account_id, key, source, amount, unspent, spent, priority, effective_at,"
        " description, created_at) VALUES (1, 1, 'key', 'bonus', 1, 2, FALSE, 1, 0, '', 0)",
    ],
)
async def test_a_row_that_breaks_a_rule_is_a_mistake(database: Database, statement: str) -> None:
    """Neither trouble with the database nor a lost race: it would fail again."""
    with pytest.raises(IntegrityError):
        await database.write(_execute(statement))


@pytest.mark.parametrize("statement", ["SELEKT 1", "SELECT 1 FROM counters WHERE value ="])
async def test_a_wrong_statement_is_a_mistake(database: Database, statement: str) -> None:
    """On PostgreSQL; SQLite calls it an operational error, and what cannot be told apart refuses requests."""
    expected = StoreUnavailable if database.url.startswith("sqlite") else sa.exc.ProgrammingError
    with pytest.raises(expected):
        await database.read(_execute(statement))


async def test_the_url_for_people_has_no_password() -> None:
    """It is printed and logged."""
    database = Database("postgresql+asyncpg://farebox:geheim@localhost/farebox", utc_now)
    assert "geheim" not in database.url
    assert "localhost/farebox" in database.url
    await database.close()


async def test_a_file_that_is_not_a_database_is_unavailable(tmp_path: Path) -> None:
    """For readers and writers; nothing is forwarded meanwhile."""
    (tmp_path / "farebox.db").write_bytes(b"Dear diary, " * 1000)
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/farebox.db", utc_now)
    with pytest.raises(StoreUnavailable, match="file is not a database"):
        await database.read(_value)
    with pytest.raises(StoreUnavailable, match="file is not a database"):
        await database.write(_insert)
    await database.close()


async def test_a_missing_folder_is_unavailable(tmp_path: Path) -> None:
    """For readers and writers."""
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/missing/farebox.db", utc_now)
    with pytest.raises(StoreUnavailable, match="unable to open database file"):
        await database.read(_value)
    with pytest.raises(StoreUnavailable, match="unable to open database file"):
        await database.write(_insert)
    await database.close()


async def test_a_file_that_cannot_be_written_still_reads(migrated_file: Path, tmp_path: Path) -> None:
    """A write says that it could not, and nothing has happened."""
    path = shutil.copyfile(migrated_file, tmp_path / "farebox.db")
    # A reader needs the files of the write-ahead log, which somebody who may write has made.
    with closing(sqlite3.connect(path)) as keeper:
        keeper.execute("SELECT * FROM counters")
        database = Database(f"sqlite+aiosqlite:///file:{path}?mode=ro&uri=true", utc_now)
        with pytest.raises(StoreUnavailable, match="readonly"):
            await database.write(_insert)
        assert await database.read(_value) is None
        await database.close()


async def test_a_write_waits_for_a_lock_and_not_for_ever(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that another process keeps makes writes fail instead of hang; when it is gone all is well."""
    monkeypatch.setattr("store.engine.BUSY_TIMEOUT_MS", 50)
    database, keeper = Database(database_url, utc_now), create_async_engine(database_url)
    await database.write(_insert)
    async with keeper.begin() as connection:
        await connection.execute(sa.text("UPDATE counters SET value = 7"))
        with pytest.raises(StoreUnavailable, match="lock"):
            await database.write(next_number, "n")
        assert await database.read(_value) == 1
    assert await database.write(next_number, "n") == 8
    await keeper.dispose()
    await database.close()


async def test_a_server_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    """No server, no such database: requests are refused until there is one."""
    database = Database(f"postgresql+asyncpg://farebox@/farebox?host={tmp_path}", utc_now)
    with pytest.raises(StoreUnavailable):
        await database.read(_value)
    with pytest.raises(StoreUnavailable):
        await database.write(_insert)
    await database.close()


async def test_a_database_that_does_not_exist_is_unavailable(postgres: PostgresServer) -> None:
    """The sentence names it."""
    database = Database(postgres.url("nowhere"), utc_now)
    with pytest.raises(StoreUnavailable, match="nowhere"):
        await database.read(_value)
    await database.close()


async def test_a_connection_that_the_server_has_cut_is_replaced(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restarted server costs no request once it is back."""
    monkeypatch.setattr("store.engine.IDLE_S", 0)
    database = Database(postgresql_url, utc_now)
    await database.write(next_number, "cut")
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'farebox' AND pid <> pg_backend_pid()"
    other = Database(postgresql_url, utc_now)
    await other.read(_execute(cut))
    await other.close()
    await database.write(next_number, "cut")
    await database.close()


async def test_a_connection_that_was_forgotten_while_it_idled_is_replaced(
    postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Firewalls tell nobody, and cut a connection at its next byte: nobody's request has to find out."""
    server = sa.make_url(postgresql_url).query["host"]
    cut = asyncio.Event()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        before = cut.is_set()
        from_server, to_server = await asyncio.open_unix_connection(f"{server}/.s.PGSQL.5432")
        async with asyncio.TaskGroup() as both:
            both.create_task(_copy(reader, to_server, lambda: cut.is_set() and not before))
            both.create_task(_copy(from_server, writer, lambda: False))

    monkeypatch.setattr("store.engine.IDLE_S", 0)
    firewall = await asyncio.start_unix_server(forward, tmp_path / ".s.PGSQL.5432")
    database = Database(postgresql_url.replace(str(server), str(tmp_path)), utc_now)
    pid = await database.write(_backend)
    assert await database.write(_backend) == pid
    cut.set()
    assert await database.write(_backend) != pid
    await database.close()
    firewall.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: Callable[[], bool]) -> None:
    """From one side to the other, until one ends or is cut at its next byte."""
    with closing(writer):
        while (data := await reader.read(2**16)) and not cut():
            writer.write(data)


def _backend(connection: Connection) -> int:
    """The number of the server's process for this connection."""
    return int(connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one())


async def test_a_connection_that_is_cut_in_a_transaction_is_unavailable(postgresql_url: str) -> None:
    """And nothing of the transaction has happened."""
    database, other = Database(postgresql_url, utc_now), Database(postgresql_url, utc_now)

    def change(connection: Connection) -> None:
        next_number(connection, "cut twice")
        pid = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        await_only(other.read(_execute(f"SELECT pg_terminate_backend({pid})")))
        next_number(connection, "cut twice")

    with pytest.raises(StoreUnavailable):
        await database.write(change)
    assert await database.write(next_number, "cut twice") == 1
    await database.close()
    await other.close()


async def test_the_moment_is_the_databases_where_nodes_share_one(database_url: str) -> None:
    """A node whose clock is wrong decides by the same moment as the others; alone it has its own clock."""
    wrong = datetime(2001, 1, 1, tzinfo=UTC)
    database = Database(database_url, lambda: wrong)
    moment = await database.write(database.now)
    await database.close()
    if database_url.startswith("sqlite"):
        assert moment == wrong
    else:
        assert abs(moment - utc_now()) < timedelta(minutes=1)
        assert moment.tzinfo is UTC


async def test_the_log_of_sqlite_is_emptied_beside_the_commits(tmp_path: Path, migrated_file: Path) -> None:
    """What was committed reaches the database file although the process goes on and commits nothing more."""
    path = tmp_path / "farebox.db"
    shutil.copyfile(migrated_file, path)
    opened = Database(f"sqlite+aiosqlite:///{path}", utc_now)
    try:
        await opened.write(next_number, "n")
        while _without_the_log(path) != [(1,)]:
            await asyncio.sleep(0.01)
    finally:
        await opened.close()


def _without_the_log(path: Path) -> list[Any]:
    """What the database file alone says: SQLite is told that nobody writes it."""
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        return connection.execute("SELECT value FROM counters WHERE name = 'n'").fetchall()

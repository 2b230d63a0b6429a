"""Schema versions: migrations make exactly the tables of the code, all or none, from any number of processes."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

import store
from config.clock import utc_now
from store.engine import Database, StoreUnavailable
from store.opening import open_store
from store.schema import SchemaOutdated, check_schema, known_schemas, migrate
from store.tables import accounts, holds, metadata
from store.upgrading import config
from store.verify import verify


async def _run(url: str, function: Any, *, write: bool = False) -> Any:
    database = Database(url, utc_now)
    try:
        return await (database.write if write else database.read)(function)
    finally:
        await database.close()


def _differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, metadata))


def _constraints(connection: Connection) -> dict[str, Any]:
    """What Alembic does not compare: the conditions of indexes and checks, and tables without row ids."""
    inspector = sa.inspect(connection)

    def indexes(table: str) -> list[Any]:
        where = f"{connection.dialect.name}_where"
        return sorted(
            (index["name"], index["column_names"], index["unique"], str(index.get("dialect_options", {}).get(where)))
            for index in inspector.get_indexes(table)
        )

    return {
        table: (
            indexes(table),
            sorted((check["name"], check["sqltext"]) for check in inspector.get_check_constraints(table)),
            sorted((key["name"], key["referred_table"]) for key in inspector.get_foreign_keys(table)),
            inspector.get_pk_constraint(table)["constrained_columns"],
            connection.dialect.name == "sqlite" and "WITHOUT ROWID" in _sql(connection, table),
        )
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }


def _sql(connection: Connection, table: str) -> str:
    query = sa.text("SELECT sql FROM sqlite_master WHERE name = :table")
    return str(connection.execute(query, {"table": table}).scalar_one())


def _set_version(number: str) -> Any:
    return lambda connection: connection.execute(sa.text(f"UPDATE alembic_version SET version_num = '{number}'"))


async def test_migrations_make_the_tables_of_the_code(database_url: str) -> None:
    """Table by table, column by column, index by index."""
    assert await _run(database_url, _differences) == []


async def test_migrations_make_the_constraints_of_the_code(empty_database_url: str) -> None:
    """The conditions of partial indexes and of checks too, which are what keeps races out."""
    await migrate(empty_database_url)
    made = await _run(empty_database_url, _constraints)
    await _run(empty_database_url, metadata.drop_all, write=True)
    await _run(empty_database_url, metadata.create_all, write=True)
    assert made == await _run(empty_database_url, _constraints)
    assert "reserved" in str(made["holds"])


async def test_what_an_older_version_has_written_is_kept(empty_database_url: str) -> None:
    """Accounts are remade on SQLite, where others refer to them: they do so afterwards, and are kept to it."""
    await _run(empty_database_url, _first_schema, write=True)
    values = "kind, posted, pending, version, revision, tags, created_at, may_overdraw"
    await _run(
        empty_database_url,
        _execute(
            f"INSERT INTO accounts (id, {values}) VALUES (7, 'user', 70, 20, 2, 5, '[\"vip\"]', 1, FALSE)",
            "INSERT INTO users (id, account_id, created_at) VALUES ('ana', 7, 1)",
            "INSERT INTO credit_grants VALUES (1, 7, 'k', 'bonus', 100, 50, 20, 100, 1, NULL, '', 1)",
            "INSERT INTO ledger_entries VALUES (7, 1, 'grant', 100, 100, NULL, 1, '', 1)",
            "INSERT INTO ledger_entries VALUES (7, 2, 'usage', -30, 70, 3, NULL, '', 1)",
            _hold(2, "reserved", 20, 0, "NULL"),
            _hold(3, "settled", 30, 30, "1"),
            "INSERT INTO usage_events VALUES (3, 7, 'ana', NULL, 'a:b', '', '', 'credits', 30, 30, '', FALSE, 1, 1, 1)",
        ),
        write=True,
    )
    assert await migrate(empty_database_url) == ("0001", (await migrate(empty_database_url))[1])
    assert [check for check in await _run(empty_database_url, verify) if check.breaches] == []
    rows = await _run(empty_database_url, lambda connection: connection.execute(sa.select(accounts)).mappings().all())
    assert (rows[0]["id"], rows[0]["overdrawn"], rows[0]["tags"]) == (7, 0, ["vip"])
    unspent = sa.text("SELECT unspent, spent FROM credit_grants")
    assert await _run(empty_database_url, lambda connection: connection.execute(unspent).all()) == [(70, False)]
    rules = await _run(empty_database_url, lambda connection: connection.execute(sa.select(*_RULES)).all())
    assert [tuple(row) for row in rules] == [("none", "cap", None)] * 2
    for statement in ("DELETE FROM accounts", "INSERT INTO users VALUES ('budi', 8, NULL, 1)"):
        with pytest.raises(IntegrityError):
            await _run(empty_database_url, _execute(statement), write=True)


_RULES = holds.c.on_late, holds.c.overrun, holds.c.late_at


def _first_schema(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(store.__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "0001")


def _hold(number: int, state: str, amount: int, settled: int, ended_at: str) -> str:
    columns = (
        "id, account_id, user_id, state, funding, amount, settled_amount, refunded_amount, taken, model_key, action,"
    )
    columns += "route_id, policy_revision, rule, price_version, units, on_deadline, deadline, created_at, ended_at"
    taken = f'{{"grants":[[1,{amount}]]}}'
    values = f"{number}, 7, 'ana', '{state}', 'credits', {amount}, {settled}, 0, '{taken}', 'a:b', 'a',"
    return f"INSERT INTO holds ({columns}) VALUES ({values} 'r', 'p', 'r', 1, '{{}}', 'release', 1, 1, {ended_at})"


async def test_migrating_again_changes_nothing(empty_database_url: str) -> None:
    """The answer tells the schema before and after."""
    before, after = await migrate(empty_database_url)
    assert before is None
    assert await migrate(empty_database_url) == (after, after)


async def test_several_processes_migrate_at_once(empty_database_url: str) -> None:
    """One of them does the work and the others wait for it."""
    results = await asyncio.gather(*(migrate(empty_database_url) for _ in range(4)))
    assert sorted(before is None for before, _ in results) == [False, False, False, True]
    await _run(empty_database_url, check_schema)


async def test_a_migration_that_fails_leaves_nothing_behind(empty_database_url: str) -> None:
    """Here a table is in the way that somebody else made; without it the next attempt succeeds."""
    await _run(empty_database_url, _execute("CREATE TABLE users (a INTEGER)"), write=True)
    with pytest.raises(StoreUnavailable, match="users"):
        await migrate(empty_database_url)
    tables = await _run(empty_database_url, lambda connection: sa.inspect(connection).get_table_names())
    assert tables == ["users"]
    await _run(empty_database_url, _execute("DROP TABLE users"), write=True)
    assert (await migrate(empty_database_url))[0] is None


def _execute(*statements: str) -> Any:
    return lambda connection: [connection.exec_driver_sql(statement) for statement in statements]


async def test_a_database_without_schema_names_the_command(empty_database_url: str) -> None:
    """The message says what to run."""
    with pytest.raises(SchemaOutdated, match=r"has schema none, .* run: farebox migrate"):
        await _run(empty_database_url, check_schema)


async def test_a_store_on_an_older_schema_does_not_open(empty_database_url: str) -> None:
    """Unless it is the embedded default, which migrates itself."""
    with pytest.raises(SchemaOutdated, match="run: farebox migrate"):
        async with open_store(empty_database_url, utc_now, migrate_embedded=False):
            pass
    if empty_database_url.startswith("sqlite"):
        async with open_store(empty_database_url, utc_now) as store:
            await store.database.read(check_schema)


async def test_a_schema_of_a_newer_version_is_left_alone(database_url: str) -> None:
    """Neither opened nor migrated: it asks for the newer version."""
    current = (await migrate(database_url))[1]
    await _run(database_url, _set_version("9999"), write=True)
    try:
        with pytest.raises(SchemaOutdated, match="made by a newer Farebox"):
            await _run(database_url, check_schema)
        with pytest.raises(SchemaOutdated, match="made by a newer Farebox"):
            await migrate(database_url)
        with pytest.raises(SchemaOutdated, match="made by a newer Farebox"):
            async with open_store(database_url, utc_now):
                pass
    finally:
        await _run(database_url, _set_version(str(current)), write=True)


async def test_a_missing_folder_is_unavailable(tmp_path: Path) -> None:
    """The sentence says what the database says."""
    with pytest.raises(StoreUnavailable, match="unable to open database file"):
        await migrate(f"sqlite+aiosqlite:///{tmp_path}/missing/farebox.db")


async def test_a_folder_that_is_a_file_is_unavailable(tmp_path: Path) -> None:
    """Nothing can be created below it, whoever one is."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="unable to open database file"):
        await migrate(f"sqlite+aiosqlite:///{tmp_path}/file/farebox.db")


def test_a_file_that_is_not_a_database_is_left_alone(tmp_path: Path) -> None:
    """It is refused, and not a byte of it is changed."""
    path, content = tmp_path / "farebox.db", b"Dear diary, " * 1000
    path.write_bytes(content)
    with pytest.raises(StoreUnavailable, match="file is not a database"):
        asyncio.run(migrate(f"sqlite+aiosqlite:///{path}"))
    assert path.read_bytes() == content


async def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    """As any other trouble of the database."""
    with pytest.raises(StoreUnavailable):
        await migrate(f"postgresql+asyncpg://farebox@/farebox?host={tmp_path}")


async def test_a_locked_file_is_unavailable(
    migrated_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the time that a write waits for its turn."""
    monkeypatch.setattr("store.engine.BUSY_TIMEOUT_MS", 50)
    path = shutil.copyfile(migrated_file, tmp_path / "farebox.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="database is locked"):
            await migrate(f"sqlite+aiosqlite:///{path}")


def test_migrations_are_known_by_the_names_of_their_files() -> None:
    """In the order in which Alembic runs them, so that it need not be loaded to know whether it is needed."""
    revisions = [script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()]
    assert known_schemas() == revisions[::-1]


async def test_a_current_schema_needs_no_alembic(tmp_path: Path, migrated_file: Path) -> None:
    """It would take a good part of the time that a process needs to start."""
    shutil.copyfile(migrated_file, tmp_path / "farebox.db")
    code = (
        "import asyncio, sys; from store.schema import migrate; import proxy.serving, jobs.process; "
        f"print(asyncio.run(migrate('sqlite+aiosqlite:///{tmp_path}/farebox.db')), 'alembic' in sys.modules)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    last = known_schemas()[-1]
    assert printed.decode().strip() == f"{(last, last)} False"

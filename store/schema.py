"""Schema versions: applying migrations, and refusing to work on a schema that is not current."""

from __future__ import annotations

import asyncio
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from store.engine import IMMEDIATE, StoreUnavailable, prepare_sqlite, shown


class SchemaOutdated(Exception):
    """The database has another schema than this version of Farebox; the message says what to run."""


def _config(url: str | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    if url is not None:
        config.attributes["url"] = url
    return config


def current_schema(connection: Connection) -> str | None:
    """The last migration that has been applied."""
    return MigrationContext.configure(connection).get_current_revision()


def check_schema(connection: Connection) -> None:
    """Raises SchemaOutdated unless every migration of this version has been applied and no later one."""
    found = current_schema(connection)
    head = ScriptDirectory.from_config(_config()).get_current_head()
    _refuse_newer(found)
    if found != head:
        raise SchemaOutdated(
            f"the database has schema {found or 'none'}, this Farebox needs {head}; run: farebox migrate"
        )


def _refuse_newer(found: str | None) -> None:
    known = {revision.revision for revision in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found is not None and found not in known:
        raise SchemaOutdated(f"the database has schema {found}, made by a newer Farebox; use that version or newer")


async def migrate(url: str) -> tuple[str | None, str | None]:
    """Apply all migrations; returns the schema before and after. Safe to repeat, and to run from several processes.

    All of them or none: a process that dies meanwhile leaves the schema as it was. Raises SchemaOutdated when a newer
    Farebox has migrated already.
    """
    parsed = sa.make_url(url)
    try:
        if parsed.get_backend_name() == "sqlite":
            return await asyncio.to_thread(_upgrade_sqlite, parsed)
        engine = create_async_engine(parsed, poolclass=NullPool)
        async with engine.connect() as connection:
            return await connection.run_sync(_upgrade)
    except (DBAPIError, OSError) as error:
        origin = getattr(error, "orig", None) or error
        raise StoreUnavailable(f"{shown(parsed)}: {str(origin).splitlines()[0]}") from error


def _upgrade_sqlite(url: sa.URL) -> tuple[str | None, str | None]:
    """In one thread: the asyncio driver leaves a thread of its own behind when a file cannot be opened."""
    engine = sa.create_engine(url.set(drivername="sqlite"), poolclass=NullPool)
    # A table that is remade is dropped meanwhile; what refers to it is looked at before the commit.
    prepare_sqlite(engine, begin=IMMEDIATE, foreign_keys=False)
    with engine.connect() as connection:
        return _upgrade(connection)


def _upgrade(connection: Connection) -> tuple[str | None, str | None]:
    config = _config()
    config.attributes["connection"] = connection
    if connection.dialect.name == "postgresql":
        # One migrator at a time; the number is arbitrary, it only has to be ours.
        connection.execute(sa.text("SELECT pg_advisory_lock(7014207)"))
    # The first statement begins the one transaction that all migrations run in: Alembic leaves it to us to commit.
    before = current_schema(connection)
    _refuse_newer(before)
    command.upgrade(config, "head")
    after = MigrationContext.configure(connection).get_current_revision()
    if connection.dialect.name == "sqlite" and before not in (None, after):
        dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        assert not dangling, f"a migration has lost rows that others refer to: {dangling[:3]}"
    connection.commit()
    return before, after

"""Schema versions: applying migrations, and refusing to work on a schema that is not current."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from store.engine import IMMEDIATE, StoreUnavailable, prepare_sqlite, shown


class SchemaOutdated(Exception):
    """The database has another schema than this version of Farebox; the message says what to run."""


VERSIONS = Path(__file__).parent / "migrations" / "versions"


def known_schemas() -> list[str]:
    """The migrations of this version of Farebox, in their order: each file begins with its number."""
    return sorted(path.name.partition("_")[0] for path in VERSIONS.glob("*_*.py"))


def current_schema(connection: Connection) -> str | None:
    """The last migration that has been applied."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
    return found


def check_schema(connection: Connection) -> None:
    """Raises SchemaOutdated unless every migration of this version has been applied and no later one."""
    found, known = current_schema(connection), known_schemas()
    _refuse_newer(found, known)
    if found != known[-1]:
        raise SchemaOutdated(
            f"the database has schema {found or 'none'}, this Farebox needs {known[-1]}; run: farebox migrate"
        )


def _refuse_newer(found: str | None, known: Sequence[str]) -> None:
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
        engine = create_async_engine(parsed, poolclass=NullPool, hide_parameters=True)
        async with engine.connect() as connection:
            return await connection.run_sync(_upgrade)
    except (DBAPIError, OSError) as error:
        origin = getattr(error, "orig", None) or error
        raise StoreUnavailable(f"{shown(parsed)}: {str(origin).splitlines()[0]}") from error


def _upgrade_sqlite(url: sa.URL) -> tuple[str | None, str | None]:
    """In one thread: the asyncio driver leaves a thread of its own behind when a file cannot be opened."""
    engine = sa.create_engine(url.set(drivername="sqlite"), poolclass=NullPool, hide_parameters=True)
    # A table that is remade is dropped meanwhile; what refers to it is looked at before the commit.
    prepare_sqlite(engine, begin=IMMEDIATE, foreign_keys=False)
    with engine.connect() as connection:
        return _upgrade(connection)


def _upgrade(connection: Connection) -> tuple[str | None, str | None]:
    if connection.dialect.name == "postgresql":
        # One migrator at a time; the number is arbitrary, it only has to be ours.
        connection.execute(sa.text("SELECT pg_advisory_lock(7014207)"))
    # The first statement begins the one transaction that all migrations run in: Alembic leaves it to us to commit.
    before, known = current_schema(connection), known_schemas()
    _refuse_newer(before, known)
    if before == known[-1]:
        return before, before
    from store.upgrading import upgrade

    upgrade(connection)
    if connection.dialect.name == "sqlite" and before is not None:
        dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        assert not dangling, f"a migration has lost rows that others refer to: {dangling[:3]}"
    connection.commit()
    return before, current_schema(connection)

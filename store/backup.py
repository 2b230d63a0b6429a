"""A copy of the embedded database while it is in use: complete, of one moment, and nobody waits for it.

SQLite's own backup, on a read transaction that stays open from the first page to the last: a copy of a database that
others write to would begin again with every commit otherwise, and under load never end. The copy is checked page by
page before it counts. It is not opened as a store, so that a backup before an upgrade does not upgrade anything.
Called by `farebox backup`, which puts the file in its place.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from store.engine import StoreUnavailable
from store.findings import Progress
from store.schema import check_schema
from store.verify import Check, verify

PAGES_AT_ONCE = 2_000
"""Eight megabytes: some milliseconds, so that progress is seen to move."""

BUSY_S = 10
"""For the moment at the beginning at which another process may be recovering the database."""


def database_file(url: str) -> Path | None:
    """The file of an embedded database; None for any other, which has tools of its own."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        return None
    return Path(parsed.database)


def copy(source: Path, target: Path, progress: Progress) -> int:
    """Write all of `source`, as it is at this moment, to `target`; returns the bytes. Raises StoreUnavailable.

    `target` exists and is overwritten; it gets the permissions of the source.
    """
    try:
        with closing(_opened(source)) as reading, closing(sqlite3.connect(target)) as writing:
            # The snapshot begins with the first page that is read.
            reading.execute("BEGIN")
            reading.execute("SELECT count(*) FROM sqlite_master").fetchone()
            reading.backup(writing, pages=PAGES_AT_ONCE, progress=_told("pages", progress))
            reading.rollback()
        _check_pages(target)
    except sqlite3.Error as error:
        raise StoreUnavailable(f"{source}: {error}") from error
    shutil.copymode(source, target)
    return target.stat().st_size


def _opened(source: Path) -> sqlite3.Connection:
    """Of a database that is there: a connection would make an empty one otherwise."""
    return sqlite3.connect(f"{source.resolve().as_uri()}?mode=rw", uri=True, timeout=BUSY_S, isolation_level=None)


def _told(what: str, progress: Progress) -> Callable[[int, int, int], None]:
    return lambda _status, remaining, total: progress(what, total - remaining, total)


def _check_pages(copied: Path) -> None:
    """Every page, index and constraint of the copy."""
    with closing(sqlite3.connect(copied)) as connection:
        # One file and nothing beside it: the copy says of itself that it needs a log as long as this is not undone.
        connection.execute("PRAGMA journal_mode = DELETE")
        problems = [row[0] for row in connection.execute("PRAGMA integrity_check(10)")]
        if problems != ["ok"]:
            raise StoreUnavailable(f"the copy is damaged, and so may the database be: {'; '.join(problems)}")


def verify_copy(copied: Path, progress: Progress) -> list[Check]:
    """The laws of the ledger on a copy, which is not changed by it. Raises StoreUnavailable, and SchemaOutdated when
    the copy is of another version.
    """
    # Nobody else has it, so there is no snapshot to take, and no log to write.
    engine = sa.create_engine(f"sqlite:///file:{copied.resolve()}?mode=ro&uri=true", poolclass=NullPool)
    try:
        with engine.connect() as connection:
            check_schema(connection)
            return verify(connection, progress)
    except DBAPIError as error:
        raise StoreUnavailable(str(error.orig)) from error

"""The connection to the database: reading, and writing in one transaction, with both dialects made to agree.

`read` and `write` run a plain function on a SQLAlchemy connection, so that every query and every verb is written once
and reads top to bottom. When the database cannot answer they raise StoreUnavailable, and nothing has happened.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, StaticPool

from config.clock import Clock
from store.checkpoints import LONGEST_LOG_PAGES, Checkpoints

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

BUSY_TIMEOUT_MS = 10_000
"""How long a write waits for the locks of another process: longer than any batch, shorter than a client's patience."""


READERS, WRITERS = 10, 6
"""Connections of one process to PostgreSQL, at most: six processes together stay below the usual 100 of a server. The
ledger writes with one of them at a time; what else is written is rare.
"""

IDLE_S = 1.0
"""After this long without use a connection to a server is tried before it is trusted: a firewall may have cut it."""


def shown(url: sa.URL) -> str:
    """The address of a database without what may be secret in it."""
    return url.set(query={}).render_as_string(hide_password=True)


class StoreUnavailable(Exception):
    """The database cannot answer. Requests are refused with 503; nothing was forwarded or charged."""


class AlreadyExists(Exception):
    """Another process created the same thing at the same moment; ask again and find it."""


class Database:
    """One database, for one process."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._clock = clock
        self._writer: SqliteWriter | PostgresWriter
        if sa.make_url(url).get_backend_name() == "sqlite":
            self._reader, self._writer = _sqlite_reader(url), SqliteWriter(url)
        else:
            # SQLite reads from one snapshot anyway; elsewhere each statement would see what was committed meanwhile.
            self._reader = _postgres_engine(url, READERS).execution_options(isolation_level="REPEATABLE READ")
            self._writer = PostgresWriter(url)

    @property
    def url(self) -> str:
        """For people: without the password, and without a query, in which it may stand as well."""
        return shown(self._reader.url)

    def now(self, connection: Connection) -> datetime:
        """The moment that decides windows: the database's where nodes share one, so that skewed nodes agree."""
        if connection.dialect.name == "sqlite":
            return self._clock()
        moment = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
        assert isinstance(moment, datetime), "clock_timestamp is a timestamp"
        return moment.astimezone(UTC)

    async def read(
        self,
        query: Callable[Concatenate[Connection, Arguments], Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """The result of a query on one consistent snapshot."""
        try:
            async with self._reader.connect() as connection:
                return await connection.run_sync(query, *args, **kwargs)
        except (DBAPIError, PoolTimeout, OSError) as error:
            raise _translated(error) from error

    async def write(
        self,
        change: Callable[Concatenate[Connection, Arguments], Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """The result of a change, after it is durable. Either all of it has happened or nothing."""
        try:
            return await self._writer.run(lambda connection: change(connection, *args, **kwargs))
        except (DBAPIError, PoolTimeout, OSError) as error:
            raise _translated(error) from error

    async def close(self) -> None:
        await self._writer.close()
        await self._reader.dispose()


class SqliteWriter:
    """The one writing connection of a process, in a thread of its own.

    SQLite has one writer at a time anyway. A whole transaction crosses to the thread and back once; through the
    asyncio driver every statement would cross four times, which costs more than the statements.
    """

    def __init__(self, url: str) -> None:
        parsed = sa.make_url(url).set(drivername="sqlite")
        self._engine = sa.create_engine(
            parsed, poolclass=StaticPool, connect_args={"check_same_thread": False}, hide_parameters=True
        )
        prepare_sqlite(self._engine, begin=IMMEDIATE)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite writer")
        self._checkpoints = Checkpoints(str(parsed.database))

    async def run(self, change: Callable[[Connection], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, change)

    def _transact(self, change: Callable[[Connection], Result]) -> Result:
        with self._engine.begin() as connection:
            result = change(connection)
        self._checkpoints.wanted()
        return result

    async def close(self) -> None:
        self._thread.shutdown(wait=True)
        self._checkpoints.close()
        self._engine.dispose()


class PostgresWriter:
    """The connections that change something. What has an index is found by it.

    A server keeps the plan of a statement, also one it made for a table that was empty: to read all of it. Until
    statistics come, a new installation would become slower with each request of its first busy minute.
    """

    def __init__(self, url: str) -> None:
        self._engine = _postgres_engine(url, WRITERS, enable_seqscan="off", jit="off")

    async def run(self, change: Callable[[Connection], Result]) -> Result:
        async with self._engine.begin() as connection:
            return await connection.run_sync(change)

    async def close(self) -> None:
        await self._engine.dispose()


def _translated(error: Exception) -> Exception:
    """Trouble with the database, as opposed to a statement that is wrong, is StoreUnavailable."""
    if isinstance(error, IntegrityError):
        return AlreadyExists(_first_line(error)) if _is_duplicate(error) else error
    if isinstance(error, DBAPIError) and _is_our_mistake(error) and not error.connection_invalidated:
        return error
    return StoreUnavailable(_first_line(error))


def _is_duplicate(error: IntegrityError) -> bool:
    """Whether the row is there already, as opposed to one that breaks a rule of the schema."""
    if getattr(error.orig, "sqlstate", None) == _UNIQUE_VIOLATION:
        return True
    return getattr(error.orig, "sqlite_errorname", "") in ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY")


def _is_our_mistake(error: DBAPIError) -> bool:
    if isinstance(error, ProgrammingError | DataError | NotSupportedError):
        return True
    return (getattr(error.orig, "sqlstate", None) or "").startswith(_DATA_EXCEPTIONS)


_UNIQUE_VIOLATION, _DATA_EXCEPTIONS = "23505", "22"
"""PostgreSQL, Appendix A: an error's code, and a class of them that asyncpg gives no class of its own."""


def _first_line(error: Exception) -> str:
    origin = getattr(error, "orig", None) or error
    return (str(origin).splitlines() or [type(origin).__name__])[0]


def _postgres_engine(url: str, connections: int, **settings: str) -> AsyncEngine:
    # PostgreSQL would wait for a lock for ever.
    settings |= {"lock_timeout": str(BUSY_TIMEOUT_MS)}
    size = {"pool_size": connections, "max_overflow": 0, "pool_timeout": 5}
    engine = create_async_engine(url, **size, connect_args={"server_settings": settings}, hide_parameters=True)
    _ping_after_idling(engine.sync_engine)
    return engine


def _sqlite_reader(url: str) -> AsyncEngine:
    engine = create_async_engine(url, pool_size=8, max_overflow=0, pool_timeout=5, hide_parameters=True)
    prepare_sqlite(engine.sync_engine, begin="BEGIN")
    return engine


def _ping_after_idling(engine: Engine) -> None:
    """Ask a connection that was left alone whether it is still there, before anything depends on it.

    SQLAlchemy's `pool_pre_ping` asks every time, which on PostgreSQL are three round trips more for each transaction.
    One that breaks while it is busy is noticed by who uses it, and takes its whole pool with it.
    """

    def returned(_connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["idle_since"] = time.monotonic()

    def taken(connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
        if connection.driver_connection.is_closed():
            raise DisconnectionError
        if time.monotonic() - record.info.get("idle_since", math.inf) > IDLE_S:
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error as error:
                raise DisconnectionError from error

    event.listen(engine, "checkin", returned)
    event.listen(engine, "checkout", taken)


def prepare_sqlite(engine: Engine, begin: str, *, foreign_keys: bool = True) -> None:
    """`begin` is IMMEDIATE for writers: one that began as a reader cannot be upgraded while another commits.

    Without `foreign_keys` a table can be made anew while others refer to it.
    """

    def set_pragmas(connection: Any, _record: object) -> None:
        # Python's driver would begin transactions by itself and late; SQLAlchemy's "begin" event does it instead.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (f"busy_timeout = {BUSY_TIMEOUT_MS}", *_PRAGMAS, f"foreign_keys = {int(foreign_keys)}"):
            cursor.execute(f"PRAGMA {pragma}")
        if begin == IMMEDIATE:
            _keep_a_log(cursor)
        cursor.close()

    event.listen(engine, "connect", set_pragmas)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))


def _keep_a_log(cursor: sqlite3.Cursor) -> None:
    """A property of the file, and so the work of whoever writes it first. It needs the file for itself for a moment,
    for which SQLite does not wait: processes that start together on a new file would fail.
    """
    until = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


IMMEDIATE = "BEGIN IMMEDIATE"
_PRAGMAS = (
    # FULL: a commit that was answered survives a power cut, not only a crash of the process.
    "synchronous = FULL",
    f"wal_autocheckpoint = {LONGEST_LOG_PAGES}",
    # A statement that writes many rows keeps what it needs to undo itself; in memory, instead of in a file each time.
    "temp_store = MEMORY",
    # KiB: the pages that a million accounts are found by. Memory is taken as it is needed.
    "cache_size = -8192",
)

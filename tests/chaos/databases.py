"""The databases under chaos, and what can happen to them beside the processes that use them.

Each fault is a context: within it nothing can be relied upon, afterwards everything works again, by itself.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import asyncpg

from tests.postgres import PostgresServer

LOCK_WAIT_S = 30
"""How long we ourselves wait for the lock of a busy SQLite file."""

FILE_BYTES = 2**15
"""Where files of processes end whose disk is full: no database fits, and a commit may be cut in its middle."""

FILESYSTEM_BYTES = 64 * 2**20
"""Of the small disk: more than a run ever writes, until something else fills it."""


class SqliteFile:
    """A file, which another process may lock, and whose disk may be full."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "farebox.db"
        self.url = f"sqlite+aiosqlite:///{self.path}"

    async def opened_by(self, pid: int) -> bool:
        """Whether a process has the file open."""
        return str(self.path) in _open_files(pid)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Another process holds the lock for writing, as a careless script does."""
        connection = sqlite3.connect(self.path, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False)
        try:
            await asyncio.to_thread(connection.execute, "BEGIN EXCLUSIVE")
            yield
            connection.execute("ROLLBACK")
        finally:
            connection.close()


def _open_files(pid: int) -> set[str]:
    """What the descriptors of a process lead to (proc_pid_fd(5)); nothing of one that is gone."""
    found = set()
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found.add(os.readlink(link))
    return found


@contextmanager
def full_files(pids: Callable[[], Iterable[int]]) -> Iterator[None]:
    """No file of these processes may be long: what a quota of the file system looks like to them."""
    for pid in pids():
        _limit_files(pid, FILE_BYTES)
    try:
        yield
    finally:
        for pid in pids():
            _limit_files(pid, resource.RLIM_INFINITY)


def _limit_files(pid: int, limit: int) -> None:
    with suppress(ProcessLookupError):
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, hard))


class SmallDisk:
    """A file system of its own in memory, which can be filled to the last byte. Only root may mount one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    @classmethod
    @contextmanager
    def mounted(cls, folder: Path) -> Iterator[SmallDisk]:
        """Raises PermissionError where that is so. What is on it stays in the folder when it is gone."""
        folder.mkdir()
        libc = ctypes.CDLL(None, use_errno=True)
        where = os.fsencode(folder)
        if libc.mount(b"tmpfs", where, b"tmpfs", 0, b"size=%d" % FILESYSTEM_BYTES):
            raise PermissionError(f"cannot mount a small disk: {os.strerror(ctypes.get_errno())}")
        try:
            yield cls(folder)
        finally:
            kept = {file.name: file.read_bytes() for file in folder.iterdir()}
            # Lazily: a process that is being killed may still have a file open.
            libc.umount2(where, 2)
            for name, content in kept.items():
                (folder / name).write_bytes(content)

    @contextmanager
    def full(self) -> Iterator[None]:
        """No byte is left, whoever wants to write."""
        with self._filler.open("wb", buffering=0) as filler:
            for size in (2**16, 1):
                with suppress(OSError):
                    while filler.write(bytes(size)) == size:
                        pass
        try:
            yield
        finally:
            self._filler.unlink()


class Postgres:
    """A server that can be killed, or shut down, and started again."""

    def __init__(self) -> None:
        self._server = PostgresServer(durable=True)
        self._server.execute("CREATE DATABASE farebox")
        self.url = self._server.url("farebox")

    async def opened_by(self, _pid: int) -> bool:
        """Whether somebody is connected: while nothing else runs, it is the process in question."""
        connection = await asyncpg.connect(host=str(self._server.directory), user="farebox", database="postgres")
        try:
            return bool(await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname = 'farebox'"))
        finally:
            await connection.close()

    @asynccontextmanager
    async def killed(self) -> AsyncIterator[None]:
        await asyncio.to_thread(self._server.kill)
        yield
        await asyncio.to_thread(self._server.start)

    @asynccontextmanager
    async def shut_down(self) -> AsyncIterator[None]:
        await asyncio.to_thread(self._server.shut_down)
        yield
        await asyncio.to_thread(self._server.start)

    def stop(self) -> None:
        self._server.stop()

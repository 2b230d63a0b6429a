"""Checkpoints of SQLite's write-ahead log, in a thread of their own: no commit waits for one.

SQLite moves what was committed from the log into the database file now and then; left alone, it does so within the
commit that finds the log long, and that one request waits for thousands of pages. Here the log is emptied in short
intervals by another connection. It is a PASSIVE checkpoint, which waits for nobody and keeps nobody waiting
(https://www.sqlite.org/pragma.html#pragma_wal_checkpoint). Nothing depends on it: a log that grows all the same is
emptied by a commit, as ever, and one that a crash has left is read at the next start.
"""

from __future__ import annotations

import sqlite3
import threading

PAUSE_S = 0.2
"""Between two checkpoints: some hundred pages under load, a few milliseconds of work for the disk."""

LONGEST_LOG_PAGES = 16_384
"""64 MiB: with a log of this length a commit empties it itself: a bound for when this thread cannot follow."""


class Checkpoints:
    """Of one database file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sqlite checkpoints", daemon=True)
        self._thread.start()

    def wanted(self) -> None:
        """Something was committed."""
        self._wanted.set()

    def close(self) -> None:
        self._closing.set()
        self._wanted.set()
        self._thread.join()

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        # Asked anew each time: `close` may come between the pause and the clearing, which then clears its call as well.
        while not self._closing.is_set():
            self._wanted.wait()
            if self._closing.wait(PAUSE_S):
                break
            self._wanted.clear()
            try:
                connection = connection or sqlite3.connect(self._path, isolation_level=None)
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            except sqlite3.Error:
                # Busy, or a full disk: the next commit will say so where it matters.
                continue
        if connection is not None:
            connection.close()

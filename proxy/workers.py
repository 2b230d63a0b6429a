"""The further serving processes of a node, as its main process knows them.

`proxy.serving` tells which there are, `proxy.watching` has them read the policy. What a worker has is what it says in
the store, as for `policy nodes`.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from store import policy_history
from store.engine import Database


def node_of(pid: int) -> str:
    """The name by which a process of this machine goes in the store."""
    return f"{socket.gethostname()}:{pid}"


@dataclass(slots=True)
class Workers:
    """Those that run, with the moments at which they were started; none in the workers themselves."""

    _started: dict[int, datetime] = field(default_factory=dict)

    def started(self, pid: int, now: datetime) -> None:
        self._started[pid] = now

    def ended(self, pid: int) -> None:
        self._started.pop(pid, None)

    @property
    def pids(self) -> set[int]:
        return set(self._started)

    async def said(self, database: Database) -> dict[int, str]:
        """The revision that each worker has, of those that have said something since their start."""
        rows = {row["node"]: row for row in await database.read(policy_history.nodes)}
        told: dict[int, str] = {}
        for pid, started in self._started.items():
            row = rows.get(node_of(pid))
            # An earlier process may have had the same number.
            if row is not None and row["seen_at"] >= started:
                told[pid] = row["revision"]
        return told

    def ask(self, pid: int) -> None:
        """Have a worker that is up read its policy. One that is not would be ended by this."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGHUP)

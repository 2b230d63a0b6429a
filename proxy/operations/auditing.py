"""Changes with their entries in the audit log: one is written before a change is made, its result when that is known.

Every operator verb that changes something comes through here (`Operation.perform`), and so do the commands that are no
verbs: seeds, migrations, jobs on demand. A store that cannot take the entry cannot take the change either, so nothing
is begun that would leave no trace.
"""

from __future__ import annotations

import getpass
import logging
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from proxy.operations.authority import MASKED
from store import audit
from store.audit import Act, Outcome, Result
from store.engine import StoreUnavailable
from store.opening import Store

log = logging.getLogger(__name__)


@dataclass
class Entry:
    """An entry that is open; whoever makes the change says what came of it. `moved_before` are micro-credits that the
    same actor has moved in the day before, where the act moves any.
    """

    moved_before: int = 0
    result: Result = field(default_factory=lambda: Result(Outcome.DONE))


@asynccontextmanager
async def audited(store: Store, act: Act) -> AsyncIterator[Entry]:
    """The entry of a change that is made inside. A fault is the result of an entry, and goes on its way."""
    begun = await store.database.write(audit.begin, act, store.clock())
    number, entry = begun.number, Entry(begun.moved_before)
    try:
        yield entry
    except Exception as error:
        # Its name alone: what a fault says may quote what must be masked, and is in the log.
        await _end(store, number, Result(Outcome.FAILED, type(error).__name__))
        raise
    await _end(store, number, entry.result)


async def _end(store: Store, number: int, result: Result) -> None:
    try:
        await store.database.write(audit.end, number, result, store.clock())
    except StoreUnavailable as error:
        # The change is made, or has failed, all the same: who asked for it is told that and not of this.
        log.error("the result of entry %d of the audit log could not be written down, %s: %s", number, result, error)


def masked(arguments: Mapping[str, Any], hidden: tuple[str, ...]) -> dict[str, Any]:
    """Arguments without the values that nobody needs to read again."""
    return {name: MASKED if name in hidden else value for name, value in arguments.items()}


def command_line() -> str:
    """Where a command is given: the user of the system and the machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # A container whose user has a number and no name.
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"

"""Drops the entries of the audit log that are older than `retention.audit`, the only thing that ever takes one away.

Entries go by whole months, so that a report on a month finds all of it or nothing.
"""

from __future__ import annotations

from jobs.archive_usage import months_before
from jobs.turns import Turn
from store import audit
from store.opening import Store

BATCH = 1_000
"""Entries in one transaction, so that no request waits for more than milliseconds."""


async def audit_housekeeping(store: Store, turn: Turn, months: int | None) -> dict[str, int]:
    """Drop what is older than so many complete months; None keeps everything."""
    dropped = 0
    if months is not None:
        now = await store.database.read(store.database.now)
        until = months_before(now, months)
        while count := await store.database.write(audit.drop_before, until, BATCH, now):
            dropped += count
            if not await turn.goes_on():
                break
    return {"entries_dropped": dropped}

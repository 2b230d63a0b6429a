"""Forgets idempotency keys that have expired, with the answers that were kept for them. Nobody waits for it: a key that
has expired counts as unused from that moment on.
"""

from __future__ import annotations

from jobs.pacing import unhurried
from jobs.turns import Turn
from store import idempotency
from store.opening import Store

BATCH = 200
"""Keys deleted at once: with their answers at most some ten megabytes, and a short transaction."""


async def forget_keys(store: Store, turn: Turn) -> dict[str, int]:
    """Delete everything that has expired, batch by batch."""
    now = await store.database.read(store.database.now)
    forgotten = 0
    while count := await unhurried(store.database.write(idempotency.forget_expired, now, BATCH)):
        forgotten += count
        if not await turn.goes_on():
            break
    return {"keys_forgotten": forgotten}

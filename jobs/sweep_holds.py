"""Ends the holds whose deadline has passed, each by its own rule: of requests whose process died, of lost jobs.

Until then their amount is held and cannot be spent: the one thing that waits for this job, and the reason why it
runs at the start and every few seconds.
"""

from __future__ import annotations

from jobs.turns import Turn
from store.opening import Store


async def sweep_holds(store: Store, turn: Turn) -> dict[str, int]:
    """Resolve everything overdue. The ledger's own batches keep the requests in between from waiting."""
    now = await store.database.read(store.database.now)
    return {"holds_ended": await store.ledger.expire_overdue(now)}

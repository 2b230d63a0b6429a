"""Writes down what time has done to subscriptions: renewed, past due, lapsed, canceled.

Reading a subscription resolves it anyway (`policies.subscription`); this makes the stored rows and their history say
the same, for reports and for operators who look into the database.
"""

from __future__ import annotations

import logging

from jobs.turns import Turn
from policies.terms import AccountId
from store.engine import StoreUnavailable
from store.opening import Store
from store.subscriptions import due_accounts, store_due

BATCH = 200
"""Subscriptions looked at between two questions whether to go on: less than a second of work."""

log = logging.getLogger(__name__)


async def expire_subscriptions(store: Store, turn: Turn) -> dict[str, int]:
    """Store every subscription that lags behind; one that cannot be stored does not hold up the others."""
    # The database's moment, where it has one: a row stored early by a node whose clock runs ahead would end early
    # for all nodes.
    now = await store.database.read(store.database.now)
    stored = failed = 0
    after: AccountId | None = AccountId(0)
    while after is not None:
        due, after = await store.database.read(due_accounts, now, after, BATCH)
        for account_id in due:
            try:
                stored += bool(await store.database.write(store_due, account_id, now))
            except StoreUnavailable:
                raise
            except Exception:
                log.exception("the subscription of account %d cannot be brought up to date", account_id)
                failed += 1
        if not await turn.goes_on():
            break
    return {"subscriptions_stored": stored, "failed": failed}

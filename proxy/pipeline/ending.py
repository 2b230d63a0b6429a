"""Ending the holds of exchanges, whatever happens to the client, the store or this process. For who forwards."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from proxy.headers import HeaderList
from proxy.pipeline import settlement
from proxy.pipeline.exchange import Held
from store.engine import StoreUnavailable
from store.ids import id_text
from store.ledger import Ledger
from store.verbs import Ended, Hold, Refused, Release, Settle

log = logging.getLogger(__name__)


@asynccontextmanager
async def ended_by(ledger: Ledger, held: Held, verb: Callable[[], Settle | Release]) -> AsyncIterator[None]:
    """End the hold by `verb` when what is inside fails."""
    try:
        yield
    except Exception:
        # Before the client is told: who reads the balance then finds it as it should be.
        await outcome_of(held, ledger.end(verb()))
        raise
    except BaseException:
        # The client has left. Nothing may be awaited any more, and nobody is there to be told.
        ledger.end_soon(verb())
        raise


async def outcome_of(held: Held, ending: Awaitable[Hold | Ended | Refused]) -> HeaderList:
    """What the client is told about its hold. An answer that is there is not withheld because the store is not:
    the ledger ends the hold when it can, or its deadline does.
    """
    try:
        return settlement.headers_of(await ending) + settlement.notice_headers(held)
    except StoreUnavailable as error:
        log.error("hold %s could not be ended yet: %s", id_text(held.hold.hold_id), error)
        return settlement.reserved_headers(held)

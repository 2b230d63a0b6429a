"""The right of an exchange to go on: its hold stands, and for how long that is certain.

A hold lasts `limits.request_deadline` without a sign of life. While its exchange runs, a sign is given every quarter of
that; so a stream may take as long as it likes, and what a killed process held is free again minutes later. A sign joins
the next transaction of the ledger, and no byte waits for it.

Nobody rides on a hold that is gone. When no sign gets through, because the store is down or this process stood still,
the exchange is cut while its hold still stands, and ends it by its route's rule; when the hold turns out to have been
ended by somebody else, the exchange is cut at once. Used by `proxy.pipeline.delivery`, which ends the holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Self

from config.deadlines import EXCHANGE_SHARE
from proxy.pipeline.exchange import Held
from proxy.upstream.client import UpstreamTimeout
from store.engine import StoreUnavailable
from store.ids import id_text
from store.ledger import Ledger
from store.verbs import Extend, Hold, Outcome

SIGN_SHARE = 0.25
"""Of the deadline, between two signs of life: one may fail, and be tried again often, before the exchange is cut."""

RETRY_SHARE = 0.05
"""Of the deadline, until a sign is tried again that did not get through, or for which nothing had moved."""

log = logging.getLogger(__name__)


class Lease:
    """Of one exchange. All moments are those of the event loop, which no clock change reaches."""

    def __init__(self, ledger: Ledger, held: Held, lasts: timedelta) -> None:
        self._loop = asyncio.get_running_loop()
        self._ledger = ledger
        self._hold = held.hold
        self._route_id = held.admitted.asked.routed.route.id
        self._lasts = lasts
        self._lasts_s = lasts.total_seconds()
        # The hold was given its deadline after the question was asked, so this is on the safe side of it.
        self._until = held.asked_at + self._lasts_s * EXCHANGE_SHARE
        self._alarm: asyncio.Timeout | None = None
        self._piecewise = False
        self.moved = True
        """Whether a piece was passed on since the last sign of life; set by who passes it on."""
        self._timer = self._loop.call_at(held.asked_at + self._lasts_s * SIGN_SHARE, self._sign)
        self._failing = self._over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """The exchange has ended its hold, or has handed it to a job."""
        self._over = True
        self._timer.cancel()

    @asynccontextmanager
    async def in_time(self, *, piecewise: bool = False) -> AsyncIterator[None]:
        """UpstreamTimeout when what is inside outlasts the certainty that the hold stands.

        `piecewise` is for passing an answer on: there only pieces are signs of life. Whatever a backend may do is
        bounded by its own time-outs, but a client that takes nothing could keep an exchange for ever.
        """
        self._piecewise, self.moved = piecewise, True
        try:
            async with asyncio.timeout_at(self._until) as self._alarm:
                yield
        except TimeoutError as error:
            raise UpstreamTimeout(f"an exchange on route {self._route_id} outlasted its hold") from error
        finally:
            self._alarm, self._piecewise = None, False

    def _sign(self) -> None:
        """Give a sign of life, if there was any."""
        if self._piecewise and not self.moved:
            self._sign_again_in(RETRY_SHARE)
            return
        self.moved = False
        asked_at = self._loop.time()
        try:
            answer = self._ledger.extend(Extend(self._hold.hold_id, self._hold.account_id, self._lasts))
        except StoreUnavailable as error:
            self._not_signed(error)
        else:
            answer.add_done_callback(lambda done: self._answered(asked_at, done))

    def _answered(self, asked_at: float, answer: asyncio.Future[Outcome]) -> None:
        error = None if answer.cancelled() else answer.exception()
        if self._over:
            return
        if answer.cancelled() or error is not None:
            self._not_signed(error)
        elif isinstance(answer.result(), Hold):
            self._failing = False
            self._stands_until(asked_at + self._lasts_s * EXCHANGE_SHARE)
            self._sign_again_in(SIGN_SHARE)
        else:
            if self._alarm is not None:
                log.warning("hold %s was ended while its request runs, which is cut", id_text(self._hold.hold_id))
            self._stands_until(self._loop.time())

    def _not_signed(self, error: BaseException | None) -> None:
        if not self._failing:
            log.warning("hold %s could not be extended: %s", id_text(self._hold.hold_id), error)
        self._failing = True
        # There was reason for this sign, and nobody has been told of it yet.
        self.moved = True
        self._sign_again_in(RETRY_SHARE)

    def _sign_again_in(self, share: float) -> None:
        self._timer = self._loop.call_later(self._lasts_s * share, self._sign)

    def _stands_until(self, moment: float) -> None:
        self._until = moment
        if self._alarm is not None and not self._alarm.expired():
            self._alarm.reschedule(moment)

"""The right of an exchange to go on: its hold stands, and for how long that is certain.

A hold lasts `limits.request_deadline` without a sign of life. While its exchange runs, a sign is given every quarter of
that; so a stream may take as long as it likes, and what a killed process held is free again minutes later. A sign joins
the next transaction of the ledger, and no byte waits for it.

Nobody rides on a hold that is gone. When no sign gets through, because the store is down or this process stood still,
the exchange is cut while its hold still stands, and ends it by its route's rule; when the hold turns out to have been
ended by somebody else, the exchange is cut at once. Used by `proxy.pipeline.delivery`, which ends the holds.

One timer looks after all exchanges of a process: most are over long before anything of this is due, and a timer for
each would cost more than they do here altogether.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from math import inf
from types import TracebackType
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

LOOK_SHARE = 0.02
"""Of the deadline, between two looks at all leases: how late a sign may be."""

log = logging.getLogger(__name__)


class Leases:
    """Of all exchanges of one process. All moments are those of the event loop, which no clock change reaches."""

    def __init__(self, ledger: Ledger, lasts: timedelta) -> None:
        self.ledger = ledger
        self.lasts = lasts
        self.lasts_s = lasts.total_seconds()
        self.soon_s = 2 * LOOK_SHARE * self.lasts_s
        """What is due within this may be due before the next look."""
        self._running: set[Lease] = set()
        self._timer: asyncio.TimerHandle | None = None

    def of(self, held: Held) -> Lease:
        """For an exchange to run in."""
        return Lease(self, held)

    def begin(self, lease: Lease) -> None:
        self._running.add(lease)
        if self._timer is None:
            self._look_again()

    def end(self, lease: Lease) -> None:
        self._running.discard(lease)

    def _look_again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_SHARE * self.lasts_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._running:
            self._look_again()
        for lease in list(self._running):
            lease.look()


class Lease:
    """Of one exchange. Use it in `with`: in the end the exchange has ended its hold, or has handed it to a job."""

    __slots__ = (
        *("_alarm", "_failing", "_hold", "_leases", "_loop", "_over", "_piecewise", "_route_id", "_sign_at", "_until"),
        "moved",
    )

    def __init__(self, leases: Leases, held: Held) -> None:
        self._loop = asyncio.get_running_loop()
        self._leases = leases
        self._hold = held.hold
        self._route_id = held.admitted.asked.routed.route.id
        # The hold was given its deadline after the question was asked, so this is on the safe side of it.
        self._until = held.asked_at + leases.lasts_s * EXCHANGE_SHARE
        self._sign_at = held.asked_at + leases.lasts_s * SIGN_SHARE
        self._alarm: asyncio.Timeout | None = None
        self._piecewise = self._failing = self._over = False
        self.moved = True
        """Whether a piece was passed on since the last sign of life; set by who passes it on."""

    def __enter__(self) -> Self:
        self._leases.begin(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._leases.end(self)

    def in_time(self, *, piecewise: bool = False) -> InTime:
        """For what must not outlast the certainty that the hold stands.

        `piecewise` is for passing an answer on: there only pieces are signs of life. Whatever a backend may do is
        bounded by its own time-outs, but a client that takes nothing could keep an exchange for ever.
        """
        return InTime(self, piecewise)

    async def enter(self, piecewise: bool) -> None:
        self._piecewise, self.moved = piecewise, True
        # What is far away is left to a later look.
        is_soon = self._until - self._loop.time() < self._leases.soon_s
        self._alarm = asyncio.Timeout(self._until if is_soon else None)
        await self._alarm.__aenter__()

    async def leave(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        alarm, self._alarm, self._piecewise = self._alarm, None, False
        assert alarm is not None, "entered before"
        try:
            await alarm.__aexit__(kind, error, trace)
        except TimeoutError as late:
            raise UpstreamTimeout(f"an exchange on route {self._route_id} outlasted its hold") from late

    def look(self) -> None:
        """Do what is due, or is before the next look."""
        now = self._loop.time()
        if self._until - now < self._leases.soon_s:
            self._set_alarm()
        if now >= self._sign_at:
            self._sign(now)

    def _sign(self, now: float) -> None:
        """Give a sign of life, if there was any."""
        if self._piecewise and not self.moved:
            self._sign_again_in(RETRY_SHARE)
            return
        self.moved = False
        self._sign_at = inf
        try:
            lasts = self._leases.lasts
            answer = self._leases.ledger.extend(Extend(self._hold.hold_id, self._hold.account_id, lasts))
        except StoreUnavailable as error:
            self._not_signed(error)
        else:
            answer.add_done_callback(lambda done: self._answered(now, done))

    def _answered(self, asked_at: float, answer: asyncio.Future[Outcome]) -> None:
        error = None if answer.cancelled() else answer.exception()
        if self._over:
            return
        if answer.cancelled() or error is not None:
            self._not_signed(error)
        elif isinstance(answer.result(), Hold):
            self._failing = False
            self._until = asked_at + self._leases.lasts_s * EXCHANGE_SHARE
            self._sign_again_in(SIGN_SHARE)
            self._set_alarm()
        else:
            if self._alarm is not None:
                log.warning("hold %s was ended while its request runs, which is cut", id_text(self._hold.hold_id))
            self._until = self._loop.time()
            self._set_alarm()

    def _not_signed(self, error: BaseException | None) -> None:
        if not self._failing:
            log.warning("hold %s could not be extended: %s", id_text(self._hold.hold_id), error)
        self._failing = True
        # There was reason for this sign, and nobody has been told of it yet.
        self.moved = True
        self._sign_again_in(RETRY_SHARE)

    def _sign_again_in(self, share: float) -> None:
        self._sign_at = self._loop.time() + self._leases.lasts_s * share

    def _set_alarm(self) -> None:
        if self._alarm is not None and not self._alarm.expired():
            self._alarm.reschedule(self._until)


class InTime:
    """`Lease.in_time`: UpstreamTimeout when what is inside takes too long."""

    __slots__ = ("_lease", "_piecewise")

    def __init__(self, lease: Lease, piecewise: bool) -> None:
        self._lease = lease
        self._piecewise = piecewise

    async def __aenter__(self) -> None:
        await self._lease.enter(self._piecewise)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._lease.leave(kind, error, trace)

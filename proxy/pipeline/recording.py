"""Step 8: what is written down about a request beside the ledger: counters and one log line. Never a secret.

Recording fails open: a request is never refused because it could not be counted.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from policies.refusals import Refusal
from proxy.metrics import Metrics
from proxy.noise import STRANGERS, TROUBLES, Noise
from proxy.pipeline.exchange import Held
from store.verbs import Ended, Refused

log = logging.getLogger("farebox.requests")

CLIENT_LEFT = 499
"""What proxies commonly write down for an answer that nobody waited for."""


class Recorder:
    """Counts and logs the requests of one process."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._noise = Noise(logging.INFO, STRANGERS)
        self._troubles = Noise(logging.WARNING, TROUBLES)

    def close(self) -> None:
        """Farebox stops: what was only counted is told."""
        self._noise.tell()
        self._troubles.tell()

    def answered(self, request_id: str, route_id: str | None, method: str, status: int) -> None:
        self._metrics.request(route_id, "forwarded", status)
        log.info("%s %s route=%s status=%d", request_id, method, route_id, status)

    def refused(
        self, request_id: str, route_id: str | None, method: str, refusal: Refusal, status: int, noise: str | None
    ) -> None:
        """`noise` is the source of a request of which nobody knows whose it is."""
        self._metrics.request(route_id, refusal.reason, status)
        if noise is None or self._noise.is_told(noise):
            log.info("%s %s route=%s status=%d refused=%s", request_id, method, route_id, status, refusal.reason)

    def abandoned(self, request_id: str, route_id: str | None, method: str, noise: str) -> None:
        """The client has left before its answer began; `noise` is where it came from."""
        self._metrics.request(route_id, "abandoned", CLIENT_LEFT)
        if self._noise.is_told(noise):
            log.info("%s %s route=%s abandoned", request_id, method, route_id)

    def troubled(self, level: int, trouble: str) -> None:
        """A backend or the store has failed a request, as it may fail all of them."""
        if self._troubles.is_told(trouble):
            log.log(level, "%s", trouble)

    def managed(self, request_id: str, endpoint: str, status: int, noise: str | None) -> None:
        """A request for Farebox itself was answered; `noise` is the source of one that anybody could have sent."""
        self._metrics.request("management", "answered", status)
        if noise is None or self._noise.is_told(noise):
            log.info("%s %s status=%d", request_id, endpoint, status)

    def noticed(self, held: Held) -> None:
        """What entries of the policy that are not enforced would have done to a call that was let through."""
        request_id, admitted = held.admitted.asked.routed.incoming.id_text, held.admitted
        told = [(notice.rule, notice.mode) for notice in admitted.allow.notices]
        told += [(entry.id, entry.mode) for entry in admitted.passing.exceeded]
        for rule, mode in told:
            self._metrics.noticed(rule, mode)
            log.info("%s policy %s would have stopped or changed this call: rule=%s", request_id, mode, rule)

    def reserving(self, seconds: float) -> None:
        """The ledger has answered a reservation, in whichever way."""
        self._metrics.reserved(seconds)

    def upstream_answered(self, route_id: str, seconds: float) -> None:
        """The head of a backend's answer is there."""
        self._metrics.upstream_answered(route_id, seconds)

    @asynccontextmanager
    async def streaming(self) -> AsyncIterator[None]:
        """While an answer is being relayed piece by piece."""
        self._metrics.stream_opened()
        try:
            yield
        finally:
            self._metrics.stream_closed()

    def settled(self, held: Held, outcome: Ended | Refused) -> None:
        """A hold ended with an answer."""
        if isinstance(outcome, Refused):
            log.error("hold %s could not be settled: %s", held.hold.hold_id, outcome)

"""Who is connected: how many connections clients have, from where, and how slowly they use them.

Farebox can be kept busy without being asked anything: by connections that say nothing, by headers that never end, by
answers that nobody takes. Each of them is cheap to hold and takes a descriptor, so all of them are looked at, several
times within the shortest of the bounds in `limits` and `connections`:

| a connection that                                    | is                                                        |
|------------------------------------------------------|-----------------------------------------------------------|
| is one more than there may be, of a source or in all | let in for the one that is idle longest; refused if none is |
| has not said a whole head in time                    | answered with 408, or closed when it said nothing at all  |
| takes too little of what waits for it                | cut                                                       |

A connection with a request whose answer nobody waits for, because the backend is silent, is the backend's matter. The
listener calls this; it knows no HTTP beyond that, and decides about no request.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from config.settings import FareboxSettings
from policies.refusals import Reason, Refusal, request_timeout
from proxy.chain import canonical
from proxy.identity.credentials import is_in
from proxy.identity.failures import source_of
from proxy.metrics import Metrics

log = logging.getLogger(__name__)

LOOKS = 4
"""Within the shortest bound: so much of it may be added to a bound by the time between two looks."""

LONGEST_S = 1.0
"""Between two looks, however long the bounds are. A look at ten thousand connections takes some milliseconds."""

SHARE = 16
"""The part of the idle connections that is given up at a time: to look for one takes as long as for many."""

TURNED_AWAY = 64
"""Connections that may wait to be told why they are refused. Beyond them they end at once, without a word."""

TURNED_AWAY_S = 1.0
"""How long one of them has to say something, for an answer: it would be lost before that (RFC 9112 §9.6)."""

FILES = 200
"""Open files beside those of exchanges: database, log, listeners, the keys of issuers, connections kept to backends."""

_ACKNOWLEDGED = struct.Struct("=120xQ")
"""The place of `tcpi_bytes_acked` in the answer to TCP_INFO (tcp(7), linux/tcp.h)."""

AGAIN_S = 1
"""When whoever is refused may try again: connections end all the time."""


@dataclass(slots=True)
class Taking:
    """An answer that waits for its client: what the client has acknowledged at the last look, and the patience left."""

    acknowledged: int
    left_s: float


class Client(Protocol):
    """One connection, as the listener has it. Moments are by the clock of the loop."""

    transport_to: asyncio.Transport
    source: str | None
    """Where it comes from; None for a trusted one."""
    refusal: Refusal | None
    """Why it is turned away, if it is."""
    head_since: float | None
    """When the first byte of a head came that is not complete."""
    taking: Taking | None

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request, or for the rest of its head, and its client has taken all answers."""

    @property
    def idle_since(self) -> float:
        """When it came, or when its last answer was over."""

    @property
    def has_asked(self) -> bool:
        """Whether there was a request on it yet."""

    def refuse(self, refusal: Refusal) -> None:
        """Answer this in place of a request, and close."""


class Clients:
    """The connections of one process."""

    def __init__(self, settings: FareboxSettings, metrics: Metrics) -> None:
        limits, identity = settings.limits, settings.identity
        self._settings = settings.connections
        self._most = min(self._settings.most, affordable())
        self._trusted = [*self._settings.trusted, *settings.proxies.peers]
        self._trusted += identity.trusted_header.peers if identity.trusted_header is not None else []
        self._headers_s = limits.headers_timeout.total_seconds()
        self._answer_s = limits.answer_timeout.total_seconds()
        self._slowest = limits.slowest
        self._pause_s = min(self._headers_s / LOOKS, self._answer_s / LOOKS, LONGEST_S)
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._looked_at = self._loop.time()
        self._open: dict[Client, None] = {}
        self._by_source: dict[str, dict[Client, None]] = {}
        self._turned_away: dict[Client, None] = {}

    def __len__(self) -> int:
        """All that are open, also those that are being turned away."""
        return len(self._open) + len(self._turned_away)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """While Farebox serves, all connections are looked at again and again."""
        watching = asyncio.create_task(self._watch(), name="watch over connections")
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    def came(self, client: Client, address: str | None) -> None:
        """A connection was made; it may be refused, and another one may end for it."""
        client.source = self._source(address)
        self._metrics.client_connected()
        refusal = self._no_room(client.source)
        if refusal is not None:
            client.refusal = refusal
            self._turned_away[client] = None
            if len(self._turned_away) > TURNED_AWAY:
                self._end(client, "refused")
            return
        self._open[client] = None
        if client.source is not None:
            self._by_source.setdefault(client.source, {})[client] = None

    def left(self, client: Client) -> None:
        """A connection has ended."""
        self._metrics.client_disconnected()
        self._forget(client)

    def look(self) -> None:
        """At every connection, once."""
        now = self._loop.time()
        # While this process stood still, nobody could be given anything.
        passed_s, self._looked_at = min(now - self._looked_at, 2 * self._pause_s), now
        for client in list(self._turned_away):
            if now - client.idle_since > TURNED_AWAY_S:
                self._end(client, "refused")
        for client in list(self._open):
            if client.transport_to.get_write_buffer_size():
                self._look_at_answer(client, passed_s)
                continue
            client.taking = None
            if client.is_idle and (client.head_since is not None or not client.has_asked):
                self._look_at_head(client, now)

    # What becomes of one.

    def _look_at_head(self, client: Client, now: float) -> None:
        since = max(client.head_since or 0, client.idle_since)
        if now - since <= self._headers_s:
            return
        if client.head_since is None:
            # A browser connects ahead of its first request, and would show an answer to none.
            self._end(client, "silent")
        else:
            client.refuse(request_timeout("headers"))

    def _look_at_answer(self, client: Client, passed_s: float) -> None:
        acknowledged, taking = _acknowledged(client.transport_to), client.taking
        if taking is None or acknowledged is None:
            client.taking = None if acknowledged is None else Taking(acknowledged, self._answer_s)
            return
        earned_s = (acknowledged - taking.acknowledged) / self._slowest
        taking.left_s = min(taking.left_s - passed_s + earned_s, self._answer_s)
        taking.acknowledged = acknowledged
        if taking.left_s <= 0:
            self._end(client, "slow")

    def _end(self, client: Client, why: str) -> None:
        """At once: what is still to be sent would keep the connection for as long as its client likes."""
        self._metrics.client_cut(why)
        self._forget(client)
        client.transport_to.abort()

    def _forget(self, client: Client) -> None:
        self._turned_away.pop(client, None)
        self._open.pop(client, None)
        of_source = self._by_source.get(client.source or "")
        if of_source is not None:
            of_source.pop(client, None)
            if not of_source:
                del self._by_source[client.source or ""]

    # Who may come in.

    def _source(self, address: str | None) -> str | None:
        known = canonical(address or "")
        return None if address is None or is_in(known, self._trusted) else source_of(known)

    def _no_room(self, source: str | None) -> Refusal | None:
        of_source = self._by_source.get(source, {}) if source is not None else {}
        if len(of_source) >= self._settings.per_source and not self._make_room(of_source):
            hint = f"Use fewer connections, and each of them for many requests; try again in {AGAIN_S} s."
            error = "Too many connections from this address"
            return Refusal(Reason.TOO_MANY_CONNECTIONS, error, hint, retry_after_s=AGAIN_S)
        if len(self._open) >= self._most and not self._make_room(self._open):
            hint = f"Nothing was forwarded and nothing was charged; try again in {AGAIN_S} s."
            return Refusal(Reason.OVERLOADED, "Too many connections at the moment", hint, retry_after_s=AGAIN_S)
        return None

    def _make_room(self, among: Iterable[Client]) -> bool:
        """End idle connections (RFC 9112 §9.5), of those that never asked anything the oldest first."""
        idle = sorted((one for one in among if one.is_idle), key=lambda one: (one.has_asked, one.idle_since))
        for client in idle[: max(len(idle) // SHARE, 1)]:
            self._end(client, "replaced")
        return bool(idle)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._pause_s)
            try:
                self.look()
            except Exception:
                # Without it nothing would be bounded any more.
                log.exception("connections could not be looked at")


def affordable() -> int:
    """Connections that the system's limit on open files allows: with a request each takes two."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else max((soft - FILES) // 2, 1)


def _acknowledged(transport: asyncio.Transport) -> int | None:
    """Bytes that the client has ever taken, as far as the system tells.

    Our own books would not do: what was handed to the system may lie there for minutes, where a client is slow, and a
    client that asks on without reading would begin a new account with each request.
    """
    try:
        connection = transport.get_extra_info("socket")
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.size)
        # A system that does not count says zero, and must not cut anybody.
        return _ACKNOWLEDGED.unpack(info)[0] or None
    except (OSError, AttributeError, struct.error):
        # Not Linux, or not TCP. Answers that are paid for have the deadline of their hold.
        return None

"""Backends, as the pipeline knows them: `Upstream.send`, and what can go wrong with it. The door of this room.

When a request is sent again, and when never:

- A connection that could not be made has carried nothing: the next target is tried, with any request.
- A kept connection may have been closed by the backend meanwhile (RFC 9112 §9.3, §9.5). It is looked at before it is
  used. If the system then refuses the very first write, nothing has left, and a fresh connection is used instead.
- If it ends after the request has left and before a byte of the answer has come, the backend may have acted on it. A
  proxy must not repeat what is not idempotent (RFC 9110 §9.2.2), and who pays for an answer must not ask for two of
  them. So only a safe method that nobody pays for is sent once more, once, on a fresh connection.
- In any other case it is not: not after a first byte, not after a time-out, not on a connection that was new, and not
  when a part of a streamed body is gone.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from math import inf
from types import TracebackType
from typing import Self

from config.upstreams import Upstream as UpstreamSettings
from proxy.headers import lines_bytes, without
from proxy.upstream.answer import UpstreamAnswer
from proxy.upstream.connection import Connection
from proxy.upstream.exchange import (
    DeadConnection,
    Outgoing,
    Patience,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from proxy.upstream.health import watch
from proxy.upstream.places import Places
from proxy.upstream.standing import in_order
from proxy.upstream.target import Target

__all__ = [
    "Outgoing",
    "Upstream",
    "UpstreamAnswer",
    "UpstreamBroken",
    "UpstreamBusy",
    "UpstreamTimeout",
    "UpstreamUnreachable",
]


@dataclass(frozen=True, slots=True)
class TargetState:
    """One target at a moment, for /metrics."""

    address: str
    busy: int
    kept: int
    opened: int
    ejected: bool


class Upstream:
    """One backend, at one or several addresses. Use it in `async with`: leaving ends its connections."""

    def __init__(self, name: str, settings: UpstreamSettings, context: ssl.SSLContext | None = None) -> None:
        """`context` says whom to trust, for addresses with https."""
        self.name = name
        self.repeated = 0
        """Requests that were sent again so far."""
        self._settings = settings
        self._places = Places(
            name, settings.max_connections, settings.max_waiting, settings.queue_timeout.total_seconds()
        )
        self._targets = [
            Target(name, url, context, settings.keepalive.total_seconds(), self._places.give_back)
            for url in settings.targets
        ]
        paid = settings.paid
        self.paid = None if paid is None else (paid.header, paid.value.get_secret_value())
        """The header that tells the backend that a request is paid for, where it wants to know."""
        self._turn = 0
        self._connect_s = settings.connect_timeout.total_seconds()
        total = settings.total_timeout
        self._patience = Patience(
            settings.response_timeout.total_seconds(),
            settings.idle_timeout.total_seconds(),
            inf if total is None else total.total_seconds(),
        )
        self._set_lines = [f"{name}: {value.get_secret_value()}" for name, value in settings.headers.items()]
        own = [(name.lower(), value.get_secret_value()) for name, value in settings.headers.items()]
        # A backend that repeats what only it is told, as some do for their developers, does not tell it to clients.
        self._own = frozenset([*own, *([(self.paid[0].lower(), self.paid[1])] if self.paid is not None else [])])
        self._replaced = [*settings.headers, *(["Host"] if settings.host == "upstream" else [])]
        self._health: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        if self._settings.health is not None:
            self._health = [
                asyncio.create_task(watch(target, self.name, self._settings.health), name=f"health of {target.address}")
                for target in self._targets
            ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._health:
            task.cancel()
        await asyncio.gather(*self._health, return_exceptions=True)
        for target in self._targets:
            target.close()

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return self._places.waiting

    def states(self) -> list[TargetState]:
        now = asyncio.get_running_loop().time()
        return [
            TargetState(target.address, target.outstanding, target.kept, target.opened, target.standing.is_out(now))
            for target in self._targets
        ]

    async def send(self, outgoing: Outgoing) -> UpstreamAnswer:
        """The head of the backend's answer.

        Raises UpstreamUnreachable, UpstreamBusy, UpstreamTimeout, UpstreamBroken, or what the body raises.
        """
        try:
            # What is switched is not kept, so a kept connection would only be a risk.
            return await self._attempt(outgoing, fresh=outgoing.switches)
        except DeadConnection as dead:
            if not (dead.unsent or outgoing.repeatable):
                raise
        self.repeated += 1
        return await self._attempt(outgoing, fresh=True)

    async def _attempt(self, outgoing: Outgoing, *, fresh: bool) -> UpstreamAnswer:
        head = self._head(outgoing)
        await self._places.take()
        # Who fails here gives the place back; afterwards the target does, when the exchange is over.
        try:
            target, connection = await self._connection(fresh)
        except BaseException:
            self._places.give_back()
            raise
        answer = await connection.exchange(target.addressed(outgoing.method, head), outgoing, self._patience)
        if self._own:
            answer.headers = [header for header in answer.headers if (header[0].lower(), header[1]) not in self._own]
        return answer

    async def _connection(self, fresh: bool) -> tuple[Target, Connection]:
        """A connection, kept unless `fresh`, to the first target that can be reached."""
        targets = self._targets
        if len(targets) > 1:
            self._turn += 1
            targets = in_order(targets, self._turn, asyncio.get_running_loop().time())
        for target in targets:
            target.outstanding += 1
            try:
                kept = None if fresh else target.take_kept()
                if kept is not None:
                    return target, kept
                self._make_room()
                return target, await target.connect(self._connect_s)
            except UpstreamUnreachable as error:
                target.outstanding -= 1
                unreachable = error
            except BaseException:
                target.outstanding -= 1
                raise
        raise unreachable

    def _make_room(self) -> None:
        """For one more connection: kept ones count as well."""
        while sum(target.open for target in self._targets) >= self._settings.max_connections:
            if not any(target.give_up_one() for target in self._targets):
                return

    def _head(self, outgoing: Outgoing) -> bytes:
        """Everything of the head that is the same for every target: from the path on, without a `Host` of ours."""
        headers = outgoing.headers
        if self._replaced:
            headers = without(headers, self._replaced)
        lines = [f"{outgoing.target} HTTP/1.1", *map(": ".join, headers), *self._set_lines]
        if outgoing.length is not None:
            lines.append(f"Content-Length: {outgoing.length}")
        elif outgoing.body is not None:
            lines.append("Transfer-Encoding: chunked")
        return lines_bytes([*lines, "", ""])

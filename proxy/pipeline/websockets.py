"""Steps 5 to 7 for a WebSocket: ask the backend for it, pass its messages on, and pay for them.

| what happened                                        | the hold of the stretch is                              |
|------------------------------------------------------|---------------------------------------------------------|
| the backend did not grant the WebSocket              | released, and its answer passes as it is                |
| … and answered 2xx, as one that knows no WebSockets  | settled by the quote: it has delivered                  |
| it did, and connections are charged                  | settled before the client is told                       |
| a block of messages has passed                       | settled                                                 |
| the backend has stated a usage                       | settled by it, before the client has the whole of it    |
| the session ended with messages counted              | settled by their number                                 |
| … one of them cut                                    | … it counts, or not, by the route's `on_abort`          |
| … with an answer under way, of no known usage        | settled or released by the route's `on_abort`           |
| … and nothing has begun                              | released                                                |

A session outlives its handler for a moment: what its client has said last still reaches the backend, and is paid for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from decimal import Decimal
from typing import Any

from aiohttp import web

from config.routes import WebSocket
from config.settings import Limits
from policies.callers import Caller
from policies.refusals import Refusal
from proxy.headers import HeaderList
from proxy.pipeline import settlement
from proxy.pipeline.ending import ended_by, outcome_of
from proxy.pipeline.exchange import Held, Incoming, Measured, Routed
from proxy.pipeline.lease import Leases
from proxy.pipeline.recording import Recorder
from proxy.pipeline.relay import ClientLeft, begin, relay
from proxy.pipeline.reservation import Reserving, identify
from proxy.pipeline.stretches import MESSAGES, Stretch
from proxy.pipeline.usage import NOTHING_PASSED
from proxy.services import Services
from proxy.upstream.client import UpstreamAnswer
from proxy.websocket import handshake
from proxy.websocket.client import ClientEnd
from proxy.websocket.frames import Code
from proxy.websocket.session import Bounds, FreeTab, Session, Tab
from store.engine import StoreUnavailable
from store.ids import id_text
from store.verbs import Release, Settle

log = logging.getLogger(__name__)

Send = Callable[[Routed, Caller | None, Held | None], Awaitable[UpstreamAnswer]]

SWITCHED = 101
CLOSING_S = 5
"""How long sessions may still take once their clients were told that Farebox stops, and their handlers are gone."""


class WebSockets:
    """The WebSockets of one process."""

    def __init__(self, services: Services, recorder: Recorder, send: Send, reserve: Reserving, leases: Leases) -> None:
        self._services = services
        self._leases = leases
        self._recorder = recorder
        self._send = send
        self._reserve = reserve
        self._sessions: set[Session] = set()
        self._leaving = False
        self._running: set[asyncio.Task[None]] = set()

    def leave(self) -> None:
        """Farebox stops: clients are told to go elsewhere, each between two of its messages."""
        self._leaving = True
        for session in self._sessions:
            session.leave()

    async def close(self) -> None:
        """Wait for what is paid at this moment, though not for ever."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=CLOSING_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def unmetered(self, routed: Routed, websocket: WebSocket, caller: Caller | None) -> web.StreamResponse:
        """One that costs nothing."""
        async with await self._send(routed, caller, None) as answer:
            if answer.status != SWITCHED:
                return await relay(routed.incoming, answer, [], None)
            response, session = await self._begin(routed.incoming, answer, websocket, [], FreeTab())
            return await self._until_left(response, session, session.run())

    async def metered(self, held: Held, websocket: WebSocket) -> web.StreamResponse:
        """One that is paid for."""
        asked, ledger = held.admitted.asked, self._services.store.ledger
        routed, incoming = asked.routed, asked.routed.incoming
        with self._leases.of(held) as lease:
            async with ended_by(ledger, held, lambda: settlement.release_verb(held, "no answer")), lease.in_time():
                answer = await self._send(routed, held.admitted.caller, held)
        async with answer:
            if answer.status != SWITCHED:
                verb = self._not_granted(held, answer.status)
                return await relay(incoming, answer, await outcome_of(held, ledger.end(verb)), None)
            if websocket.charge == "connection":
                settle = self._settle(held, settlement.measure(held, (), NOTHING_PASSED, complete=True), "switched")
                headers = await outcome_of(held, ledger.end(settle))
                response, session = await self._begin(incoming, answer, websocket, headers, FreeTab())
                return await self._until_left(response, session, session.run())
            stretch = Stretch(websocket, routed.route.usage)
            async with ended_by(ledger, held, lambda: settlement.release_verb(held, "client left")):
                headers = settlement.reserved_headers(held)
                response, session = await self._begin(incoming, answer, websocket, headers, stretch)
            return await self._until_left(response, session, self._paid(held, session, stretch))

    async def _begin(
        self, incoming: Incoming, answer: UpstreamAnswer, websocket: WebSocket, headers: HeaderList, tab: Tab
    ) -> tuple[web.StreamResponse, Session]:
        """Grant the switch to the client."""
        assert answer.tunnel is not None, "an answer 101 has one"
        response = await begin(incoming, answer, headers)
        bounds = Bounds(
            websocket.max_message,
            websocket.idle_timeout.total_seconds(),
            websocket.total_timeout.total_seconds() if websocket.total_timeout is not None else None,
            self._limits.measured if websocket.charge == "usage" else 0,
        )
        client = ClientEnd(incoming.request, response)
        return response, Session(client, answer.tunnel, bounds, tab, extended=handshake.extended(answer.headers))

    async def _until_left(
        self, response: web.StreamResponse, session: Session, running: Coroutine[Any, Any, None]
    ) -> web.StreamResponse:
        """Serve a session to its end, also when its client leaves before that."""

        async def run() -> None:
            self._sessions.add(session)
            if self._leaving:
                session.leave()
            try:
                async with self._recorder.streaming():
                    await running
            finally:
                self._sessions.discard(session)

        task = asyncio.create_task(run())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            # What the client has said last still goes to the backend, and is paid for.
            await asyncio.wait([task], timeout=CLOSING_S)
            raise ClientLeft(response) from None
        finally:
            task.cancel()
        return response

    # Paying.

    async def _paid(self, held: Held, session: Session, stretch: Stretch) -> None:
        """A session whose stretches are paid for, one after the other."""
        running = asyncio.create_task(session.run())
        try:
            current: Held | None = held
            while current is not None:
                await self._stretch(current, running, stretch)
                await _either(stretch.needed, running)
                goes_on = stretch.goes_on(talking=not running.done())
                current = await self._next(held, session, stretch) if goes_on else None
            await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _stretch(self, held: Held, running: asyncio.Task[None], stretch: Stretch) -> None:
        """One stretch, from its hold to the end of its hold."""
        ledger = self._services.store.ledger
        # Places are given back with each stretch: the next one asks for its own, and a quiet connection takes none.
        with held.admitted.passing, self._leases.of(held) as lease:
            async with ended_by(ledger, held, lambda: self._verb(held, stretch)), lease.in_time():
                await _either(stretch.over, running)
            await outcome_of(held, ledger.end(self._verb(held, stretch)))
        stretch.close()

    async def _next(self, first: Held, session: Session, stretch: Stretch) -> Held | None:
        """The next stretch, paid for by the same caller as if they had come anew; None when they may not go on."""
        asked, call = first.admitted.asked, self._services.store.ids.next()
        incoming = asked.routed.incoming._replace(id=call, id_text=id_text(call), received_at=self._services.now())
        asked = replace(asked, routed=asked.routed._replace(incoming=incoming))
        try:
            outcome = await self._reserve(asked, await identify(incoming, self._services))
        except StoreUnavailable as error:
            log.error("the store cannot answer: %s", error)
            session.close(Code.INTERNAL_ERROR, "store_unavailable")
            return None
        if isinstance(outcome, Refusal):
            session.close(Code.POLICY_VIOLATION, str(outcome.reason))
            return None
        stretch.open()
        return outcome

    def _verb(self, held: Held, stretch: Stretch) -> Settle | Release:
        """How the hold of a stretch ends."""
        asked = held.admitted.asked
        if stretch.was_stated and stretch.stated is not None:
            measured = settlement.priced(held, {**asked.units, **stretch.stated})
            if stretch.is_all(measured.amount, held.hold.amount):
                return self._settle(held, measured, "answered")
        if stretch.was_stated:
            log.warning("no usable usage on route %s; the quote is charged", asked.routed.route.id)
            return self._settle(held, settlement.measure(held, (), NOTHING_PASSED, complete=False), "answered")
        rule = asked.routed.route.settings.on_abort
        messages = stretch.count if rule == "release" else stretch.count + stretch.cut
        if messages and not (rule == "quote" and stretch.cut):
            measured = settlement.priced(held, {**asked.units, MESSAGES: Decimal(messages)})
            return self._settle(held, measured, "answered")
        if stretch.busy or messages:
            measured = settlement.measure(held, (), NOTHING_PASSED, complete=False)
            latency = self._services.now() - asked.routed.incoming.received_at
            return settlement.abort_verb(held, measured, SWITCHED, latency)
        return settlement.release_verb(held, "nothing passed")

    def _not_granted(self, held: Held, status: int) -> Settle | Release:
        if not 200 <= status < 300:
            return settlement.release_verb(held, f"upstream answered {status}")
        return self._settle(held, settlement.measure(held, (), NOTHING_PASSED, complete=False), "answered", status)

    def _settle(self, held: Held, measured: Measured, reason: str, status: int = SWITCHED) -> Settle:
        latency = self._services.now() - held.admitted.asked.routed.incoming.received_at
        return settlement.settle_verb(held, measured, status, latency, reason)

    @property
    def _limits(self) -> Limits:
        return self._services.settings.values.limits


async def _either(event: asyncio.Event, running: asyncio.Task[None]) -> None:
    """Until the event, or the end of a session."""
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait([waiting, running], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()

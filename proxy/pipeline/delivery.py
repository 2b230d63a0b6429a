"""Steps 5 to 7: forward the request, measure the answer, and end the hold, exactly once.

| what happened                               | the hold is                                                 |
|---------------------------------------------|-------------------------------------------------------------|
| no answer, or one that is not 2xx           | released                                                    |
| a small answer, cut on either side          | released: nothing of it was delivered                       |
| a streamed answer, cut on either side       | settled or released by the route's `on_abort`               |
| an answer that accepts a job                | bound to the job, and left open                             |
| any other complete answer                   | settled: by its usage, or by the quote where it states none |

While an exchange runs its hold is kept open (`proxy.pipeline.lease`), so that it always ends its hold itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

from aiohttp import web

from config.jobs import Poll
from config.routes import Route
from config.settings import Limits
from policies.callers import Caller
from policies.refusals import Refusal
from proxy.callbacks import CallbackAddresses
from proxy.pace import Pace
from proxy.pipeline import forwarding, jobs, settlement
from proxy.pipeline.body import BodyCut
from proxy.pipeline.ending import ended_by, outcome_of
from proxy.pipeline.exchange import Held, Measured, Routed
from proxy.pipeline.lease import Lease, Leases
from proxy.pipeline.metering import Reader, reader_for
from proxy.pipeline.recording import Recorder
from proxy.pipeline.relay import (
    ClientLeft,
    Truncated,
    begin,
    finish,
    hear_out,
    is_small,
    pump,
    read_all,
    relay,
    write_changed,
    write_small,
)
from proxy.pipeline.reservation import Reserving
from proxy.pipeline.restating import restated
from proxy.pipeline.routing import CompiledRoute
from proxy.pipeline.websockets import WebSockets
from proxy.services import Services
from proxy.upstream.client import (
    UpstreamAnswer,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from store.engine import StoreUnavailable
from store.ledger import Ledger
from store.verbs import Ended, Hold, Refused, Release, Settle

log = logging.getLogger(__name__)

UNWATCHED_S = 30
"""How long what goes on without its client may still take after the stop signal. After that, its deadline ends it."""


class Delivery:
    """Forwards the requests of one process and brings their answers back."""

    def __init__(self, services: Services, recorder: Recorder, reserve: Reserving) -> None:
        self._services = services
        self._recorder = recorder
        self._addresses = CallbackAddresses(services.settings.values)
        self._unwatched: set[asyncio.Task[web.StreamResponse]] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._leases = Leases(services.store.ledger, services.settings.values.limits.request_deadline)
        self._websockets = WebSockets(services, recorder, self._send, reserve, self._leases)

    def leave(self) -> None:
        """Farebox stops: what would not end by itself is brought to its end."""
        self._websockets.leave()

    async def close(self) -> None:
        """Wait for what goes on without its client at this moment, though not for ever."""
        await self._websockets.close()
        for tasks in (self._unwatched, self._background):
            if tasks:
                await asyncio.wait(tasks, timeout=UNWATCHED_S)

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """For a request whose client has left, where nothing may be awaited any more."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def unmetered(self, routed: Routed, caller: Caller | None) -> web.StreamResponse | Refusal:
        """A request that costs nothing. Answers about jobs are read as they pass by."""
        if routed.websocket is not None:
            return await self._websockets.unmetered(routed, routed.websocket, caller)
        poll = routed.route.settings.poll
        if poll is None or caller is None:
            async with await self._send(routed, caller) as answer:
                return await relay(routed.incoming, answer, [], None)
        store = self._services.store
        foreign = await jobs.foreign_job(poll, routed, caller, store)
        if foreign is not None:
            return foreign
        # A client may leave with all but the end of an answer: that the job has ended is seen all the same.
        return await self._to_its_end(self._polled(routed, poll, caller, await self._send(routed, caller)))

    async def _polled(self, routed: Routed, poll: Poll, caller: Caller, answered: UpstreamAnswer) -> web.StreamResponse:
        """An answer that tells of jobs."""
        async with answered as answer:
            reader = reader_for(answer.status, answer.headers, self._limits.measured, ())
            if is_small(answer):
                # Whoever reads here that a job failed finds the refund in the balance at once.
                body = await read_all(answer, reader)
                await self._observe(poll, routed, caller, reader)
                return await write_small(routed.incoming, answer, body, [])
            try:
                response = await relay(routed.incoming, answer, [], reader)
            except ClientLeft:
                await hear_out(answer, reader, self._limits.measured)
                await self._observe(poll, routed, caller, reader)
                raise
            await self._observe(poll, routed, caller, reader)
            return response

    async def _observe(self, poll: Poll, routed: Routed, caller: Caller, reader: Reader) -> None:
        """End the jobs that an answer says have ended. What the store cannot take now, the next poll tells again."""
        try:
            account_id, documents = caller.account.account_id, reader.documents()
            await jobs.observe(poll, routed.parameters, account_id, documents, self._services.store)
        except StoreUnavailable as error:
            log.error("what an answer on route %s says of jobs is not written down yet: %s", routed.route.id, error)

    async def metered(self, held: Held) -> web.StreamResponse:
        """A request that is paid for."""
        websocket = held.admitted.asked.routed.websocket
        if websocket is not None:
            with held.admitted.passing:
                return await self._websockets.metered(held, websocket)
        settings = held.admitted.asked.routed.route.settings
        if settings.job is None and settings.on_abort != "drain" and held.keeper is None:
            return await self._leased(held)
        # A backend that accepts a job is heard to the end even when the client leaves: the job runs all the same. And
        # who sends an idempotency key, loses the connection and asks again is to find the answer. And somebody has to
        # drain what is to be drained.
        return await self._to_its_end(self._leased(held))

    async def _to_its_end(self, work: Coroutine[Any, Any, web.StreamResponse]) -> web.StreamResponse:
        """Served also when the client leaves meanwhile."""
        task = asyncio.create_task(work)
        self._unwatched.add(task)
        task.add_done_callback(self._unwatched.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_tell_the_log)
            raise

    async def _send(self, routed: Routed, caller: Caller | None, held: Held | None = None) -> UpstreamAnswer:
        """The head of an answer."""
        body, allow = (held.admitted.asked.body, held.admitted.allow) if held else (forwarding.UNREAD, None)
        started = perf_counter()
        callback = self._addresses.of(routed.route.settings, routed.incoming.id_text) if held else None
        answer = await forwarding.send(routed, body, Pace(self._limits), caller, allow, callback)
        self._recorder.upstream_answered(routed.route.id, perf_counter() - started)
        return answer

    async def _leased(self, held: Held) -> web.StreamResponse:
        """While it runs, with its client or without, the call has its places and its hold stands."""
        with held.admitted.passing, self._leases.of(held) as lease:
            return await self._metered(held, lease)

    async def _metered(self, held: Held, lease: Lease) -> web.StreamResponse:
        asked = held.admitted.asked
        async with ended_by(self._ledger, held, lambda: settlement.release_verb(held, "no answer")), lease.in_time():
            answer = await self._send(asked.routed, held.admitted.caller, held)
        async with answer:
            if not 200 <= answer.status < 300:
                return await self._failed(held, answer)
            reader = self._reader(asked.routed.route, answer)
            if held.keeper is not None:
                reader = held.keeper.watching(reader)
            return await (self._small if is_small(answer) else self._streamed)(held, answer, reader, lease)

    def _reader(self, route: CompiledRoute, answer: UpstreamAnswer) -> Reader:
        wanted = [unit.pointer for unit in route.usage if unit.pointer is not None]
        added = frozenset(unit.pointer for unit in route.usage if unit.pointer is not None and unit.source.sum)
        return reader_for(answer.status, answer.headers, self._limits.measured, wanted, added)

    async def _failed(self, held: Held, answer: UpstreamAnswer) -> web.StreamResponse:
        """A failed call costs nothing, and its answer passes as it is."""
        verb = settlement.release_verb(held, f"upstream answered {answer.status}")
        headers = await outcome_of(held, self._ledger.end(verb))
        return await relay(held.admitted.asked.routed.incoming, answer, headers, None)

    async def _small(self, held: Held, answer: UpstreamAnswer, reader: Reader, lease: Lease) -> web.StreamResponse:
        """A short answer is read, settled and then sent: its headers state the true charge, durably taken."""
        async with ended_by(self._ledger, held, lambda: settlement.release_verb(held, "answer cut")), lease.in_time():
            body = await read_all(answer, reader)
        headers = await outcome_of(held, self._end(held, answer, reader))
        routed = held.admitted.asked.routed
        changed = restated(routed, answer, body, headers) if routed.route.settings.rewrite is not None else None
        if changed is not None:
            return await write_changed(routed.incoming, answer, changed, headers)
        return await write_small(routed.incoming, answer, body, headers)

    async def _streamed(self, held: Held, answer: UpstreamAnswer, reader: Reader, lease: Lease) -> web.StreamResponse:
        """A long answer goes out as it comes in, and is settled before its end is sent."""
        incoming = held.admitted.asked.routed.incoming

        def aborted() -> Settle | Release:
            measured = self._measured(held, answer, reader.documents(), complete=False)
            return settlement.abort_verb(held, measured, answer.status, self._services.now() - incoming.received_at)

        left: ClientLeft | None = None
        async with ended_by(self._ledger, held, aborted), self._recorder.streaming():
            try:
                response = await begin(incoming, answer, settlement.reserved_headers(held))
                await pump(incoming, answer, response, reader, lease)
            except ClientLeft as error:
                left = error
                if not await self._heard_out(held.admitted.asked.routed.route.settings, answer, reader, lease):
                    raise
        await outcome_of(held, self._end(held, answer, reader))
        if left is not None:
            raise left
        await finish(response)
        return response

    async def _heard_out(self, route: Route, answer: UpstreamAnswer, reader: Reader, lease: Lease) -> bool:
        """Whether the rest of an answer was read for Farebox alone, to its end: its client has left."""
        if route.job is not None:
            async with lease.in_time():
                return await hear_out(answer, reader)
        if route.on_abort != "drain":
            return False
        try:
            async with asyncio.timeout(route.drain.time.total_seconds()), lease.in_time():
                return await hear_out(answer, reader, route.drain.size)
        except (TimeoutError, UpstreamBroken, UpstreamTimeout):
            return False

    async def _end(self, held: Held, answer: UpstreamAnswer, reader: Reader) -> Hold | Ended | Refused:
        """Settle a complete answer, or bind its hold to the job that it has accepted."""
        routed, store, now = held.admitted.asked.routed, self._services.store, self._services.now()
        documents = reader.documents()
        keeper = held.keeper if routed.route.settings.rewrite is None else None
        # What a backend says of its own billing is not for clients, and a kept answer would say it.
        kept = keeper.kept(routed.incoming.method, answer, reader) if keeper is not None else None
        if routed.route.settings.job is not None:
            job_id = jobs.accepted_job(routed.route.settings.job, documents)
            bound = await settlement.bind_job(held, job_id, documents[0], kept, store) if job_id is not None else None
            if bound is not None and bound is not Refused.JOB_TAKEN:
                return bound
            problem = "no job id" if job_id is None else "the id of a job that this does not start"
            log.warning("%s in the answer on route %s; the quote is charged", problem, routed.route.id)
        measured = self._measured(held, answer, documents, complete=True)
        latency = now - routed.incoming.received_at
        verb = settlement.settle_verb(held, measured, answer.status, latency, "answered")
        ended = await store.ledger.end(verb if kept is None else replace(verb, answer=kept))
        self._recorder.settled(held, ended)
        return ended

    def _measured(self, held: Held, answer: UpstreamAnswer, documents: Sequence[Any], *, complete: bool) -> Measured:
        seen = settlement.passed(held, answer, asyncio.get_running_loop().time())
        return settlement.measure(held, documents, seen, complete)

    @property
    def _ledger(self) -> Ledger:
        return self._services.store.ledger

    @property
    def _limits(self) -> Limits:
        return self._services.settings.values.limits


def _tell_the_log(unwatched: asyncio.Task[web.StreamResponse]) -> None:
    """What went wrong with a request whose client has left, as far as that is not all that went wrong."""
    error = None if unwatched.cancelled() else unwatched.exception()
    if isinstance(error, BodyCut | UpstreamUnreachable | UpstreamBusy | UpstreamTimeout | UpstreamBroken):
        log.warning("a request whose client has left: %s", error)
    elif error is not None and not isinstance(error, Truncated):
        log.error("a request whose client has left, failed", exc_info=error)

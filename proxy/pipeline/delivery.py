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
from time import perf_counter

from aiohttp import web

from config.routes import Poll
from config.settings import Limits
from policies.callers import Caller
from policies.refusals import Refusal
from proxy.pipeline import forwarding, jobs, settlement
from proxy.pipeline.body import BodyCut
from proxy.pipeline.ending import ended_by, outcome_of
from proxy.pipeline.exchange import Held, Routed
from proxy.pipeline.lease import Lease
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
    write_small,
)
from proxy.pipeline.reservation import Reserving
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

ACCEPTING_S = 30
"""How long a backend may still take to accept a job after the stop signal. What it takes longer has its deadline."""


class Delivery:
    """Forwards the requests of one process and brings their answers back."""

    def __init__(self, services: Services, recorder: Recorder, reserve: Reserving) -> None:
        self._services = services
        self._recorder = recorder
        self._accepting: set[asyncio.Task[web.StreamResponse]] = set()
        self._websockets = WebSockets(services, recorder, self._send, reserve)

    def leave(self) -> None:
        """Farebox stops: what would not end by itself is brought to its end."""
        self._websockets.leave()

    async def close(self) -> None:
        """Wait for the jobs that backends are accepting at this moment, though not for ever."""
        await self._websockets.close()
        if self._accepting:
            await asyncio.wait(self._accepting, timeout=ACCEPTING_S)

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
        async with await self._send(routed, caller) as answer:
            reader = reader_for(answer.status, answer.headers, self._limits.measured, ())
            if not is_small(answer):
                response = await relay(routed.incoming, answer, [], reader)
                await self._observe(poll, routed, caller, reader)
                return response
            # Whoever reads here that a job failed finds the refund in the balance at once.
            body = await read_all(answer, reader)
            await self._observe(poll, routed, caller, reader)
            return await write_small(routed.incoming, answer, body, [])

    async def _observe(self, poll: Poll, routed: Routed, caller: Caller, reader: Reader) -> None:
        """End the jobs that an answer says have ended. What the store cannot take now, the next poll tells again."""
        try:
            await jobs.observe(poll, routed, caller, reader.documents(), self._services.store)
        except StoreUnavailable as error:
            log.error("what an answer on route %s says of jobs is not written down yet: %s", routed.route.id, error)

    async def metered(self, held: Held) -> web.StreamResponse:
        """A request that is paid for."""
        websocket = held.admitted.asked.routed.websocket
        if websocket is not None:
            return await self._websockets.metered(held, websocket)
        if held.admitted.asked.routed.route.settings.job is None:
            return await self._leased(held)
        # A backend that accepts a job is heard to the end even when the client leaves: the job runs all the same.
        task = asyncio.create_task(self._leased(held))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_tell_the_log)
            raise

    async def _send(self, routed: Routed, caller: Caller | None, held: Held | None = None) -> UpstreamAnswer:
        """The head of an answer."""
        body, allow = (held.admitted.asked.body, held.admitted.allow) if held else (forwarding.UNREAD, None)
        started = perf_counter()
        answer = await forwarding.send(routed, body, self._limits.body_timeout, caller, allow)
        self._recorder.upstream_answered(routed.route.id, perf_counter() - started)
        return answer

    async def _leased(self, held: Held) -> web.StreamResponse:
        with Lease(self._ledger, held, self._limits.request_deadline) as lease:
            return await self._metered(held, lease)

    async def _metered(self, held: Held, lease: Lease) -> web.StreamResponse:
        asked = held.admitted.asked
        async with ended_by(self._ledger, held, lambda: settlement.release_verb(held, "no answer")), lease.in_time():
            answer = await self._send(asked.routed, held.admitted.caller, held)
        async with answer:
            if not 200 <= answer.status < 300:
                return await self._failed(held, answer)
            pointers = [pointer for _, pointer in asked.routed.route.usage]
            reader = reader_for(answer.status, answer.headers, self._limits.measured, pointers)
            return await (self._small if is_small(answer) else self._streamed)(held, answer, reader, lease)

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
        return await write_small(held.admitted.asked.routed.incoming, answer, body, headers)

    async def _streamed(self, held: Held, answer: UpstreamAnswer, reader: Reader, lease: Lease) -> web.StreamResponse:
        """A long answer goes out as it comes in, and is settled before its end is sent."""
        incoming = held.admitted.asked.routed.incoming

        def aborted() -> Settle | Release:
            measured = settlement.measure(held, reader.documents(), complete=False)
            return settlement.abort_verb(held, measured, answer.status, self._services.now() - incoming.received_at)

        left: ClientLeft | None = None
        async with ended_by(self._ledger, held, aborted), self._recorder.streaming():
            try:
                response = await begin(incoming, answer, settlement.reserved_headers(held))
                await pump(incoming, answer, response, reader, lease)
            except ClientLeft as error:
                if held.admitted.asked.routed.route.settings.job is None:
                    raise
                async with lease.in_time():
                    await hear_out(answer, reader)
                left = error
        await outcome_of(held, self._end(held, answer, reader))
        if left is not None:
            raise left
        await finish(response)
        return response

    async def _end(self, held: Held, answer: UpstreamAnswer, reader: Reader) -> Hold | Ended | Refused:
        """Settle a complete answer, or bind its hold to the job that it has accepted."""
        routed, store, now = held.admitted.asked.routed, self._services.store, self._services.now()
        documents = reader.documents()
        if routed.route.settings.job is not None:
            job_id = jobs.accepted_job(routed.route.settings.job, documents)
            bound = await settlement.bind_job(held, job_id, store) if job_id is not None else None
            if bound is not None and bound is not Refused.JOB_TAKEN:
                return bound
            problem = "no job id" if job_id is None else "the id of another account's job"
            log.warning("%s in the answer on route %s; the quote is charged", problem, routed.route.id)
        measured = settlement.measure(held, documents, complete=True)
        latency = now - routed.incoming.received_at
        ended = await store.ledger.end(settlement.settle_verb(held, measured, answer.status, latency, "answered"))
        self._recorder.settled(held, ended)
        return ended

    @property
    def _ledger(self) -> Ledger:
        return self._services.store.ledger

    @property
    def _limits(self) -> Limits:
        return self._services.settings.values.limits


def _tell_the_log(accepting: asyncio.Task[web.StreamResponse]) -> None:
    """What went wrong with a request for a job whose client has left, as far as that is not all that went wrong."""
    error = None if accepting.cancelled() else accepting.exception()
    if isinstance(error, BodyCut | UpstreamUnreachable | UpstreamBusy | UpstreamTimeout | UpstreamBroken):
        log.warning("a request for a job, whose client has left: %s", error)
    elif error is not None and not isinstance(error, Truncated):
        log.error("a request for a job, whose client has left, failed", exc_info=error)

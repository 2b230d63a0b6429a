"""The data plane: one request from its arrival to its record, read from top to bottom.

    receive ▶ route ▶ identify ▶ resolve ▶ evaluate and reserve ▶ forward ▶ measure ▶ settle ▶ record

Before `reserve` nothing is taken, and a refusal costs nothing. After it the hold is ended by exactly one of: the
settlement of a complete answer, the release of a failed one, the abort rule for a client that leaves, the job that
the backend has accepted, or the hold's deadline if this process dies.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from time import perf_counter

from aiohttp import web

from config.routes import Route
from policies.callers import Caller
from policies.refusals import Reason, Refusal, account_frozen, invalid_request, store_unavailable
from proxy.callbacks import Callbacks
from proxy.chain import Chain
from proxy.decision_log import Call, DecisionLog, Took
from proxy.errors import STATUS, Answer, answer_to
from proxy.identity.credentials import Shown
from proxy.identity.failures import source_of
from proxy.management.api import Management
from proxy.management.endpoint import Endpoint
from proxy.pace import Pace
from proxy.paths import Found
from proxy.pipeline import forwarding, settlement
from proxy.pipeline.body import BodyCut, read_ahead, read_fields
from proxy.pipeline.delivery import Delivery
from proxy.pipeline.exchange import Asked, Body, Held, Incoming, Routed
from proxy.pipeline.extraction import extract
from proxy.pipeline.idempotency import Keeper, claim_key, has_key, replay
from proxy.pipeline.parts import RequestParts
from proxy.pipeline.receiving import receive
from proxy.pipeline.recording import Recorder
from proxy.pipeline.relay import Truncated, write_answer
from proxy.pipeline.reservation import Reserved, ask_of, identify, reserve
from proxy.pipeline.routing import Routes
from proxy.pipeline.stretches import stretch_units
from proxy.services import Services
from proxy.sharing import Sharing, asked_for
from proxy.upstream.client import UpstreamBroken, UpstreamBusy, UpstreamTimeout, UpstreamUnreachable
from store.engine import StoreUnavailable
from store.idempotency import Used
from store.ids import id_text

BAD = min(STATUS.values())
"""The least status of a refusal."""

log = logging.getLogger(__name__)


class Pipeline:
    """Serves the requests of one process."""

    def __init__(
        self,
        services: Services,
        routes: Routes,
        management: Management,
        recorder: Recorder,
        decisions: DecisionLog,
    ) -> None:
        self._services = services
        self._routes = routes
        self._management = management
        self._recorder = recorder
        self._callbacks = Callbacks(services)
        self._chain = Chain(services.settings.values)
        self._sharing = Sharing(services.settings.values.cors)
        self._decisions = decisions
        self._delivery = Delivery(services, recorder, self._reserve)

    def leave(self) -> None:
        """The stop signal has come: what would not end by itself is brought to its end."""
        self._delivery.leave()

    async def close(self) -> None:
        await self._delivery.close()
        self._recorder.close()

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to a request. Refusals and faults become answers here; only a cancellation is raised."""
        request_id = self._services.store.ids.next()
        incoming = receive(request, request_id, self._services.now(), self._services.identifier, self._chain)
        if isinstance(incoming, Incoming):
            preflight = self._preflight(incoming)
            if preflight is not None:
                self._recorder.managed(incoming.id_text, "preflight", preflight.status, self._source(request))
                return await self._written(request, preflight, incoming.id_text)
            endpoint = self._management.find(incoming.method, incoming.target)
            if endpoint is not None:
                return await self._managed(incoming, endpoint)
            callback = self._callbacks.find(incoming.method, incoming.target)
            if callback is not None:
                return await self._called(incoming, callback)
        routed = incoming if isinstance(incoming, Refusal) else self._route(incoming)
        result: web.StreamResponse | Refusal
        try:
            result = routed if isinstance(routed, Refusal) else await self._exchange(routed)
        except asyncio.CancelledError:
            self._recorder.abandoned(id_text(request_id), _route_id(routed), request.method, self._source(request))
            raise
        except Truncated as cut:
            result = cut.response
        except BodyCut as cut:
            result = cut.refusal
        except StoreUnavailable as error:
            self._recorder.troubled(logging.ERROR, f"the store cannot answer: {error}")
            result = store_unavailable()
        except (UpstreamUnreachable, UpstreamBusy, UpstreamTimeout, UpstreamBroken) as error:
            self._recorder.troubled(logging.WARNING, str(error))
            result = forwarding.refusal_for(error)
        except Exception:
            # Our own fault: the caller learns nothing about it, the log everything.
            log.exception("request %s failed", id_text(request_id))
            result = Refusal(Reason.INTERNAL, "Internal error", "Report the request id to the operator.")
        return await self._record(request, id_text(request_id), routed, result)

    def _preflight(self, incoming: Incoming) -> Answer | None:
        """The answer to a preflight for what is served here and not open to it."""
        if incoming.method != "OPTIONS" or (method := asked_for(incoming)) is None:
            return None
        routed, own = self._routes.find(method, incoming.target), self._routes.find("OPTIONS", incoming.target)
        if isinstance(own, Found) and own.value.settings.access == "open":
            return None
        served = isinstance(routed, Found) or self._management.find(method, incoming.target) is not None
        return self._sharing.preflight(incoming) if served else None

    def _route(self, incoming: Incoming) -> Routed | Refusal:
        found = self._routes.find(incoming.method, incoming.target)
        return found if isinstance(found, Refusal) else Routed(incoming, found.value, found.parameters)

    async def _managed(self, incoming: Incoming, endpoint: Found[Endpoint]) -> web.StreamResponse:
        """A request for Farebox itself."""
        answer = await self._management.serve(endpoint, incoming.request, incoming.target, incoming.id_text)
        self._recorder.managed(incoming.id_text, endpoint.value.name, answer.status, self._noise_of(incoming, answer))
        return await self._written(incoming.request, answer, incoming.id_text)

    async def _called(self, incoming: Incoming, callback: Found[Route]) -> web.StreamResponse:
        """A backend that tells how a job ended."""
        answer = await self._callbacks.serve(callback, incoming)
        name = f"callback {callback.value.id}"
        self._recorder.managed(incoming.id_text, name, answer.status, self._noise_of(incoming, answer))
        return await self._written(incoming.request, answer, incoming.id_text)

    async def _exchange(self, routed: Routed) -> web.StreamResponse | Refusal:
        """Every step of a request whose route is known."""
        access = routed.route.settings.access
        if access == "open":
            return await self._delivery.unmetered(routed, None)
        caller = await identify(routed.incoming, self._services)
        if isinstance(caller, Refusal):
            return caller
        if access == "account":
            return account_frozen() if caller.account.frozen else await self._delivery.unmetered(routed, caller)
        keyed = has_key(routed.incoming) and routed.websocket is None
        asked = await self._resolve(routed, keyed)
        if isinstance(asked, Refusal):
            return asked
        keeper = await claim_key(asked, caller, self._services) if keyed else None
        if isinstance(keeper, Refusal):
            return keeper
        if isinstance(keeper, Used):
            return await replay(routed.incoming, keeper)
        held = await (self._reserve(asked, caller) if keeper is None else self._reserve_once(asked, caller, keeper))
        return held if isinstance(held, Refusal) else await self._delivery.metered(held)

    async def _reserve(self, asked: Asked, caller: Caller | Refusal) -> Held | Refusal:
        """The quote, taken aside and told of; whoever is given it leaves its places when the call is over."""
        started = perf_counter()
        reserved = await reserve(asked, caller, self._services)
        seconds = perf_counter() - started
        self._recorder.reserving(seconds)
        self._log(asked.routed.incoming, asked, reserved, seconds)
        if isinstance(reserved.outcome, Held):
            self._recorder.noticed(reserved.outcome)
        return reserved.outcome

    def _log(self, incoming: Incoming, asked: Asked, reserved: Reserved, seconds: float) -> None:
        """Into the decision log; never a reason for a request to fail."""
        if reserved.caller is None or reserved.decided is None:
            return
        took = Took(reserved.deciding_s, seconds)
        call = Call(incoming.id, reserved.caller, ask_of(asked), reserved.revision, self._services.now(), took)
        try:
            outcome = reserved.outcome
            self._decisions.add(call, reserved.decided, outcome if isinstance(outcome, Refusal) else outcome.hold)
        except Exception:
            log.exception("the decision on request %s could not be recorded", incoming.id_text)

    async def _reserve_once(self, asked: Asked, caller: Caller, keeper: Keeper) -> Held | Refusal:
        """The quote, taken aside for a request with an idempotency key. Where that fails, the key is free again."""
        try:
            held = await self._reserve(asked, caller)
        except BaseException:
            self._delivery.in_background(keeper.give_up())
            raise
        if isinstance(held, Refusal):
            await keeper.give_up()
            return held
        if not keeper.in_time:
            # The key may be another request's by now, and this one must not run beside it.
            held.admitted.passing.leave()
            await self._services.store.ledger.end(settlement.release_verb(held, "the idempotency key was too slow"))
            return store_unavailable()
        return replace(held, keeper=keeper)

    async def _resolve(self, routed: Routed, keyed: bool) -> Asked | Refusal:
        """The model and the units that the request asks for; the whole body of one that is `keyed`."""
        limits = self._services.settings.values.limits
        incoming, body = routed.incoming, forwarding.UNREAD
        if routed.route.reads_fields:
            read = await read_fields(incoming, routed.route.reads_fields, limits.peek, Pace(limits))
            if keyed and isinstance(read, Body) and not read.complete:
                error = "A form whose files stream past cannot have an idempotency key"
                return invalid_request(error, "Idempotency-Key", "Nobody could tell whether it is the same again.")
            if isinstance(read, Refusal):
                return read
            body = read
        elif routed.route.reads_body or keyed:
            read = await read_ahead(incoming, limits.peek, Pace(limits), coded=not routed.route.reads_body)
            if isinstance(read, Refusal):
                return read
            body = read
        content = body.peeked if body.content is None else body.content
        fields = body.form.fields if body.form is not None else {}
        query, method = incoming.target.query, incoming.method
        parts = RequestParts(routed.parameters, query, incoming.travelling, content, {}, fields, method)
        extracted = extract(routed.route.settings, parts)
        if isinstance(extracted, Refusal):
            return extracted
        model_key, units = extracted
        return Asked(routed, body, model_key, {**units, **stretch_units(routed.websocket)})

    async def _record(
        self,
        request: web.BaseRequest,
        request_id: str,
        routed: Routed | Refusal,
        result: web.StreamResponse | Refusal,
    ) -> web.StreamResponse:
        """Count and log the request; a refusal is written now, in the shape of its route."""
        if not isinstance(result, Refusal):
            self._recorder.answered(request_id, _route_id(routed), request.method, result.status)
            return result
        noise = self._source(request) if isinstance(routed, Refusal) or _is_nobodys(result) else None
        self._recorder.refused(request_id, _route_id(routed), request.method, result, STATUS[result.reason], noise)
        shape = "origin" if isinstance(routed, Refusal) else routed.route.settings.errors
        answer = answer_to(result, request_id, self._services.now(), shape)
        return await self._written(request, answer, request_id)

    async def _written(self, request: web.BaseRequest, answer: Answer, request_id: str) -> web.StreamResponse:
        """An answer of our own; nobody need be told when its client has left."""
        shared = self._sharing.granted(request.headers.getall("Origin", ()))
        try:
            return await write_answer(request, answer, [("X-Request-Id", request_id), *shared])
        except Truncated as cut:
            return cut.response

    def refuse_unread(self, refusal: Refusal, peer: str | None) -> tuple[Answer, str]:
        """The answer to what `peer` has sent and could not be read as a request, and its id."""
        request_id = id_text(self._services.store.ids.next())
        noise = source_of(self._chain.client(Shown("-", (), peer)).address)
        self._recorder.refused(request_id, None, "-", refusal, STATUS[refusal.reason], noise)
        return answer_to(refusal, request_id, self._services.now()), request_id

    def _noise_of(self, incoming: Incoming, answer: Answer) -> str | None:
        """Where a request for Farebox itself came from, if it was refused: then its sender may be anybody."""
        return self._source(incoming.request) if answer.status >= BAD else None

    def _source(self, request: web.BaseRequest) -> str:
        shown = Shown(request.method, list(request.headers.items()), request.remote)
        return source_of(self._chain.client(shown).address)


def _is_nobodys(refusal: Refusal) -> bool:
    """Whether a request was refused before its caller was known."""
    return refusal.reason is Reason.UNAUTHORIZED or (refusal.reason is Reason.RATE_LIMITED and refusal.rate is None)


def _route_id(routed: Routed | Refusal) -> str | None:
    return None if isinstance(routed, Refusal) else routed.route.id

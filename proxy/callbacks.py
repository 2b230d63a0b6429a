"""Where backends tell how their jobs ended: `POST /callbacks/ROUTE/TOKEN`, and `POST /callbacks/ROUTE` for all jobs.

A request for a job is forwarded with the first kind of address in `X-Farebox-Callback`. It is good for this one job
and nobody can make it up, so it needs no other credential. Backends that know one address only send the bearer token of
`callbacks.secret` to the second kind, and name the job in the body. What they say ends the job's hold as an answer to a
poll does, and what they repeat changes nothing.

Called by the pipeline before its own routes. It never trusts what a callback says about accounts or prices; a usage
counts as one that a poll states.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from typing import Any

from config.jobs import Callback
from config.routes import Route
from config.settings import FareboxSettings
from policies.refusals import Reason, Refusal, invalid_request, store_unavailable, unauthorized
from proxy import strict_json
from proxy.errors import JSON_HEADERS, Answer, answer_to
from proxy.paths import Found, PathTable, Target
from proxy.pipeline.body import read_ahead
from proxy.pipeline.exchange import Incoming
from proxy.pipeline.jobs import end, ending_in, text_at
from proxy.services import Services
from proxy.strict_json import Unreadable
from store.engine import StoreUnavailable
from store.ids import parse_id
from store.job_holds import JobHold, hold_of_request, job_holds

MAC_DIGITS = 40
"""Hexadecimal digits of a signature: 160 bits, which nobody guesses and an address bears."""

log = logging.getLogger(__name__)


class CallbackAddresses:
    """The addresses that are handed out, one for each job."""

    def __init__(self, settings: FareboxSettings) -> None:
        self._settings = settings.callbacks

    def of(self, route: Route, request_id: str) -> str | None:
        """The address for the job of this request; None on routes whose jobs have none."""
        if self._settings is None or route.job is None or route.job.callback is None:
            return None
        return f"{self._settings.url}{self._settings.mount}/{route.id}/{self.token(route.id, request_id)}"

    def token(self, route_id: str, request_id: str) -> str:
        """Names a request, and proves that Farebox has named it."""
        assert self._settings is not None, "without the settings there is no secret"
        secret = self._settings.secret.get_secret_value().encode()
        mac = hmac.new(secret, f"{route_id}\n{request_id}".encode(), hashlib.sha256).hexdigest()
        return f"{request_id}.{mac[:MAC_DIGITS]}"


class Callbacks:
    """Serves the callbacks of one process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        values = services.settings.values
        self._addresses = CallbackAddresses(values)
        self._table: PathTable[Route] = PathTable()
        if values.callbacks is None:
            return
        self._secret = values.callbacks.secret.get_secret_value().encode()
        mount = tuple(values.callbacks.mount[1:].split("/"))
        for route in values.routes:
            if route.job is not None and route.job.callback is not None:
                self._table.add("POST", (*mount, route.id, "{token}"), route)
                if route.job.callback.id is not None:
                    self._table.add("POST", (*mount, route.id), route)

    def find(self, method: str, target: Target) -> Found[Route] | None:
        return self._table.find(method, target.segments)

    async def serve(self, found: Found[Route], incoming: Incoming) -> Answer:
        """The answer to a request for which `find` found a route."""
        try:
            result = await self._result(found, incoming)
        except StoreUnavailable as error:
            log.error("a callback for a job of %s is not written down: %s", found.value.id, error)
            result = store_unavailable()
        if isinstance(result, Refusal):
            return answer_to(result, incoming.id_text, self._services.now())
        return Answer(200, JSON_HEADERS, json.dumps(result).encode())

    async def _result(self, found: Found[Route], incoming: Incoming) -> dict[str, str] | Refusal:
        route = found.value
        assert route.job is not None, "only routes with jobs are in the table"
        assert route.job.callback is not None, "only routes with callbacks are in the table"
        token = found.parameters.get("token")
        refusal = self._foreign(route, token) if token is not None else self._unproven(incoming)
        if refusal is not None:
            return refusal
        document = await self._document(incoming)
        if isinstance(document, Refusal):
            return document
        hold = await self._hold(route, route.job.callback, token, document)
        if hold is None:
            hint = "A job exists when the answer that accepted it has passed; call again."
            return Refusal(Reason.NOT_FOUND, "Not Found", hint)
        ending = ending_in(route.job.callback, document)
        if ending is None:
            return {"job": "open"}
        await end(hold, ending, self._services.store)
        return {"job": "completed" if ending.completed else "failed"}

    def _foreign(self, route: Route, token: str) -> Refusal | None:
        expected = self._addresses.token(route.id, token.partition(".")[0])
        if hmac.compare_digest(expected.encode(), token.encode()):
            return None
        return Refusal(Reason.NOT_FOUND, "Not Found", "There is no such address.")

    def _unproven(self, incoming: Incoming) -> Refusal | None:
        values = incoming.values("authorization")
        scheme, _, secret = (values[0] if len(values) == 1 else "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(secret.strip().encode(), self._secret):
            return None
        return unauthorized("Invalid token", "Send the secret of `callbacks` as `Authorization: Bearer …`.")

    async def _document(self, incoming: Incoming) -> Any:
        """What the body says, or a Refusal."""
        limits = self._services.settings.values.limits
        body = await read_ahead(incoming, limits.measured, limits.body_timeout)
        if isinstance(body, Refusal):
            return body
        types = incoming.values("content-type")
        media_type = types[0].partition(";")[0].strip().lower() if len(types) == 1 else ""
        if media_type != "application/json":
            return invalid_request("The content type does not fit", "Content-Type", "Send application/json.")
        try:
            return strict_json.parse(body.peeked)
        except Unreadable as error:
            return invalid_request(f"The request cannot be read: {error}", "body")

    async def _hold(self, route: Route, callback: Callback, token: str | None, document: object) -> JobHold | None:
        database = self._services.store.database
        if token is not None:
            hold_id = parse_id(token.partition(".")[0])
            return None if hold_id is None else await database.read(hold_of_request, route.id, hold_id)
        assert callback.id is not None, "without it this address is not in the table"
        job_id = text_at(document, callback.id.json_)
        found = await database.read(job_holds, [route.id], [job_id]) if job_id is not None else []
        return found[0] if found else None

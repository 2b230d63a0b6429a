"""Serving the management API: finding the endpoint of a request, and answering it.

Called by the public listener before its own routes; what is not found here is theirs. A fault that is not the store's
is left to the listener.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace

from aiohttp import web
from pydantic import BaseModel

from policies.callers import Caller
from policies.refusals import Reason, Refusal, invalid_request, store_unavailable, unauthorized
from policies.subscription import NotPossible
from policies.terms import Scope
from proxy.errors import JSON_HEADERS, Answer, answer_to
from proxy.identity.credentials import Shown
from proxy.management.endpoint import ApiRequest, Endpoint
from proxy.management.endpoints import served
from proxy.management.requests import MAX_BODY, read_body, read_query, too_large
from proxy.management.shapes import Body, Query
from proxy.paths import Found, PathTable, Target
from proxy.services import Services
from store.accounts import find_account
from store.engine import StoreUnavailable

log = logging.getLogger(__name__)


class Management:
    """The management API of one process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings.values.management
        self._table: PathTable[Endpoint] = PathTable()
        mount = tuple(self._settings.mount.split("/")[1:])
        for endpoint in served(self._settings):
            self._table.add(endpoint.method, (*mount, *endpoint.segments), endpoint)

    def find(self, method: str, target: Target) -> Found[Endpoint] | None:
        """The endpoint of exactly this method and path; HEAD is that of GET."""
        return self._table.find(method, target.segments)

    async def serve(self, found: Found[Endpoint], request: web.BaseRequest, target: Target, request_id: str) -> Answer:
        """The answer to a request for which `find` found an endpoint."""
        endpoint = found.value
        query = read_query(target.query, endpoint.query)
        try:
            result = query if isinstance(query, Refusal) else await self._result(found, request, query)
        except NotPossible as error:
            result = Refusal(Reason.CONFLICT, str(error), fields=error.fields)
        except StoreUnavailable as error:
            log.warning("%s is refused, because the store cannot answer: %s", endpoint.name, error)
            result = store_unavailable()
        asked = query.envelope if isinstance(query, Query) else None
        enveloped = endpoint.enveloped and (self._settings.envelope if asked is None else asked == "1")
        if isinstance(result, Refusal):
            answer = answer_to(result, request_id, self._services.now())
            return _enveloped_error(answer) if enveloped else answer
        content = result.model_dump_json().encode()
        return Answer(endpoint.status, JSON_HEADERS, b'{"success":true,"data":%b}' % content if enveloped else content)

    async def _result(self, found: Found[Endpoint], request: web.BaseRequest, query: Query) -> BaseModel | Refusal:
        endpoint = found.value
        caller = None if endpoint.public else await self._caller(request, endpoint.scope)
        if isinstance(caller, Refusal):
            return caller
        body = await self._body(endpoint, request)
        if isinstance(body, Refusal):
            return body
        now = self._services.now()
        return await endpoint.handler(self._services, ApiRequest(caller, found.parameters, query, body, now))

    async def _caller(self, request: web.BaseRequest, scope: Scope) -> Caller | Refusal:
        """Who asks. The gate may remember an account for seconds, because the ledger looks again; here nobody does."""
        shown = Shown(request.method, list(request.headers.items()), request.remote)
        caller = await self._services.identifier.identify(shown, scope)
        if isinstance(caller, Refusal):
            return caller
        if self._services.identifier.by_cookie(shown) and request.can_read_body and not _is_json(shown):
            # A form of any page can send a body, and no form can send this type of it.
            hint = "Send application/json."
            return invalid_request("With a cookie, the body has to be JSON and say so", "Content-Type", hint)
        account = await self._services.store.database.read(find_account, caller.account.account_id)
        return replace(caller, account=account) if account is not None else unauthorized("User not found")

    async def _body(self, endpoint: Endpoint, request: web.BaseRequest) -> Body | Refusal | None:
        if endpoint.body is None:
            return None
        patience = self._services.settings.values.limits.body_timeout
        try:
            async with asyncio.timeout(patience.total_seconds()):
                raw = await _read(request)
        except TimeoutError:
            return invalid_request("The request body arrived too slowly")
        return raw if isinstance(raw, Refusal) else read_body(raw, endpoint.body, endpoint.body_optional)


def _is_json(shown: Shown) -> bool:
    types = shown.values("content-type")
    return len(types) == 1 and types[0].partition(";")[0].strip().lower() == "application/json"


async def _read(request: web.BaseRequest) -> bytes | Refusal:
    """The whole body, of at most MAX_BODY bytes. Raises ConnectionResetError when the client leaves meanwhile."""
    if request.content_length is not None and request.content_length > MAX_BODY:
        return too_large()
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        return invalid_request("The request body is compressed", "Content-Encoding", "Send it as it is.")
    if "Expect" in request.headers and request.transport is not None:
        # RFC 9110 §10.1.1: the client waits for this before it sends the body.
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    raw = bytearray()
    while piece := await request.content.readany():
        raw += piece
        if len(raw) > MAX_BODY:
            return too_large()
    return bytes(raw)


def _enveloped_error(answer: Answer) -> Answer:
    """The answer in the shape that the origin's later clients expect."""
    content = json.loads(answer.body)
    content = {"success": False, "error": {"message": content.pop("error"), **content}}
    return replace(answer, body=json.dumps(content, ensure_ascii=False).encode())

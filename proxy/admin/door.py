"""The door of the admin API: the bearer token, and every refusal and fault as an answer that says what to do."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from config.findings import InvalidDocument
from policies.refusals import Reason, Refusal, invalid_request, store_unavailable, unauthorized
from proxy.errors import Answer, answer_to
from proxy.services import Services
from store.engine import StoreUnavailable
from store.ids import id_text

log = logging.getLogger(__name__)

OPEN = ("/livez", "/readyz", "/metrics")
"""What probes and scrapers ask for; it tells nothing about any account."""


class Refused(Exception):
    """Carries a refusal from a handler to `answering`, the one place where admin refusals become HTTP."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.error)
        self.refusal = refusal


def answering(services: Services) -> Middleware:
    """Every answer gets a request id; every refusal and fault the body that all refusals have."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        request_id = id_text(services.store.ids.next())
        try:
            response = await handler(request)
        except Exception as error:
            refusal = _refusal_for(error)
            if refusal.reason is Reason.INTERNAL:
                log.exception("admin request %s failed", request_id)
            answer = answer_to(refusal, request_id, services.now())
            response = web.Response(status=answer.status, body=answer.body, headers=dict(answer.headers))
        response.headers["X-Request-Id"] = request_id
        # Balances, keys and tokens must not stay in anybody's cache.
        response.headers["Cache-Control"] = "no-store"
        return response

    return middleware


def refusing_unread(services: Services) -> Callable[[Refusal], tuple[Answer, str]]:
    """Answers to what the listener could not read as a request."""

    def refuse(refusal: Refusal) -> tuple[Answer, str]:
        request_id = id_text(services.store.ids.next())
        return answer_to(refusal, request_id, services.now()), request_id

    return refuse


def _refusal_for(error: Exception) -> Refusal:
    match error:
        case Refused():
            return error.refusal
        case StoreUnavailable():
            log.error("the store cannot answer: %s", error)
            return store_unavailable()
        case InvalidDocument():
            found = {"findings": [finding.as_json() for finding in error.findings]}
            return Refusal(Reason.INVALID_REQUEST, "The policy is invalid", "See: farebox check", found)
        case web.HTTPNotFound():
            return Refusal(Reason.NOT_FOUND, "Not Found", "GET /admin lists everything there is.")
        case web.HTTPMethodNotAllowed():
            hint = f"Use {' or '.join(sorted(error.allowed_methods))}."
            return Refusal(Reason.METHOD_NOT_ALLOWED, "Method not allowed", hint)
        case web.HTTPRequestEntityTooLarge():
            return Refusal(Reason.TOO_LARGE, "The request is too large")
        case web.HTTPException() if error.status < 500:
            return invalid_request(error.reason)
        case _:
            return Refusal(Reason.INTERNAL, "Internal error", "The log has the details under this request id.")


def refusing(services: Services) -> Middleware:
    """Lets nobody pass without the token, except to the probes; also paths that do not exist ask for it."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        is_open = resource is not None and resource.canonical in OPEN
        refusal = None if is_open else _refused(services, request)
        if refusal is not None:
            raise Refused(refusal)
        return await handler(request)

    return middleware


def _refused(services: Services, request: web.Request) -> Refusal | None:
    token = services.settings.values.admin.token
    if token is None:
        hint = "Set a token in farebox.yaml: `admin: {token: ${FAREBOX_ADMIN_TOKEN}}`."
        return Refusal(Reason.FORBIDDEN, "The admin API is closed", hint)
    presented = request.headers.getall("Authorization", [])
    if len(presented) != 1:
        return unauthorized("No token provided", "Send the admin token as `Authorization: Bearer …`.")
    scheme, _, text = presented[0].partition(" ")
    if scheme.lower() != "bearer" or not _same(text.strip(), token.get_secret_value()):
        return unauthorized("Invalid token", "The token is `admin.token` of farebox.yaml.")
    return None


def _same(one: str, other: str) -> bool:
    """Compared by their hashes in constant time: neither content nor length leaks through the time it takes."""
    first, second = (hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in (one, other))
    return hmac.compare_digest(first, second)

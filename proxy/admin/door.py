"""The door of the admin API: who may enter at all, and every refusal and fault as an answer that says what to do.

Asked in this order: is the request meant for this listener, did no page of a stranger make it, does it bear the token
of an operator. What that operator may do is asked where it is done (`proxy.operations.authority`).
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from ipaddress import ip_address

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from config.admin import Admin, Operator
from config.findings import InvalidDocument
from policies.refusals import Reason, Refusal, invalid_request, store_unavailable, unauthorized
from proxy.chain import Chain
from proxy.errors import PROTECTING, answer_to
from proxy.identity.credentials import Shown, says_elsewhere
from proxy.identity.failures import Failures, source_of
from proxy.services import Services
from store.engine import StoreUnavailable
from store.ids import id_text

log = logging.getLogger(__name__)

OPEN = ("/livez", "/readyz", "/metrics")
"""What probes and scrapers ask for; it tells nothing about any account."""

OPERATOR = web.RequestKey("operator", Operator)
"""Who has shown their token."""

NO_OPERATORS = "Set a token in farebox.yaml: `admin: {token: ${FAREBOX_ADMIN_TOKEN}}`, or `admin.operators`."


_HOST = re.compile(r"(\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[a-z0-9.-]+))(:[0-9]{1,5})?")


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
        response.headers.update(PROTECTING)
        # Instead of aiohttp's, which names its version and Python's.
        response.headers["Server"] = "farebox"
        return response

    return middleware


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
    """Lets nobody pass without a token, except to the probes; also paths that do not exist ask for it."""
    operators = Operators(services)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = _misdirected(services.settings.values.admin, request)
        if refusal is not None:
            raise Refused(refusal)
        resource = request.match_info.route.resource
        if resource is None or resource.canonical not in OPEN:
            operator = operators.entering(request)
            if isinstance(operator, Refusal):
                raise Refused(operator)
            request[OPERATOR] = operator
        return await handler(request)

    return middleware


def _misdirected(settings: Admin, request: web.Request) -> Refusal | None:
    """Why a request is none for this listener, whatever it bears.

    A stranger's page can have a browser ask anything of an address that only this machine can reach. It says so itself;
    unless its name was made to point here (DNS rebinding), and then that name stands in `Host`.
    """
    for host in {request.host, request.headers.get("Host", "")}:
        name = _name(host)
        if name != "localhost" and name not in settings.hosts and not _is_address(name):
            hint = "Use an address or localhost, or list the name in admin.hosts."
            return Refusal(Reason.FORBIDDEN, "This listener is not known by this name", hint)
    if says_elsewhere(_shown(request), ()):
        hint = "The admin API is for programs, and for pages that it serves itself."
        return Refusal(Reason.FORBIDDEN, "The request comes from a page of another site", hint)
    return None


def _name(host: str) -> str:
    """Without a port, and without the brackets of IPv6; what is no host (RFC 3986 §3.2.2) is nobody's name."""
    found = _HOST.fullmatch(host.lower())
    return host if found is None else found["address"] or found["name"]


def _is_address(name: str) -> bool:
    """Nobody can make an address point elsewhere."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _shown(request: web.Request) -> Shown:
    return Shown(request.method, list(request.headers.items()), request.remote)


class Operators:
    """Those of the settings, by their tokens."""

    def __init__(self, services: Services) -> None:
        self._admin = services.settings.values.admin
        self._clock = services.clock
        self._failures = Failures(self._admin.failures)
        self._chain = Chain(services.settings.values)
        self._by_token = [(_digest(operator.token.get_secret_value()), operator) for operator in self._admin.everybody]

    def entering(self, request: web.Request) -> Operator | Refusal:
        """Who shows a token. One that is right opens, however many have failed at the same address before: comparing
        it costs nothing, and so nobody can lock an operator out.
        """
        if not self._by_token:
            return Refusal(Reason.FORBIDDEN, "The admin API is closed", NO_OPERATORS)
        presented = request.headers.getall("Authorization", [])
        if len(presented) != 1:
            return unauthorized("No token provided", "Send the token of an operator as `Authorization: Bearer …`.")
        scheme, _, text = presented[0].partition(" ")
        operator = self._bearer(text.strip()) if scheme.lower() == "bearer" else None
        return operator if operator is not None else self._failed(request)

    def _bearer(self, text: str) -> Operator | None:
        """By hashes in constant time, and all of them: neither content nor length nor order leaks through the time."""
        given, found = _digest(text), None
        for digest, operator in self._by_token:
            if hmac.compare_digest(digest, given):
                found = operator
        return found

    def _failed(self, request: web.Request) -> Refusal:
        now, source = self._clock(), source_of(self._chain.client(_shown(request)).address)
        held_up = self._failures.over_limit(source, now)
        self._failures.count(source, now)
        if held_up:
            return self._failures.refusal(source, now)
        log.warning("a token that no operator has was shown to the admin API, from %s", source)
        return unauthorized("Invalid token", "Tokens are `admin.token` and those of `admin.operators` in farebox.yaml.")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()

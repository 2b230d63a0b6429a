"""Step 0: a request that can be read in one way only, or a refusal. Nothing after this looks at raw bytes again."""

from __future__ import annotations

import re
from datetime import datetime

from aiohttp import HttpVersion11, web

from policies.refusals import Reason, Refusal, expectation_failed, invalid_request
from policies.terms import HoldId
from proxy.chain import Chain
from proxy.errors import METHODS
from proxy.headers import HeaderList, end_to_end
from proxy.identity.credentials import Shown
from proxy.identity.identifier import Identifier
from proxy.paths import parse_target
from proxy.pipeline.exchange import Incoming
from proxy.websocket import handshake
from store.ids import id_text

_HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]+")
"""The characters of an authority without a user (RFC 3986 §3.2); that it names a backend's host is the backend's."""


def receive(
    request: web.BaseRequest, request_id: HoldId, now: datetime, identifier: Identifier, chain: Chain
) -> Incoming | Refusal:
    """The request with its one reading."""
    headers = _headers(request)
    if isinstance(headers, Refusal):
        return headers
    refusal = _malformed(request, headers, chain)
    if refusal is not None:
        return refusal
    target = parse_target(request.raw_path)
    if isinstance(target, Refusal):
        return target
    shown = Shown(request.method, headers, request.remote)
    current = request.version == HttpVersion11
    travelling = identifier.travelling(end_to_end(headers), shown)
    travelling = chain.onward(travelling, shown, request.headers["Host"], "1.1" if current else "1.0")
    text = id_text(request_id)
    # Few requests nominate anything, and only those can ask for a WebSocket.
    websocket = current and "Upgrade" in request.headers and handshake.asks(request.method, headers)
    return Incoming(request, request_id, text, request.method, target, headers, travelling, now, websocket)


def _malformed(request: web.BaseRequest, headers: HeaderList, chain: Chain) -> Refusal | None:
    """What aiohttp lets through and a backend might read in another way (RFC 9112 §6.1, §6.3), or over and over."""
    if request.method not in METHODS:
        return Refusal(Reason.METHOD_NOT_ALLOWED, f"The method {request.method[:20]} is not served")
    if request.version.major != 1 or request.version > HttpVersion11 or request.version.minor == 9:
        return invalid_request("Only HTTP/1.0 and HTTP/1.1 are served")
    deciding: dict[str, list[str]] = {"host": [], "transfer-encoding": [], "expect": [], "via": []}
    for name, value in headers:
        values = deciding.get(name.lower())
        if values is not None:
            values.append(value.lower())
    hosts, encodings, expectations, vias = deciding.values()
    if encodings and (encodings != ["chunked"] or request.version < HttpVersion11):
        return invalid_request("The transfer encoding is not exactly `chunked`", "Transfer-Encoding")
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        return invalid_request("A request names exactly one host", "Host")
    if expectations not in ([], ["100-continue"]):
        return expectation_failed()
    if vias and chain.is_loop(vias):
        hint = "An upstream leads back to Farebox; correct its `url`."
        return Refusal(Reason.LOOP, "The request has passed here before", hint)
    return None


def _headers(request: web.BaseRequest) -> HeaderList | Refusal:
    """All headers as they were spelled. Bytes that are not UTF-8 are read in as many ways as there are backends."""
    try:
        return [(name.decode(), value.decode()) for name, value in request.raw_headers]
    except UnicodeDecodeError:
        return invalid_request("A header is not UTF-8", _not_utf8(request))


def _not_utf8(request: web.BaseRequest) -> str:
    """The name of the first header that is not."""
    for name, value in request.raw_headers:
        try:
            (name + value).decode()
        except UnicodeDecodeError:
            return name.decode("ascii", "replace")
    raise AssertionError("one of them is not")

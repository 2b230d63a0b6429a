"""Step 0: a request that can be read in one way only, or a refusal. Nothing after this looks at raw bytes again."""

from __future__ import annotations

from datetime import datetime

from aiohttp import HttpVersion11, web

from policies.refusals import Reason, Refusal, invalid_request
from policies.terms import HoldId
from proxy.headers import HeaderList
from proxy.paths import Target, parse_target
from proxy.pipeline.exchange import Incoming
from store.ids import id_text

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""CONNECT asks for a tunnel and TRACE echoes credentials; neither has a place here (RFC 9110 §9.3.6, §9.3.8)."""


def receive(request: web.BaseRequest, request_id: HoldId, now: datetime) -> Incoming | Refusal:
    """The request with its one reading."""
    target = parse_target(request.raw_path)
    refusal = target if isinstance(target, Refusal) else _malformed(request)
    if refusal is not None or not isinstance(target, Target):
        return refusal or invalid_request("The request cannot be read")
    headers: HeaderList = list(request.headers.items())
    return Incoming(request, request_id, id_text(request_id), request.method, target, headers, now)


def _malformed(request: web.BaseRequest) -> Refusal | None:
    """What aiohttp lets through and a backend might read in another way (RFC 9112 §6.1, §6.3)."""
    if request.method not in METHODS:
        return Refusal(Reason.METHOD_NOT_ALLOWED, f"The method {request.method[:20]} is not served")
    if request.version.major != 1 or request.version > HttpVersion11 or request.version.minor == 9:
        return invalid_request("Only HTTP/1.0 and HTTP/1.1 are served")
    headers = request.headers
    for name, value in headers.items():
        # aiohttp would drop bytes that are not UTF-8 on the way out: `ad\xC0min` would arrive as `admin`.
        if any("\udc80" <= character <= "\udcff" for character in name + value):
            return invalid_request("A header is not UTF-8", name.encode("ascii", "replace").decode())
    encodings = headers.getall("Transfer-Encoding", [])
    if encodings and (len(encodings) > 1 or encodings[0].lower() != "chunked" or request.version < HttpVersion11):
        return invalid_request("The transfer encoding is not exactly `chunked`", "Transfer-Encoding")
    if len(headers.getall("Host", [])) != 1:
        return invalid_request("A request names exactly one host", "Host")
    expectations = [value.lower() for value in headers.getall("Expect", [])]
    if expectations not in ([], ["100-continue"]):
        return Refusal(Reason.EXPECTATION_FAILED, "Only the expectation 100-continue is understood")
    return None

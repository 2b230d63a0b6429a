"""Refusals as HTTP: the only file that knows which status a reason has.

    400 invalid_request                          401 unauthorized        402 insufficient_credits
    403 model_denied, account_frozen, forbidden, policy_error
    404 no_route, not_found                      405 method_not_allowed
    409 conflict, idempotency_conflict, idempotency_in_progress, idempotency_answered
    413 request_too_large                        417 expectation_failed  429 quota_exceeded, rate_limited
    431 headers_too_large                        500 internal_error
    502 upstream_unreachable, upstream_broken    503 store_unavailable, identity_unavailable, upstream_busy
    504 upstream_timeout                         508 loop_detected

Bodies keep the fields of the origin system first and add `code`, `request_id` and `hint`. A route may ask for the
error object of the OpenAI API, or for RFC 9457 problem details, instead.
"""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Literal

from policies.refusals import RateState, Reason, Refusal
from policies.values import value

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""CONNECT asks for a tunnel and TRACE echoes credentials; neither has a place here (RFC 9110 §9.3.6, §9.3.8)."""

ErrorShape = Literal["origin", "openai", "problem"]

STATUS: dict[Reason, int] = {
    Reason.INVALID_REQUEST: 400,
    Reason.UNAUTHORIZED: 401,
    Reason.INSUFFICIENT_CREDITS: 402,
    Reason.MODEL_DENIED: 403,
    Reason.ACCOUNT_FROZEN: 403,
    Reason.FORBIDDEN: 403,
    Reason.POLICY_ERROR: 403,
    Reason.NO_ROUTE: 404,
    Reason.NOT_FOUND: 404,
    Reason.METHOD_NOT_ALLOWED: 405,
    Reason.CONFLICT: 409,
    Reason.IDEMPOTENCY_CONFLICT: 409,
    Reason.IDEMPOTENCY_IN_PROGRESS: 409,
    Reason.IDEMPOTENCY_ANSWERED: 409,
    Reason.TOO_LARGE: 413,
    Reason.EXPECTATION_FAILED: 417,
    Reason.QUOTA_EXCEEDED: 429,
    Reason.RATE_LIMITED: 429,
    Reason.HEADERS_TOO_LARGE: 431,
    Reason.INTERNAL: 500,
    Reason.UPSTREAM_UNREACHABLE: 502,
    Reason.UPSTREAM_BROKEN: 502,
    Reason.STORE_UNAVAILABLE: 503,
    Reason.IDENTITY_UNAVAILABLE: 503,
    Reason.UPSTREAM_BUSY: 503,
    Reason.UPSTREAM_TIMEOUT: 504,
    Reason.LOOP: 508,
}

PROTECTING = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)
"""On every answer of Farebox's own: it is data, which no browser is to run, frame, guess the type of, or keep."""

JSON_HEADERS = (("Content-Type", "application/json"), *PROTECTING)

_OPENAI_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "invalid_request_error",
    429: "insufficient_quota",
}


@value
class Answer:
    """A complete answer of Farebox's own."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def answer_to(refusal: Refusal, request_id: str, now: datetime, shape: ErrorShape = "origin") -> Answer:
    """The refusal as an HTTP answer in the shape that the route's clients understand."""
    status = STATUS[refusal.reason]
    content_type = "application/problem+json" if shape == "problem" else "application/json"
    body = {"origin": _origin, "openai": _openai, "problem": _problem}[shape](refusal, status, request_id)
    headers = [("Content-Type", content_type), *PROTECTING]
    if status == 401:
        headers.append(("WWW-Authenticate", 'Bearer realm="farebox"'))
    if status == 405:
        headers.append(("Allow", ", ".join(METHODS)))
    retry_after = _retry_after_s(refusal, now)
    if retry_after is not None:
        headers.append(("Retry-After", str(retry_after)))
    if refusal.rate is not None:
        headers += _rate_headers(refusal.rate)
    return Answer(status, tuple(headers), json.dumps(body, ensure_ascii=False).encode())


def _rate_headers(rate: RateState) -> list[tuple[str, str]]:
    """The limit and its state, as draft-ietf-httpapi-ratelimit-headers-10 has them (sections 3 and 4)."""
    window = ';qu="concurrent-requests"' if rate.window_s is None else f";w={rate.window_s}"
    return [
        ("RateLimit-Policy", f'"{rate.limit}";q={rate.calls}{window}'),
        ("RateLimit", f'"{rate.limit}";r={rate.left};t={rate.wait_s}'),
    ]


def _retry_after_s(refusal: Refusal, now: datetime) -> int | None:
    if refusal.retry_at is not None:
        return max(math.ceil((refusal.retry_at - now).total_seconds()), 0)
    return refusal.retry_after_s


def _origin(refusal: Refusal, status: int, request_id: str) -> dict[str, object]:
    body: dict[str, object] = {"error": refusal.error, **refusal.fields}
    body |= {"code": str(refusal.reason), "request_id": request_id}
    return body | {"hint": refusal.hint} if refusal.hint else body


def _openai(refusal: Refusal, status: int, request_id: str) -> dict[str, object]:
    """https://platform.openai.com/docs/guides/error-codes"""
    detail = refusal.fields.get("reason")
    message = f"{refusal.error}: {detail}" if detail else refusal.error
    error: dict[str, object] = {
        "message": f"{message}. {refusal.hint}" if refusal.hint else message,
        "type": _OPENAI_TYPES.get(status, "api_error"),
        "param": refusal.fields.get("field"),
        "code": str(refusal.reason),
    }
    return {"error": error, "request_id": request_id, **refusal.fields}


def _problem(refusal: Refusal, status: int, request_id: str) -> dict[str, object]:
    """RFC 9457, section 3."""
    body: dict[str, object] = {"type": "about:blank", "title": refusal.error, "status": status}
    if refusal.hint:
        body["detail"] = refusal.hint
    return body | {"code": str(refusal.reason), "request_id": request_id, **refusal.fields}

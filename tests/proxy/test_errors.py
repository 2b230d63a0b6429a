"""Refusals as HTTP: statuses, headers, and three shapes of bodies, exactly as clients read them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from policies.refusals import (
    RateState,
    Reason,
    Refusal,
    insufficient_credits,
    invalid_request,
    model_denied,
    no_route,
    quota_exceeded,
    rate_limited,
    store_unavailable,
    unauthorized,
)
from policies.terms import Tier
from proxy.errors import STATUS, ErrorShape, answer_to

NOW = datetime(2025, 1, 15, 22, 30, 0, 500_000, tzinfo=UTC)
MIDNIGHT = datetime(2025, 1, 16, tzinfo=UTC)
DENIED = model_denied("video:veo3", "This model requires pro tier or higher", "ladder", Tier("pro"))
WAIT = "Wait until the quota resets at 2025-01-16T00:00:00.000Z, or change to a plan with a larger quota."
EXHAUSTED = quota_exceeded("daily", 50, 50, MIDNIGHT)


def body(refusal: Refusal, shape: ErrorShape = "origin") -> dict[str, Any]:
    answer = answer_to(refusal, "REQ1", NOW, shape)
    document: dict[str, Any] = json.loads(answer.body)
    return document


def headers(refusal: Refusal, shape: ErrorShape = "origin") -> dict[str, str]:
    return dict(answer_to(refusal, "REQ1", NOW, shape).headers)


def test_every_reason_has_a_status() -> None:
    """There is no refusal that HTTP cannot tell."""
    assert set(STATUS) == set(Reason)


@pytest.mark.parametrize(
    ("refusal", "status", "expected"),
    [
        (
            unauthorized("No token provided", "Send a token."),
            401,
            {
                "error": "Unauthorized - No token provided",
                "code": "unauthorized",
                "request_id": "REQ1",
                "hint": "Send a token.",
            },
        ),
        (
            insufficient_credits(7_500_000, 2_000_000),
            402,
            {
                "error": "Insufficient credits",
                "required": 7.5,
                "current": 2,
                "code": "insufficient_credits",
                "request_id": "REQ1",
                "hint": "Top up credits, or subscribe to a plan with a daily quota.",
            },
        ),
        (
            DENIED,
            403,
            {
                "error": "Model access denied",
                "reason": "This model requires pro tier or higher",
                "requiredTier": "pro",
                "modelKey": "video:veo3",
                "rule": "ladder",
                "code": "model_denied",
                "request_id": "REQ1",
                "hint": "Subscribe to a plan of the pro tier.",
            },
        ),
        (
            EXHAUSTED,
            429,
            {
                "error": "Daily quota exceeded",
                "usage": 50,
                "limit": 50,
                "remaining": 0,
                "resetAt": "2025-01-16T00:00:00.000Z",
                "code": "quota_exceeded",
                "request_id": "REQ1",
                "hint": WAIT,
            },
        ),
        (
            invalid_request("n is missing", "/n"),
            400,
            {"error": "n is missing", "field": "/n", "code": "invalid_request", "request_id": "REQ1"},
        ),
    ],
)
def test_the_shape_of_the_origin(refusal: Refusal, status: int, expected: dict[str, object]) -> None:
    """The origin's fields come first and in its words; `code`, `request_id` and `hint` are added."""
    answer = answer_to(refusal, "REQ1", NOW)
    assert answer.status == status
    assert list(json.loads(answer.body).items()) == list(expected.items())
    assert answer.headers[0] == ("Content-Type", "application/json")


def test_the_shape_of_openai() -> None:
    """The error object that the SDKs of that API raise from, with our fields beside it."""
    assert body(DENIED, "openai") == {
        "error": {
            "message": f"Model access denied: {DENIED.fields['reason']}. Subscribe to a plan of the pro tier.",
            "type": "permission_error",
            "param": None,
            "code": "model_denied",
        },
        "request_id": "REQ1",
        "reason": "This model requires pro tier or higher",
        "requiredTier": "pro",
        "modelKey": "video:veo3",
        "rule": "ladder",
    }
    assert headers(DENIED, "openai")["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("refusal", "kind", "param"),
    [
        (invalid_request("x", "/model"), "invalid_request_error", "/model"),
        (unauthorized("Invalid token"), "authentication_error", None),
        (insufficient_credits(2, 1), "insufficient_quota", None),
        (no_route(), "invalid_request_error", None),
        (EXHAUSTED, "insufficient_quota", None),
        (store_unavailable(), "api_error", None),
        (Refusal(Reason.UPSTREAM_TIMEOUT, "late"), "api_error", None),
    ],
)
def test_the_types_of_openai(refusal: Refusal, kind: str, param: str | None) -> None:
    """SDKs choose their exception by the status and this type."""
    error = body(refusal, "openai")["error"]
    assert (error["type"], error["param"], error["code"]) == (kind, param, str(refusal.reason))


def test_the_shape_of_problem_details() -> None:
    """RFC 9457: title, status and detail, with our fields as extensions."""
    assert body(EXHAUSTED, "problem") == {
        "type": "about:blank",
        "title": "Daily quota exceeded",
        "status": 429,
        "detail": WAIT,
        "code": "quota_exceeded",
        "request_id": "REQ1",
        "usage": 50,
        "limit": 50,
        "remaining": 0,
        "resetAt": "2025-01-16T00:00:00.000Z",
    }
    assert headers(EXHAUSTED, "problem")["Content-Type"] == "application/problem+json"
    assert "detail" not in body(invalid_request("x"), "problem")


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("shape", ["origin", "openai", "problem"])
def test_every_refusal_has_every_shape(reason: Reason, shape: ErrorShape) -> None:
    """A code and the request's id are in each of them, and the body is UTF-8 JSON."""
    answer = answer_to(Refusal(reason, "Fällt aus", "später"), "REQ1", NOW, shape)
    document = json.loads(answer.body.decode("utf-8"))
    coded = document["error"] if shape == "openai" else document
    assert (answer.status, coded["code"], document["request_id"]) == (STATUS[reason], str(reason), "REQ1")


@pytest.mark.parametrize(
    ("retry_at", "seconds"),
    [(MIDNIGHT, "5400"), (NOW + timedelta(seconds=0.1), "1"), (NOW, "0"), (NOW - timedelta(days=1), "0")],
)
def test_retry_after_is_whole_seconds_and_never_too_early(retry_at: datetime, seconds: str) -> None:
    """Rounded up to the moment itself; a moment that has passed is now."""
    assert headers(Refusal(Reason.QUOTA_EXCEEDED, "x", retry_at=retry_at))["Retry-After"] == seconds


def test_headers_that_a_status_asks_for() -> None:
    """401 has a challenge (RFC 9110 §11.6.1), 405 the methods that are served (§15.5.6), 503 when to come back."""
    assert headers(unauthorized("Invalid token"))["WWW-Authenticate"] == 'Bearer realm="farebox"'
    served = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    assert headers(Refusal(Reason.METHOD_NOT_ALLOWED, "no"))["Allow"] == served
    assert headers(store_unavailable())["Retry-After"] == "1"
    asked = {"WWW-Authenticate", "Allow", "Retry-After"}
    assert not asked & set(headers(no_route()))


def test_a_limit_is_told_in_headers() -> None:
    """The policy and the state of the limit, as structured fields; a limit on what runs at once names its unit."""
    rate = headers(rate_limited("Slowly", RateState("free-rate", 60, 60, 0, 7)))
    assert (rate["RateLimit-Policy"], rate["RateLimit"], rate["Retry-After"]) == (
        '"free-rate";q=60;w=60',
        '"free-rate";r=0;t=7',
        "7",
    )
    running = headers(rate_limited("One by one", RateState("one", 1, None, 0, 1)))
    assert running["RateLimit-Policy"] == '"one";q=1;qu="concurrent-requests"'

"""Every reason for which a request can be refused, with its public code and its sentence.

A refusal is an answer, not an error: it is returned as a value, shown to the caller and never logged as a fault.
The field names of the origin system come first in `fields`, so that existing clients understand them. Which HTTP
status a reason has is known to `proxy.errors` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from policies.pricing import to_credits
from policies.terms import Scope, Tier


class Reason(StrEnum):
    """The stable public codes."""

    INVALID_REQUEST = "invalid_request"
    UNAUTHORIZED = "unauthorized"
    INSUFFICIENT_CREDITS = "insufficient_credits"
    MODEL_DENIED = "model_denied"
    ACCOUNT_FROZEN = "account_frozen"
    FORBIDDEN = "forbidden"
    NO_ROUTE = "no_route"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TIMEOUT = "request_timeout"
    CONFLICT = "conflict"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    IDEMPOTENCY_IN_PROGRESS = "idempotency_in_progress"
    IDEMPOTENCY_ANSWERED = "idempotency_answered"
    TOO_LARGE = "request_too_large"
    HEADERS_TOO_LARGE = "headers_too_large"
    EXPECTATION_FAILED = "expectation_failed"
    QUOTA_EXCEEDED = "quota_exceeded"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    OVERLOADED = "overloaded"
    POLICY_ERROR = "policy_error"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    UPSTREAM_BUSY = "upstream_busy"
    UPSTREAM_BROKEN = "upstream_broken"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    STORE_UNAVAILABLE = "store_unavailable"
    IDENTITY_UNAVAILABLE = "identity_unavailable"
    LOOP = "loop_detected"
    INTERNAL = "internal_error"


@dataclass(frozen=True, slots=True)
class RateState:
    """A limit that was not kept, for its headers. `window_s` is None for a limit on calls at the same time."""

    limit: str
    calls: int
    window_s: int | None
    left: int
    wait_s: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """`error` is the sentence for the caller, `hint` says what would change it."""

    reason: Reason
    error: str
    hint: str | None = None
    fields: Mapping[str, object] = field(default_factory=dict)
    retry_at: datetime | None = None
    retry_after_s: int | None = None
    rate: RateState | None = None


def invalid_request(error: str, name: str | None = None, hint: str | None = None) -> Refusal:
    return Refusal(Reason.INVALID_REQUEST, error, hint, {"field": name} if name else {})


def expectation_failed() -> Refusal:
    return Refusal(Reason.EXPECTATION_FAILED, "Only the expectation 100-continue is understood")


def unauthorized(detail: str, hint: str | None = None) -> Refusal:
    """`detail` is one of the origin's endings: No token provided, Invalid token, User not found."""
    return Refusal(Reason.UNAUTHORIZED, f"Unauthorized - {detail}", hint)


def insufficient_credits(required: int, current: int) -> Refusal:
    """Both in micro-credits."""
    return Refusal(
        Reason.INSUFFICIENT_CREDITS,
        "Insufficient credits",
        "Top up credits, or subscribe to a plan with a daily quota.",
        {"required": to_credits(required), "current": to_credits(current)},
    )


def quota_exceeded(
    metric: str, used: int, limit: int, resets_at: datetime, credits: tuple[int, int] | None = None
) -> Refusal:
    """`credits` are required and current micro-credits, where credits may pay for what the quota does not.

    It stays a lack of quota then, with the moment until which it lasts: waiting mends it, whereas the answer for
    lacking credits would say that only a payment does. Both ways out are named.
    """
    fields: dict[str, object] = {"usage": used, "limit": limit, "remaining": max(limit - used, 0)}
    fields["resetAt"] = iso(resets_at)
    top_up = ""
    if credits is not None:
        required, current = credits
        fields |= {"required": to_credits(required), "current": to_credits(current)}
        top_up = " top up credits,"
    hint = f"Wait until the quota resets at {iso(resets_at)},{top_up} or change to a plan with a larger quota."
    return Refusal(Reason.QUOTA_EXCEEDED, f"{metric.capitalize()} quota exceeded", hint, fields, retry_at=resets_at)


def model_denied(model_key: str, reason: str, rule: str | None = None, required_tier: Tier | None = None) -> Refusal:
    fields: dict[str, object] = {"reason": reason}
    if required_tier is not None:
        fields["requiredTier"] = required_tier
    hint = f"Subscribe to a plan of the {required_tier} tier." if required_tier else None
    return Refusal(Reason.MODEL_DENIED, "Model access denied", hint, fields | {"modelKey": model_key, "rule": rule})


def rate_limited(message: str, state: RateState) -> Refusal:
    return Refusal(
        Reason.RATE_LIMITED,
        "Rate limit exceeded",
        f"Try again in {state.wait_s} s.",
        {"message": message, "retryAfter": state.wait_s, "limit": state.limit},
        retry_after_s=state.wait_s,
        rate=state,
    )


def policy_error() -> Refusal:
    """The policy could not be evaluated, which is never a reason to let a call through."""
    return Refusal(Reason.POLICY_ERROR, "The policy could not be evaluated", "Report the request id to the operator.")


def account_frozen() -> Refusal:
    return Refusal(Reason.ACCOUNT_FROZEN, "Account is frozen", "Contact the support of this service.")


def out_of_scope(scope: Scope) -> Refusal:
    """For a credential that is valid, and not for this."""
    hint = f"Use a key with the scope {str(scope)!r}; operators make keys."
    return Refusal(Reason.FORBIDDEN, "This API key is not allowed to do this", hint, {"scope": str(scope)})


def no_route() -> Refusal:
    return Refusal(Reason.NO_ROUTE, "Not Found", "No route of this service matches the method and path.")


def request_timeout(part: str) -> Refusal:
    """`part` of the request, its body or its headers, did not come in time."""
    error, hint = f"The {part} arrived too slowly", f"Send the {part} without pauses."
    return Refusal(Reason.REQUEST_TIMEOUT, error, hint, {"field": part})


def store_unavailable() -> Refusal:
    return Refusal(
        Reason.STORE_UNAVAILABLE,
        "The ledger cannot answer at the moment",
        "Nothing was forwarded and nothing was charged; try again.",
        retry_after_s=1,
    )


def iso(moment: datetime) -> str:
    """A UTC moment in the form JavaScript clients produce and expect: 2025-01-16T00:00:00.000Z."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"

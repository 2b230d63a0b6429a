"""Refusals as clients see them: stable codes, the origin's fields first, numbers that are numbers."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from policies.refusals import (
    Reason,
    account_frozen,
    insufficient_credits,
    invalid_request,
    iso,
    model_denied,
    no_route,
    quota_exceeded,
    store_unavailable,
    unauthorized,
)
from policies.terms import Tier

MIDNIGHT = datetime(2025, 1, 16, tzinfo=UTC)


def test_the_codes_are_public() -> None:
    """Clients compare them: none may change its spelling or disappear."""
    assert {
        "invalid_request",
        "unauthorized",
        "insufficient_credits",
        "model_denied",
        "no_route",
        "quota_exceeded",
        "upstream_unreachable",
        "upstream_timeout",
        "store_unavailable",
    } <= {reason.value for reason in Reason}
    assert all(reason.value == reason.value.lower() and reason.value.isidentifier() for reason in Reason)


def test_insufficient_credits_says_both_amounts() -> None:
    """In credits, integers where whole, as the origin's `required` and `current`."""
    refusal = insufficient_credits(required=5_000_000, current=1_250_000)
    assert refusal.error == "Insufficient credits"
    assert json.dumps(refusal.fields) == '{"required": 5, "current": 1.25}'
    assert refusal.hint


def test_quota_exceeded_says_when_it_ends() -> None:
    """The origin's four fields; the moment of the reset is the moment to try again."""
    refusal = quota_exceeded("daily", used=48, limit=50, resets_at=MIDNIGHT)
    assert refusal.error == "Daily quota exceeded"
    assert refusal.fields == {"usage": 48, "limit": 50, "remaining": 2, "resetAt": "2025-01-16T00:00:00.000Z"}
    assert list(refusal.fields) == ["usage", "limit", "remaining", "resetAt"]
    assert refusal.retry_at == MIDNIGHT


def test_what_remains_is_never_negative() -> None:
    """After a downgrade more may be used than the limit is; nobody is shown -40."""
    assert quota_exceeded("monthly", used=90, limit=50, resets_at=MIDNIGHT).fields["remaining"] == 0


def test_a_denied_model_says_what_would_unlock_it() -> None:
    """`reason` and `requiredTier` as the origin has them; no tier that nobody can buy is named."""
    refusal = model_denied("app:x", "This model requires pro tier or higher", "ladder", Tier("pro"))
    assert list(refusal.fields) == ["reason", "requiredTier", "modelKey", "rule"]
    assert "pro" in str(refusal.hint)
    without = model_denied("app:x", "Model not found")
    assert (without.fields, without.hint) == ({"reason": "Model not found", "modelKey": "app:x", "rule": None}, None)


@pytest.mark.parametrize("ending", ["No token provided", "Invalid token", "User not found"])
def test_unauthorized_has_the_origins_sentences(ending: str) -> None:
    """Existing clients look at these sentences."""
    assert unauthorized(ending).error == f"Unauthorized - {ending}"


def test_an_invalid_request_names_its_field() -> None:
    """The field where one is to blame, and no empty one where none is."""
    assert invalid_request("model is missing", "/model").fields == {"field": "/model"}
    assert invalid_request("not JSON").fields == {}


def test_only_what_passes_by_itself_says_when_to_try_again() -> None:
    """A retry helps when the store is back or the quota resets, not when the account is frozen."""
    assert store_unavailable().retry_after_s == 1
    assert all(refusal.retry_after_s is None and refusal.retry_at is None for refusal in (account_frozen(), no_route()))


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (MIDNIGHT, "2025-01-16T00:00:00.000Z"),
        (datetime(2025, 1, 16, 1, 2, 3, 999_999, tzinfo=UTC), "2025-01-16T01:02:03.999Z"),
        (datetime(2025, 1, 16, 1, 2, 3, 1_500, tzinfo=UTC), "2025-01-16T01:02:03.001Z"),
    ],
)
def test_moments_are_written_as_javascript_does(moment: datetime, text: str) -> None:
    """Three decimals, cut and not rounded, and a Z."""
    assert iso(moment) == text

"""Exactly one credential counts; two of them are no choice to make for the client."""

from __future__ import annotations

import pytest

from policies.refusals import Reason, Refusal
from proxy.identity.credentials import MAX_TOKEN, Presented, presented


@pytest.mark.parametrize(
    ("authorization", "api_key", "text"),
    [
        (["Bearer abc"], [], "abc"),
        (["bearer abc"], [], "abc"),
        (["BEARER   abc  "], [], "abc"),
        (["Bearer fbx_key"], [], "fbx_key"),
        ([], ["fbx_key"], "fbx_key"),
        ([], ["  fbx_key "], "fbx_key"),
        (["Bearer a b"], [], "a b"),
        (["Bearer " + "x" * MAX_TOKEN], [], "x" * MAX_TOKEN),
    ],
)
def test_one_credential_is_found(authorization: list[str], api_key: list[str], text: str) -> None:
    """As a bearer token in any case of the scheme, or as an API key in its own header."""
    assert presented(authorization, api_key) == Presented(text)


@pytest.mark.parametrize(
    ("authorization", "api_key"),
    [
        ([], []),
        ([""], []),
        (["Bearer"], []),
        (["Bearer "], []),
        (["abc"], []),
        (["Basic dXNlcjpwYXNz"], []),
        (["Bearer\tabc"], []),
        (["Bearerabc"], []),
        (["Token abc"], []),
        ([], [""]),
        ([], ["  "]),
    ],
)
def test_no_bearer_token_is_no_token(authorization: list[str], api_key: list[str]) -> None:
    """401 in the origin's words, for a missing credential and for one of another scheme."""
    refusal = presented(authorization, api_key)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.error) == (Reason.UNAUTHORIZED, "Unauthorized - No token provided")


@pytest.mark.parametrize(
    ("authorization", "api_key"),
    [
        (["Bearer a", "Bearer b"], []),
        (["Bearer a", "Bearer a"], []),
        (["Bearer a", "Basic b"], []),
        (["Bearer a"], ["fbx_b"]),
        (["Bearer a"], [""]),
        ([], ["fbx_a", "fbx_b"]),
    ],
)
def test_several_credentials_are_refused(authorization: list[str], api_key: list[str]) -> None:
    """K02: 400, also when they agree: the backend might follow the other one."""
    refusal = presented(authorization, api_key)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.fields["field"]) == (Reason.INVALID_REQUEST, "Authorization")


def test_an_endless_token_is_refused_early() -> None:
    """J06: longer than any token that carries claims, before anything looks into it."""
    refusal = presented(["Bearer " + "x" * (MAX_TOKEN + 1)], [])
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.error) == (Reason.UNAUTHORIZED, "Unauthorized - Invalid token")


def test_a_key_is_known_by_its_prefix() -> None:
    """Whatever header it came in; everything else is taken for a token."""
    assert Presented("fbx_abc").is_api_key
    assert not Presented("FBX_abc").is_api_key
    assert not Presented("eyJhbGciOiJIUzI1NiJ9.e30.x").is_api_key

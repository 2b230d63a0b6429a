"""Tokens of the app: signed by a known issuer, valid now, naming a user. Nothing a token says of itself is believed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.identity import Jwt
from policies.refusals import Reason, Refusal
from proxy.identity.jwt import MAX_USER_ID, Claims, Fixed, Issuer, verify
from proxy.identity.keys import static_keys

SECRET = "a-secret-that-only-tests-know-of-32-bytes"
OTHER = "another-secret-that-only-tests-know-32b"


def issuer(**fields: Any) -> Jwt:
    values = {"name": "app", "algorithms": ["HS256"], "secret": SECRET, "user": "userId", "email": "email"}
    return Jwt.model_validate(values | fields)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(
    payload: object,
    *,
    header: object = None,
    secret: str = SECRET,
    digest: Callable[..., Any] = hashlib.sha256,
    raw: bytes | None = None,
) -> str:
    """A token by hand, so that it can say what no library would write."""
    head = {"alg": "HS256", "typ": "JWT"} if header is None else header
    signed = b64(json.dumps(head).encode()) + "." + b64(raw if raw is not None else json.dumps(payload).encode())
    return signed + "." + b64(hmac.new(secret.encode(), signed.encode(), digest).digest())


def seconds(offset: float) -> float:
    return datetime.now(UTC).timestamp() + offset


def verified(token: str, issuers: Sequence[Jwt]) -> Claims | Refusal:
    """The outcome, without an event loop: where keys are at hand, nothing is waited for."""
    known = [Issuer(each, Fixed(static_keys(each, Path()))) for each in issuers]
    outcome = verify(token, known, datetime.now(UTC))
    with pytest.raises(StopIteration) as ended:
        outcome.send(None)
    result: Claims | Refusal = ended.value.value
    return result


def refused(token: str, *issuers: Jwt) -> bool:
    outcome = verified(token, issuers or [issuer()])
    if isinstance(outcome, Claims):
        return False
    assert (outcome.reason, outcome.error) == (Reason.UNAUTHORIZED, "Unauthorized - Invalid token")
    return True


def claims(payload: object, **fields: Any) -> Claims:
    outcome = verified(sign(payload), [issuer(**fields)])
    assert isinstance(outcome, Claims), outcome
    return outcome


def test_a_valid_token() -> None:
    """Who it names, their address, and until when it counts, with the clock difference that is tolerated."""
    found = claims({"userId": "ann", "email": "ann@example.com", "exp": 4102444800})
    assert found == Claims("ann", "ann@example.com", datetime(2100, 1, 1, tzinfo=UTC) + timedelta(seconds=30))


def test_a_token_without_an_end() -> None:
    assert claims({"userId": "ann"}) == Claims("ann", None, None)


# J01: whose key, which algorithm.


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, 5, [], ["HS256"], "HS512", "RS256", "hs256"])
def test_the_algorithm_is_ours_to_choose(alg: object) -> None:
    """Neither none nor another algorithm, in any spelling, signed or not."""
    token = sign({"userId": "ann"}, header={"alg": alg, "typ": "JWT"})
    assert refused(token)
    assert refused(token.rpartition(".")[0] + ".")


def test_a_token_without_an_algorithm_is_refused() -> None:
    assert refused(sign({"userId": "ann"}, header={"typ": "JWT"}))


def test_another_hash_under_the_right_name_is_refused() -> None:
    """A signature by SHA-512 in a token that says HS256."""
    assert refused(sign({"userId": "ann"}, digest=hashlib.sha512))


def test_a_wrong_secret_is_refused() -> None:
    """One bit of the signature, of the payload or of the secret makes the difference."""
    assert refused(sign({"userId": "ann"}, secret=OTHER))
    head, payload, signature = sign({"userId": "ann"}).split(".")
    assert refused(f"{head}.{b64(json.dumps({'userId': 'root'}).encode())}.{signature}")
    assert refused(f"{head}.{payload}.{('A' if signature[0] != 'A' else 'B') + signature[1:]}")
    assert refused(f"{head}.{payload}.")
    assert refused(f"{head}.{payload}.{signature[:20]}")


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c", "kid"])
def test_a_key_that_a_token_brings_along_is_ignored(name: str) -> None:
    """J03: a token says neither which key verifies it nor where to fetch one."""
    header = {"alg": "HS256", name: {"kty": "oct", "k": b64(OTHER.encode())} if name == "jwk" else OTHER}
    assert refused(sign({"userId": "ann"}, header=header, secret=OTHER))


def test_an_unknown_critical_extension_is_refused() -> None:
    """J02: RFC 7515 §4.1.11; who does not understand it must not accept the token."""
    assert refused(sign({"userId": "ann"}, header={"alg": "HS256", "crit": ["x"], "x": 1}))


def test_each_issuer_vouches_for_its_own() -> None:
    """Of several issuers the one that signed decides which claim names the user."""
    two = [issuer(), issuer(name="idp", secret=OTHER, user="sub", email="mail")]
    assert verified(sign({"sub": "bob", "email": "b@example.com"}, secret=OTHER), two) == Claims("bob", None, None)
    assert verified(sign({"userId": "ann", "sub": "bob"}), two) == Claims("ann", None, None)
    assert refused(sign({"sub": "bob"}), *two)


# J04: dates, audience, issuer.


@pytest.mark.parametrize(("offset", "valid"), [(3600, True), (-25, True), (-35, False), (-3600, False)])
def test_the_end_of_a_token_and_its_tolerance(offset: float, valid: bool) -> None:
    """Thirty seconds of clock difference are tolerated, and no more."""
    assert refused(sign({"userId": "ann", "exp": seconds(offset)})) is not valid


@pytest.mark.parametrize(("offset", "valid"), [(-3600, True), (25, True), (35, False), (3600, False)])
@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_the_beginning_of_a_token_and_its_tolerance(claim: str, offset: float, valid: bool) -> None:
    """A token from the future does not count yet."""
    assert refused(sign({"userId": "ann", claim: seconds(offset)})) is not valid


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ["soon", "", None, [], {}, "1e400", float("inf"), float("nan")])
def test_a_date_that_is_none_is_refused(claim: str, value: object) -> None:
    """Texts, lists and infinities are no dates."""
    assert refused(sign({"userId": "ann", claim: value}))


@pytest.mark.parametrize("end", [10**12, 10**18, 10**30, 10**400, 253402300800])
def test_an_end_beyond_all_calendars_is_none(end: int) -> None:
    """The token is valid, and nothing fails because its end cannot be written as a date."""
    assert claims({"userId": "ann", "exp": end}).expires_at is None


@pytest.mark.parametrize(
    ("fields", "payload", "valid"),
    [
        ({"audience": "app"}, {"aud": "app"}, True),
        ({"audience": "app"}, {"aud": ["x", "app"]}, True),
        ({"audience": "app"}, {"aud": "application"}, False),
        ({"audience": "app"}, {"aud": []}, False),
        ({"audience": "app"}, {}, False),
        ({"audience": "app"}, {"aud": 5}, False),
        ({}, {"aud": "anything"}, True),
        ({"issuer": "https://id/"}, {"iss": "https://id/"}, True),
        ({"issuer": "https://id/"}, {"iss": "https://id"}, False),
        ({"issuer": "https://id/"}, {"iss": ["https://id/"]}, False),
        ({"issuer": "https://id/"}, {}, False),
        ({}, {"iss": "anyone"}, True),
    ],
)
def test_audience_and_issuer(fields: dict[str, str], payload: dict[str, object], valid: bool) -> None:
    """What the settings ask for has to be there, exactly; what they do not ask for does not matter."""
    assert refused(sign({"userId": "ann"} | payload), issuer(**fields)) is not valid


# The user.


@pytest.mark.parametrize(
    "user",
    [None, "", 5, 5.5, True, [], ["ann"], {"id": "ann"}, "a" * (MAX_USER_ID + 1), "a\nb", "a\0", "a\u200b", "\ud800"],
)
def test_a_claim_that_names_nobody_is_refused(user: object) -> None:
    """Numbers are not texts, and what cannot be printed cannot be told apart."""
    assert refused(sign({"userId": user}))
    assert refused(sign({"sub": "ann"}))


@pytest.mark.parametrize("user", ["a", "auth0|123", "ann@example.com", "Ünïcode", "a b", "a" * MAX_USER_ID])
def test_user_ids_of_every_kind(user: str) -> None:
    assert claims({"userId": user}).user_id == user


@pytest.mark.parametrize("email", [None, 5, [], "a" * 321, "a@b\nX: y", "a\0@b", "\ud800@b"])
def test_an_address_that_is_none_is_not_recorded(email: object) -> None:
    """It decides nothing, so it is left out instead of refused, and never reaches the store."""
    assert claims({"userId": "ann", "email": email}).email is None


# J05: what is not a token.


@pytest.mark.parametrize(
    "token",
    [
        "garbage",
        ".",
        "..",
        "...",
        "a.b.c",
        "a.b.c.d.e",
        "é.é.é",
        "eyJhbGciOiJIUzI1NiJ9",
        sign({"userId": "ann"}) + ".",
        sign({"userId": "ann"}) + "x",
        " ".join(sign({"userId": "ann"}).split(".")),
        sign({"userId": "ann"}, header=[]),
        sign({"userId": "ann"}, header="HS256"),
        sign(["userId", "ann"]),
        sign("ann"),
        sign(None),
        sign(None, raw=b""),
        sign(None, raw=b"{"),
        sign(None, raw=b"\xff\xfe"),
        sign(None, raw=b"[" * 5000),
        sign(None, raw=b'{"userId": ' + b"9" * 5000 + b"}"),
    ],
)
def test_garbage_is_refused(token: str) -> None:
    """Whatever it is, the answer is 401 and not a fault."""
    assert refused(token)


@settings(deadline=None)
@given(st.text(max_size=80) | st.from_regex(r"[A-Za-z0-9_-]{0,30}\.[A-Za-z0-9_-]{0,30}\.[A-Za-z0-9_-]{0,30}"))
def test_any_text_is_refused(token: str) -> None:
    """No text that nobody signed is a token, and none raises."""
    assert isinstance(verified(token, [issuer()]), Refusal)


def test_without_issuers_nothing_is_valid() -> None:
    assert isinstance(verified(sign({"userId": "ann"}), []), Refusal)

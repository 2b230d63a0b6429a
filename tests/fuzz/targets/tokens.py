"""Signed tokens: one spelling each, the claims that PyJWT reads, and no token that PyJWT would refuse."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import jwt

from policies.refusals import Refusal
from proxy.identity import jws
from proxy.identity.jwt import verify
from tests.fuzz.inputs import Bytes
from tests.proxy.identity.tokens import SECRET, at_once, b64, issuer, settings, signature

_NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
_AT = int(_NOW.timestamp())
_ISSUER = issuer(settings("HS256", user="sub", issuer="idp", audience="app"))
_OPTIONS = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_sub": False}
_HEADER = b'{"alg":"HS256"}'
_WORDS = rb"""{"alg":"HS256"} {"alg":"none"} "typ":"JWT" "kid":"a" "crit":[] "alg" {"sub":"ann","iss":"idp","aud":"app"}
"sub" "iss" "aud" ["app"] "exp" "nbf" "iat" 1768478400 1768478401.5 1e10 -1 null true "\u0073ub" "b64":false . = -_ +/
eyJhbGciOiJIUzI1NiJ9 , : " { }"""
WORDS = [*_WORDS.split(), b"\n", b" ", b"\xff"]
_CLAIMS = b'{"sub":"ann","iss":"idp","aud":"app","exp":1768478500,"nbf":1768478000}'
SEEDS = [
    b"\0" + b64(_HEADER).encode() + b"." + b64(_CLAIMS).encode() + b".c2lnbmF0dXJl",
    b"\0" + b64(_HEADER).encode() + b".e30.YQ",
    b"\1" + _CLAIMS,
    b"\2" + _HEADER + b"\n" + _CLAIMS,
    b"\2" + _HEADER + b'\n{"sub":"ann","iss":"idp","aud":["x","app"]}',
]


def check(data: bytes) -> None:
    source = Bytes(data)
    match source.choice(3):
        case 0:
            _one_spelling(source.rest().decode("latin-1"))
        case 1:
            _one_spelling(_signed(_HEADER, source.rest()))
            _judged_alike(_HEADER, source.rest())
        case _:
            header, _, claims = source.rest().partition(b"\n")
            _judged_alike(header, claims)


def _signed(header: bytes, claims: bytes) -> str:
    text = f"{b64(header)}.{b64(claims)}"
    return f"{text}.{b64(signature('HS256', text, SECRET.encode()))}"


def _one_spelling(text: str) -> None:
    """What is read is spelled as an encoder spells it, so no other text is the same token."""
    token = jws.read(text)
    if token is None:
        return
    header, claims, sign = text.split(".")
    assert b64(token.signature) == sign
    assert token.signed == f"{header}.{claims}".encode()
    unverified = jwt.decode_complete(text, options={"verify_signature": False, **_OPTIONS})
    assert unverified["header"]["alg"] == token.algorithm
    assert unverified["header"].get("kid") == token.key_id
    assert unverified["payload"] == json.loads(json.dumps(dict(token.claims), default=float))
    for other in (text + "=", text + "\n", " " + text, f"{header}=.{claims}.{sign}", text.replace("-", "+")):
        assert other == text or jws.read(other) is None


def _judged_alike(header: bytes, claims: bytes) -> None:
    text = _signed(header, claims)
    found = at_once(verify(text, [_ISSUER], _NOW))
    if isinstance(found, Refusal):
        return
    theirs = jwt.decode(text, SECRET, algorithms=["HS256"], issuer="idp", audience="app", options=_OPTIONS)
    assert theirs["sub"] == found.user_id
    leeway = _ISSUER.settings.leeway.total_seconds()
    assert theirs.get("exp", _AT) >= _AT - leeway
    assert max(theirs.get("nbf", 0), theirs.get("iat", 0)) <= _AT + leeway

"""JSON Web Tokens that the app already hands to its clients (RFC 7519, verified as RFC 8725 asks).

A token is valid when an issuer of the settings vouches for it: its algorithm is one of the issuer's, its `iss`, `aud`
and `typ` are what the issuer's settings say, one of the issuer's keys has signed it, and it counts at this moment. No
part of a token chooses how it is judged. Called by `proxy.identity.identifier`, which remembers the outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

from jwt import encode

from config.identity import Jwt
from policies.refusals import Reason, Refusal, unauthorized
from proxy.identity import jws
from proxy.identity.jws import Token
from proxy.identity.keys import Key


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. `expires_at` is None when the issuer sets no end."""

    user_id: str
    email: str | None
    expires_at: datetime | None
    roles: frozenset[str] = frozenset()


class KeySource(Protocol):
    """Where an issuer's keys come from."""

    @property
    def keys(self) -> Sequence[Key]:
        """Those in force; none when there are none that can still be trusted."""

    async def fetched_again(self) -> bool:
        """Look for newer ones; False when there are none, or it is too early to ask again."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Keys of the settings."""

    keys: Sequence[Key]

    async def fetched_again(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Issuer:
    """One issuer, with its keys."""

    settings: Jwt
    source: KeySource


MAX_USER_ID = 200
"""Characters in a user id: identity providers use up to 128."""

MAX_ROLES = 100
"""Of one token; those after it are not looked at."""

MAX_EMAIL = 320
"""Characters in an e-mail address (RFC 3696, 3); a longer one is not recorded."""

KEYS_AGAIN_S = 5
"""When to try again where the keys of an issuer cannot be had."""

_USUAL_TYPES = frozenset({"jwt", "at+jwt"})
"""RFC 7519 §5.1 and RFC 9068. Tokens of other types are for other purposes, such as logging out (RFC 8725 §3.11)."""


async def verify(text: str, issuers: Sequence[Issuer], now: datetime, *, fetch: bool = True) -> Claims | Refusal:
    """The claims of a token that one of the issuers vouches for at `now`. Waits only where keys have to be fetched,
    and never without `fetch`.
    """
    token = jws.read(text)
    missing = False
    for issuer in issuers if token is not None else ():
        assert token is not None, "there are no issuers to ask without one"
        if not _is_of(token, issuer.settings) or not _is_current(token.claims, issuer.settings, now):
            continue
        if await _signed(token, issuer.source, fetch):
            return _claims(token.claims, issuer.settings)
        missing = missing or not issuer.source.keys
    return _keys_missing() if missing else _invalid()


def signed(issuer: Jwt, user_id: str, now: datetime, lasts: timedelta) -> str:
    """A token of this issuer for a user, as the app behind Farebox hands it out: for questions of Farebox's own."""
    claims: dict[str, Any] = {issuer.user: user_id, "iat": now, "exp": now + lasts}
    claims |= {"iss": issuer.issuer} if issuer.issuer is not None else {}
    claims |= {"aud": issuer.audience} if issuer.audience is not None else {}
    assert issuer.secret is not None, "settings are checked: only who shares a secret can be spoken for"
    return encode(claims, issuer.secret.get_secret_value(), algorithm="HS256")


async def _signed(token: Token, source: KeySource, fetch: bool) -> bool:
    """Whether one of the keys has signed the token. A key that nobody knows may be new; then newer ones are fetched."""
    if _verified(token, source.keys):
        return True
    known = token.key_id is not None and any(key.key_id == token.key_id for key in source.keys)
    return fetch and not known and await source.fetched_again() and _verified(token, source.keys)


def _verified(token: Token, keys: Sequence[Key]) -> bool:
    fitting = (key for key in keys if key.fits(token.algorithm, token.key_id))
    return any(key.verifies(token.algorithm, token.signed, token.signature) for key in fitting)


def _is_of(token: Token, issuer: Jwt) -> bool:
    """Whether a token could be of this issuer, and meant for us, by what it says."""
    says, audience = token.claims.get("iss"), token.claims.get("aud", [])
    named = [audience] if isinstance(audience, str) else audience
    if token.algorithm not in issuer.algorithms or not isinstance(says, str | None):
        return False
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        return False
    if issuer.issuer is not None and says != issuer.issuer:
        return False
    if issuer.audience is not None and issuer.audience not in named:
        return False
    kind = None if token.type is None else token.type.lower().removeprefix("application/")
    if issuer.types:
        return kind in {name.lower().removeprefix("application/") for name in issuer.types}
    return kind is None or kind in _USUAL_TYPES


def _is_current(claims: Mapping[str, Any], issuer: Jwt, now: datetime) -> bool:
    """Whether a token has begun, has not ended, and has every claim that the settings require (RFC 7519 §4.1)."""
    if any(claims.get(name) is None for name in issuer.require):
        return False
    moments = {name: claims[name] for name in ("exp", "nbf", "iat") if name in claims}
    if not all(_is_number(moment) for moment in moments.values()):
        return False
    late, early = (Decimal((now + sign * issuer.leeway).timestamp()) for sign in (1, -1))
    return not (
        ("exp" in moments and moments["exp"] <= early)
        or ("nbf" in moments and moments["nbf"] > late)
        or ("iat" in moments and moments["iat"] > late)
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _claims(claims: Mapping[str, Any], issuer: Jwt) -> Claims | Refusal:
    user_id = claims.get(issuer.user)
    if not isinstance(user_id, str) or not user_id or not user_id.isprintable():
        return _nobody(issuer)
    user_id = issuer.user_prefix + user_id
    if len(user_id) > MAX_USER_ID:
        return _nobody(issuer)
    email = claims.get(issuer.email) if issuer.email else None
    is_address = isinstance(email, str) and len(email) <= MAX_EMAIL and email.isprintable()
    roles = _roles(claims.get(issuer.roles)) if issuer.roles else frozenset()
    return Claims(user_id, email if is_address else None, _end(claims.get("exp"), issuer.leeway), roles)


def _roles(stated: Any) -> frozenset[str]:
    """The roles of a claim: a list of texts, or one text with spaces, as `scope` has it (RFC 8693, 4.2)."""
    names = stated.split(" ") if isinstance(stated, str) else stated if isinstance(stated, list) else []
    return frozenset(name for name in names[:MAX_ROLES] if isinstance(name, str) and name)


def _end(expires: int | Decimal | None, leeway: timedelta) -> datetime | None:
    """When a verified token ends; an end beyond all calendars is none."""
    try:
        return None if expires is None else datetime.fromtimestamp(float(expires), UTC) + leeway
    except (OverflowError, ValueError, OSError):
        return None


def _invalid() -> Refusal:
    return unauthorized("Invalid token", "The token is malformed, expired, or not signed by a known issuer.")


def _nobody(issuer: Jwt) -> Refusal:
    return unauthorized("Invalid token", f"The claim {issuer.user!r} does not name a user.")


def _keys_missing() -> Refusal:
    """Nobody can tell whether the token is valid, and its sender can do nothing about it."""
    hint = "Nothing was forwarded and nothing was charged; try again."
    error = "The keys that verify this token cannot be fetched at the moment"
    return Refusal(Reason.IDENTITY_UNAVAILABLE, error, hint, retry_after_s=KEYS_AGAIN_S)

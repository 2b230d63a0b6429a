"""JSON Web Tokens that the app already hands to its clients (RFC 7519, verified as RFC 8725 asks)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from config.settings import Jwt
from policies.refusals import Refusal, unauthorized


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. `expires_at` is None when the issuer sets no end."""

    user_id: str
    email: str | None
    expires_at: datetime | None
    roles: frozenset[str] = frozenset()


MAX_USER_ID = 200
"""Characters in a user id: identity providers use up to 128."""

MAX_ROLES = 100
"""Of one token; those after it are not looked at."""

MAX_EMAIL = 320
"""Characters in an e-mail address (RFC 3696, 3); a longer one is not recorded."""


def verify(token: str, issuers: Sequence[Jwt]) -> Claims | Refusal:
    """The claims of a token that one of the issuers has signed and that is valid now."""
    for issuer in issuers:
        claims = _verified(token, issuer)
        if claims is not None:
            return _claims(claims, issuer)
    return unauthorized("Invalid token", "The token is malformed, expired, or not signed by a known issuer.")


def signed(issuer: Jwt, user_id: str, now: datetime, lasts: timedelta) -> str:
    """A token of this issuer for a user, as the app behind Farebox hands it out: for questions of Farebox's own."""
    claims: dict[str, Any] = {issuer.user: user_id, "iat": now, "exp": now + lasts}
    claims |= {"iss": issuer.issuer} if issuer.issuer is not None else {}
    claims |= {"aud": issuer.audience} if issuer.audience is not None else {}
    return jwt.encode(claims, issuer.secret.get_secret_value(), algorithm=issuer.algorithms[0])


def _verified(token: str, issuer: Jwt) -> dict[str, Any] | None:
    """The payload when this issuer vouches for it. The algorithm is ours to choose, never the token's."""
    try:
        payload: dict[str, Any] = jwt.decode(
            token,
            issuer.secret.get_secret_value(),
            algorithms=list(issuer.algorithms),
            issuer=issuer.issuer,
            audience=issuer.audience,
            leeway=issuer.leeway,
            options={"verify_aud": issuer.audience is not None, "verify_sub": False},
        )
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
        return None
    return payload


def _claims(payload: dict[str, Any], issuer: Jwt) -> Claims | Refusal:
    user_id = payload.get(issuer.user)
    if not isinstance(user_id, str) or not 0 < len(user_id) <= MAX_USER_ID or not user_id.isprintable():
        return unauthorized("Invalid token", f"The claim {issuer.user!r} does not name a user.")
    email = payload.get(issuer.email) if issuer.email else None
    is_address = isinstance(email, str) and len(email) <= MAX_EMAIL and email.isprintable()
    roles = _roles(payload.get(issuer.roles)) if issuer.roles else frozenset()
    return Claims(user_id, email if is_address else None, _end(payload.get("exp"), issuer.leeway), roles)


def _roles(stated: Any) -> frozenset[str]:
    """The roles of a claim: a list of texts, or one text with spaces, as `scope` has it (RFC 8693, 4.2)."""
    names = stated.split(" ") if isinstance(stated, str) else stated if isinstance(stated, list) else []
    return frozenset(name for name in names[:MAX_ROLES] if isinstance(name, str) and name)


def _end(expires: Any, leeway: timedelta) -> datetime | None:
    """When a verified token ends; an end beyond all calendars is none."""
    try:
        return None if expires is None else datetime.fromtimestamp(float(expires), UTC) + leeway
    except (OverflowError, ValueError, OSError):
        return None

"""A signed token as text, read in one way or not at all (RFC 7515 §3.1, RFC 8725 §2). Pure; verifies nothing.

Libraries forgive much here: padding, foreign characters between those of base64url, bits that belong to no byte,
members given twice. Each of them makes two texts out of one token, or two readings out of one text, so that what one
party has judged is not what another will see. Nothing of it is forgiven.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, NamedTuple

from proxy import strict_json

MAX_KEY_ID = 500
"""Characters of a `kid`: certificates' thumbprints and the URLs of cloud providers fit."""

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)


class Token(NamedTuple):
    """What a token says of itself. Nothing of it is true until a key of ours says so."""

    algorithm: str
    key_id: str | None
    type: str | None
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes


def read(text: str) -> Token | None:
    """The token in its compact form, or None for anything else: encrypted, nested, detached or unsigned ones too."""
    parts = _COMPACT.fullmatch(text)
    if parts is None:
        return None
    header, claims, signature = (_bytes(part) for part in parts.groups())
    if header is None or claims is None or not signature:
        return None
    head, body = _object(header), _object(claims)
    if head is None or body is None:
        return None
    algorithm, key_id, kind = head.get("alg"), head.get("kid"), head.get("typ")
    if not isinstance(algorithm, str) or "crit" in head:
        # RFC 7515 §4.1.11: who does not understand an extension that is critical must refuse. None is understood here.
        return None
    if not _is_text(key_id, MAX_KEY_ID) or not _is_text(kind, 100):
        return None
    # `jwk`, `jku`, `x5u` and `x5c` are not read: a token does not choose the key that judges it (RFC 8725 §3.10).
    return Token(algorithm, key_id, kind, body, text.rpartition(".")[0].encode(), signature)


def _bytes(part: str) -> bytes | None:
    """What a part stands for, if it is written in the one way that base64url has for it (RFC 7515 §2)."""
    if len(part) % 4 == 1:
        return None
    decoded = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    return decoded if urlsafe_b64encode(decoded).rstrip(b"=").decode() == part else None


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        document = strict_json.parse(data)
    except strict_json.Unreadable:
        return None
    return document if isinstance(document, dict) and not strict_json.has_repeated_key(document) else None


def _is_text(value: object, longest: int) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= longest)

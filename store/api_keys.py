"""API keys: only the hash of a key is stored, and the visible beginning by which people recognise it.

A key is `fbx_` and 43 random characters: 256 bits that nobody can guess, so a plain SHA-256 is enough of a hash. Its
visible beginning finds the row, and the hashes are compared in constant time; for a beginning that nobody has, a
comparison is made all the same, so that it takes as long to be wrong as to be unknown.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.terms import AccountId, Scope
from store.subscriptions import bump_revision
from store.tables import api_keys

PREFIX = "fbx_"
_VISIBLE = 12
_NOBODYS = "0" * 64
"""What the hash of a key that is not known is compared with."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that was presented and is known. Whether it is still valid is for the caller to say, with `now`."""

    key_id: str
    user_id: str
    account_id: AccountId
    models: tuple[str, ...]
    scopes: frozenset[Scope]
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Rotated:
    """A new key in the place of an old one. `key` is shown this one time; `old_ends_at` is until when both count."""

    key_id: str
    key: str
    user_id: str
    account_id: AccountId
    models: tuple[str, ...]
    scopes: tuple[str, ...]
    expires_at: datetime | None
    old_ends_at: datetime


class NotRotated(Enum):
    """Why a key has no successor now."""

    UNKNOWN = "unknown"
    ENDED = "ended"
    ROTATED = "rotated"


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def create(
    connection: Connection,
    user_id: str,
    account_id: AccountId,
    name: str,
    models: Sequence[str],
    expires_at: datetime | None,
    now: datetime,
    scopes: Sequence[str] = tuple(Scope),
) -> tuple[str, str]:
    """A new key: its id, and the key itself, which is shown this one time and cannot be shown again."""
    key = PREFIX + secrets.token_urlsafe(32)
    values = {
        "id": key[:_VISIBLE],
        "sha256": digest(key),
        "account_id": account_id,
        "user_id": user_id,
        "name": name,
        "models": list(models),
        "scopes": [str(scope) for scope in scopes],
        "created_at": now,
        "expires_at": expires_at,
    }
    connection.execute(sa.insert(api_keys).values(values))
    return key[:_VISIBLE], key


def find(connection: Connection, key: str) -> ApiKey | None:
    """The key that was presented, if it is one that was made here."""
    row = connection.execute(sa.select(api_keys).where(api_keys.c.id == key[:_VISIBLE])).first()
    if not hmac.compare_digest(digest(key), _NOBODYS if row is None else row.sha256) or row is None:
        return None
    account_id, models, scopes = AccountId(row.account_id), tuple(row.models), frozenset(map(Scope, row.scopes))
    return ApiKey(row.id, row.user_id, account_id, models, scopes, row.expires_at, row.revoked_at)


def rotate(connection: Connection, key_id: str, overlap: timedelta, now: datetime) -> Rotated | NotRotated:
    """A new key that may do what the old one may, which itself ends after `overlap`, or earlier where it was to.

    The new key lasts as long as the old one was made to last. A key is rotated once: its successor is the next one.
    """
    # Locked: of two operators who rotate the same key one is told.
    old = connection.execute(sa.select(api_keys).where(api_keys.c.id == key_id).with_for_update()).first()
    if old is None:
        return NotRotated.UNKNOWN
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
        return NotRotated.ENDED
    if old.replaced_by is not None:
        return NotRotated.ROTATED
    account_id = AccountId(old.account_id)
    expires_at = None if old.expires_at is None else now + (old.expires_at - old.created_at)
    new_id, key = create(connection, old.user_id, account_id, old.name, old.models, expires_at, now, old.scopes)
    ends_at = now + overlap if old.expires_at is None else min(old.expires_at, now + overlap)
    ending = {"expires_at": ends_at, "replaced_by": new_id}
    connection.execute(sa.update(api_keys).where(api_keys.c.id == key_id).values(ending))
    models, scopes = tuple(old.models), tuple(old.scopes)
    return Rotated(new_id, key, old.user_id, account_id, models, scopes, expires_at, ends_at)


def revoke(connection: Connection, key_id: str, now: datetime) -> bool:
    """End a key; False when there is none of this id. The account's revision changes, so no cache keeps it alive."""
    query = sa.update(api_keys).where(api_keys.c.id == key_id).returning(api_keys.c.account_id)
    revoked_at = sa.func.coalesce(api_keys.c.revoked_at, sa.literal(now, api_keys.c.revoked_at.type))
    account_id = connection.execute(query.values(revoked_at=revoked_at)).scalar()
    if account_id is None:
        return False
    bump_revision(connection, account_id)
    return True


def page(connection: Connection, account_id: int | None) -> list[dict[str, Any]]:
    """All keys, or those of one account, without their hashes."""
    query = sa.select(*(column for column in api_keys.c if column.name != "sha256")).order_by(api_keys.c.created_at)
    if account_id is not None:
        query = query.where(api_keys.c.account_id == account_id)
    return [dict(row) for row in connection.execute(query).mappings()]

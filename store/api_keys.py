"""API keys: only the hash of a key is stored, and the visible beginning by which people recognise it.

A key is `fbx_` and 43 random characters: 256 bits that nobody can guess, so a plain SHA-256 is enough of a hash.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.terms import AccountId
from store.subscriptions import bump_revision
from store.tables import api_keys

PREFIX = "fbx_"
_VISIBLE = 12


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that was presented and is known. Whether it is still valid is for the caller to say, with `now`."""

    key_id: str
    user_id: str
    account_id: AccountId
    models: tuple[str, ...]
    expires_at: datetime | None
    revoked_at: datetime | None


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
        "created_at": now,
        "expires_at": expires_at,
    }
    connection.execute(sa.insert(api_keys).values(values))
    return key[:_VISIBLE], key


def find(connection: Connection, key: str) -> ApiKey | None:
    row = connection.execute(sa.select(api_keys).where(api_keys.c.sha256 == digest(key))).first()
    if row is None:
        return None
    account_id, models = AccountId(row.account_id), tuple(row.models)
    return ApiKey(row.id, row.user_id, account_id, models, row.expires_at, row.revoked_at)


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

"""What only operators ask of the store: the users of an account, its tags changed in place, the holds that are open."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from store.accounts import set_tags
from store.tables import accounts, holds, users

Row = dict[str, Any]


def users_of(connection: Connection, account_id: int) -> list[Row]:
    """The users that an account pays for, oldest first: `id`, `email`, `created_at`."""
    query = sa.select(users.c.id, users.c.email, users.c.created_at).where(users.c.account_id == account_id)
    return [dict(row) for row in connection.execute(query.order_by(users.c.created_at, users.c.id)).mappings()]


def change_tags(connection: Connection, account_id: int, add: Iterable[str], remove: Iterable[str]) -> list[str]:
    """Add and remove tags; the tags that the account has then. Two operators at once lose neither's change."""
    locked = sa.select(accounts.c.tags).where(accounts.c.id == account_id).with_for_update()
    before = set(connection.execute(locked).scalar_one())
    after = (before | set(add)) - set(remove)
    if after != before:
        set_tags(connection, account_id, sorted(after))
    return sorted(after)


def open_holds_of(connection: Connection, account_id: int | None, limit: int) -> list[Row]:
    """Open holds, the soonest due first; of one account, or of all."""
    query = sa.select(holds).where(holds.c.state == "reserved").order_by(holds.c.deadline, holds.c.id).limit(limit)
    if account_id is not None:
        query = query.where(holds.c.account_id == account_id)
    return [dict(row) for row in connection.execute(query).mappings()]

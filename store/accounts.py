"""Accounts and their users: who pays, what a decision about them depends on, and how they come to exist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from policies.callers import Account
from policies.terms import AccountId, AccountKind, UserId
from store.batch import run_batch
from store.open_holds import taken_by_open_holds
from store.subscriptions import bump_revision, current
from store.tables import accounts, credit_grants, users
from store.verbs import GrantCredits, GrantSource

WELCOME_KEY = "welcome"


@dataclass(frozen=True, slots=True)
class User:
    """A user with the account that pays for them."""

    user_id: UserId
    email: str | None
    account: Account


def find_user(connection: Connection, user_id: str) -> User | None:
    query = sa.select(accounts, users.c.id.label("user_id"), users.c.email)
    query = query.join(users, users.c.account_id == accounts.c.id).where(users.c.id == user_id)
    row = connection.execute(query).first()
    return User(UserId(row.user_id), row.email, _account(connection, row)) if row is not None else None


def find_account(connection: Connection, account_id: int) -> Account | None:
    row = connection.execute(sa.select(accounts).where(accounts.c.id == account_id)).first()
    return _account(connection, row) if row is not None else None


def _account(connection: Connection, row: Row[Any]) -> Account:
    account_id = AccountId(row.id)
    return Account(
        account_id=account_id,
        revision=row.revision,
        kind=AccountKind(row.kind),
        tags=frozenset(row.tags),
        frozen=row.frozen_at is not None,
        subscription=current(connection, account_id),
    )


def create_user(
    connection: Connection, user_id: str, email: str | None, welcome: int, grant_id: int, now: datetime
) -> tuple[User, bool]:
    """The user, made with a new pay-as-you-go account and `welcome` micro-credits if there was none.

    The second value tells whether the user is new. Use `ensure_user`, which survives a simultaneous creation.
    """
    found = find_user(connection, user_id)
    if found is not None:
        return found, False
    values = {"kind": AccountKind.USER, "tags": [], "created_at": now}
    account_id = connection.execute(sa.insert(accounts).values(values).returning(accounts.c.id)).scalar_one()
    connection.execute(sa.insert(users).values(id=user_id, account_id=account_id, email=email, created_at=now))
    if welcome:
        text = "Welcome bonus"
        verb = GrantCredits(grant_id, AccountId(account_id), welcome, GrantSource.BONUS, WELCOME_KEY, text)
        run_batch(connection, [verb], lambda _: now)
    created = find_user(connection, user_id)
    assert created is not None, "the user was inserted above"
    return created, True


def set_tags(connection: Connection, account_id: int, tags: Sequence[str]) -> None:
    connection.execute(sa.update(accounts).where(accounts.c.id == account_id).values(tags=sorted(set(tags))))
    bump_revision(connection, account_id)


def set_frozen(connection: Connection, account_id: int, frozen_at: datetime | None) -> None:
    """A frozen account is refused everything, and keeps what it has."""
    connection.execute(sa.update(accounts).where(accounts.c.id == account_id).values(frozen_at=frozen_at))
    bump_revision(connection, account_id)


def page(connection: Connection, after: int, limit: int) -> list[dict[str, Any]]:
    """Accounts with a user each, in the order of their ids, for operators: with what each has `available`."""
    query = (
        sa.select(accounts, users.c.id.label("user_id"), users.c.email)
        .join(users, users.c.account_id == accounts.c.id, isouter=True)
        .where(accounts.c.id > after)
        .order_by(accounts.c.id)
        .limit(limit)
    )
    rows = [dict(row) for row in connection.execute(query).mappings()]
    ids = [row["id"] for row in rows]
    grants = credit_grants.c
    unspent = sa.select(grants.account_id, sa.func.sum(grants.unspent)).where(grants.account_id.in_(ids))
    rows_of = connection.execute(unspent.where(sa.text("NOT spent")).group_by(grants.account_id))
    posted = {account_id: int(total) for account_id, total in rows_of}
    held = taken_by_open_holds(connection, ids).credits
    return [{**row, "available": posted.get(row["id"], 0) - held[row["id"]]} for row in rows]

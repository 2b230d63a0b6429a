"""Users brought along from another system, many in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.terms import AccountId, AccountKind
from store.batch import run_batch
from store.tables import accounts, users
from store.verbs import GrantCredits, Granted, GrantSource

IMPORT_KEY = "import"
"""Of the grant: whoever is imported again gets nothing again."""


@dataclass(frozen=True, slots=True)
class ImportedUser:
    """A user with the micro-credits they bring along, none or more. `grant_id` is used if a grant is made."""

    user_id: str
    email: str | None
    micro_credits: int
    grant_id: int


@dataclass(frozen=True, slots=True)
class Imported:
    """What a batch has done: users made, grants made and their sum. The rest was there already."""

    created: int
    grants: int
    micro_credits: int


def import_users(connection: Connection, rows: Sequence[ImportedUser], now: datetime) -> Imported:
    """Make the users that are missing, and grant to all what they bring along. Safe to repeat, in any batches.

    Set-based, unlike `accounts.create_user`: an import has a hundred thousand users where the gate has one.
    """
    ids = [row.user_id for row in rows]
    known = connection.execute(sa.select(users.c.id, users.c.account_id).where(users.c.id.in_(ids)))
    account_of = {row.id: AccountId(row.account_id) for row in known}
    missing = [row for row in rows if row.user_id not in account_of]
    if missing:
        account_of |= _create(connection, missing, now)
    grants = [_grant(row, account_of[row.user_id]) for row in rows if row.micro_credits]
    outcomes = run_batch(connection, grants, lambda _: now)
    made = [outcome.amount for outcome in outcomes if isinstance(outcome, Granted) and outcome.changed]
    return Imported(len(missing), len(made), sum(made))


def _create(connection: Connection, rows: Sequence[ImportedUser], now: datetime) -> dict[str, AccountId]:
    """New users, each with an account of their own. New accounts are all alike: any user may have any of them."""
    account = {"kind": AccountKind.USER, "tags": [], "created_at": now}
    numbers = connection.scalars(sa.insert(accounts).returning(accounts.c.id), [account for _ in rows]).all()
    values = [
        {"id": row.user_id, "account_id": number, "email": row.email, "created_at": now}
        for row, number in zip(rows, numbers, strict=True)
    ]
    connection.execute(sa.insert(users), values)
    return {value["id"]: AccountId(value["account_id"]) for value in values}


def _grant(row: ImportedUser, account_id: AccountId) -> GrantCredits:
    text = "Credits brought along"
    return GrantCredits(row.grant_id, account_id, row.micro_credits, GrantSource.ADJUST, IMPORT_KEY, text)

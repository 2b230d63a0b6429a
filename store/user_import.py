"""Users brought along from another system, many in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from policies.terms import AccountId
from store.accounts import create_user
from store.batch import run_batch
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
    """Make the users that are missing, and grant to all what they bring along. Safe to repeat, in any batches."""
    created = 0
    grants: list[GrantCredits] = []
    for row in rows:
        user, is_new = create_user(connection, row.user_id, row.email, 0, row.grant_id, now)
        created += is_new
        if row.micro_credits:
            grants.append(_grant(row, user.account.account_id))
    outcomes = run_batch(connection, grants, lambda _: now)
    made = [outcome.amount for outcome in outcomes if isinstance(outcome, Granted) and outcome.changed]
    return Imported(created, len(made), sum(made))


def _grant(row: ImportedUser, account_id: AccountId) -> GrantCredits:
    text = "Credits brought along"
    return GrantCredits(row.grant_id, account_id, row.micro_credits, GrantSource.ADJUST, IMPORT_KEY, text)

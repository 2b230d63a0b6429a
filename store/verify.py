"""The laws of the ledger, checked on a database: by `farebox ledger verify`, and by the tests after every step.

It reads only, on the one snapshot of its connection, along primary keys and a chunk at a time: the database adds up,
and memory holds one chunk's accounts whatever the number of rows. Nothing is repaired here; a breach is a bug, or
somebody else's hand in the tables.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from store.findings import Findings, Progress, chunks
from store.tables import accounts, holds, subscriptions, usage_events
from store.verify_accounts import check_balances, check_charges, check_windows
from store.verify_grants import check_grants, check_jobs, check_keys, check_provenance, check_spending
from store.verify_rows import check_holds, check_holds_of_usage, check_usage_of_holds
from store.verify_subscriptions import check_one_current, check_subscriptions
from store.verify_usage import check_archived, check_everybody, check_roll_up

ACCOUNTS_AT_ONCE = 500
"""Accounts in memory at once, each with its windows and its open holds."""

ROWS_AT_ONCE = 5_000
"""Rows that one statement of the other passes looks at: some milliseconds, so that progress is seen to move."""

LAWS = {
    "balances": "What an account's grants have left, less what is owed, is the sum of its ledger entries.",
    "entries": "Entries are numbered without a gap, add up one by one, and each names what it is about.",
    "available": "Nobody has spent more than they had, but for overruns that were booked as such.",
    "grants": "Each grant was booked once, with its amount.",
    "provenance": "Open holds have taken their amount, and no more of a grant than it has left.",
    "spending": "What is gone from a grant was spent by holds, has lapsed, was deducted, or repaid an overrun.",
    "windows": "A quota window has used what settled holds kept, and is there while an open one has taken from it.",
    "rollover": "What a quota window has carried over is within what the plan allows that it was opened by.",
    "charges": "Every charge and refund in the ledger belongs to one hold and has its amount, or was archived.",
    "holds": "A hold ended at most once, and took no more than it had taken aside or recorded as its overrun.",
    "usage": "Every hold that was charged has exactly one usage event, of its amount; no other hold has one.",
    "keys": "A key has made one grant, and a job is paid for by one hold.",
    "rollup": "Usage by day is what was counted of the usage that is here, and all that was archived.",
    "subscriptions": "An account has at most one current subscription, and the events of each lead to its row.",
    "payments": "Every payment is of the amount that was due, and nothing started, renewed or upgraded without one.",
}
"""Every law with its sentence, in the order in which they are reported."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result for one law: how many rows it was checked on, and what breaks it, if anything.

    A breach names the account, hold or entry, and the amounts that differ. At most `MAX_LISTED` are listed.
    """

    name: str
    sentence: str
    checked: int
    breaches: list[str]


def verify(connection: Connection, progress: Progress = lambda table, done, total: None) -> list[Check]:
    """One Check for each of the LAWS, in their order."""
    found = Findings()
    for span in chunks(connection, accounts.c.id, ACCOUNTS_AT_ONCE, progress):
        check_balances(connection, span, found)
        check_grants(connection, span, found)
        check_provenance(connection, span, found)
        check_spending(connection, span, found)
        check_windows(connection, span, found)
        check_charges(connection, span, found)
        check_keys(connection, span, found)
        check_archived(connection, span, found)
        check_roll_up(connection, span, found)
    check_everybody(connection, found)
    for span in chunks(connection, holds.c.id, ROWS_AT_ONCE, progress):
        check_holds(connection, span, found)
        check_usage_of_holds(connection, span, found)
    for span in chunks(connection, usage_events.c.id, ROWS_AT_ONCE, progress):
        check_holds_of_usage(connection, span, found)
    check_jobs(connection, found)
    check_one_current(connection, found)
    for span in chunks(connection, subscriptions.c.id, ROWS_AT_ONCE, progress):
        check_subscriptions(connection, span, found)
    return [Check(name, sentence, found.checked[name], found.breaches[name]) for name, sentence in LAWS.items()]

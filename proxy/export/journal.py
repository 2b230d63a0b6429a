"""The ledger as an hledger journal: double entry, with the balance of the account asserted after every entry.

    liabilities:credits:17    what account 17 may still spend, owed by the operator
    assets:sales, assets:plans            credits that were bought, or came with a plan
    expenses:bonus, :promo, :goodwill     credits that were given
    revenue:credits, :refunds, :breakage  credits that were spent, given back, or lapsed
    equity:adjustments, equity:opening    corrections by hand; what was there before the period

One transaction for each ledger entry. `hledger check` then proves from the outside that every entry is booked on both
sides and that every balance follows from the one before (https://hledger.org/hledger.html, Journal).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from policies.pricing import exact_credits
from policies.refusals import iso
from store.export import Row
from store.ids import id_text
from store.rows import EntryKind
from store.verbs import GrantSource

_OF_GRANT: dict[str, str] = {
    GrantSource.PURCHASE: "assets:sales",
    GrantSource.PLAN: "assets:plans",
    GrantSource.BONUS: "expenses:bonus",
    GrantSource.PROMO: "expenses:promo",
    GrantSource.REFUND: "expenses:goodwill",
    GrantSource.ADJUST: "equity:adjustments",
}
_OTHERWISE: dict[str, str] = {
    EntryKind.USAGE: "revenue:credits",
    EntryKind.OVERRUN: "revenue:credits",
    EntryKind.LATE: "revenue:credits",
    EntryKind.REFUND: "revenue:refunds",
    EntryKind.EXPIRE: "revenue:breakage",
    EntryKind.ADJUST: "equity:adjustments",
}
_OPENING, _UNKNOWN = "equity:opening", "equity:unknown"
"""What was there before the period; what no version of Farebox has written."""

HEAD = "\n".join(
    [
        "; The credit ledger of Farebox, one transaction for each entry. Amounts are credits.",
        "commodity 1000.000000 credits",
        *(f"account {name}" for name in sorted({*_OF_GRANT.values(), *_OTHERWISE.values(), _OPENING, _UNKNOWN})),
        "",
        "",
    ]
)


class JournalWriter:
    """Entries have to come account by account, in the order of their versions."""

    def __init__(self) -> None:
        self._begun = False
        self._account: int | None = None
        self._balance = 0
        self._day = date.min

    def rows(self, rows: Sequence[Row]) -> str:
        parts = [] if self._begun else [HEAD]
        self._begun = True
        for row in rows:
            parts += self._entry(row)
        return "".join(parts)

    def end(self) -> str:
        return "" if self._begun else HEAD

    def _entry(self, row: Row) -> list[str]:
        owner = f"liabilities:credits:{row['account_id']}"
        parts: list[str] = []
        if row["account_id"] != self._account:
            self._account, self._balance, self._day = row["account_id"], 0, date.min
            parts.append(f"account {owner}\n\n")
        # Assertions are checked in the order of dates. A clock that was set back does not change the order of entries.
        self._day = max(self._day, row["at"].date())
        before = row["balance_after"] - row["amount"]
        if before != self._balance:
            parts.append(self._transaction("opening balance", owner, before - self._balance, before, _OPENING))
        self._balance = row["balance_after"]
        said = f"{row['kind']} {_one_line(row['description'])}".strip()
        names = {"entry": row["version"], "at": iso(row["at"])}
        names |= {name: id_text(row[f"{name}_id"]) for name in ("hold", "grant") if row[f"{name}_id"] is not None}
        tags = ", ".join(f"{name}:{value}" for name, value in names.items())
        parts.append(self._transaction(f"{said}  ; {tags}", owner, row["amount"], row["balance_after"], _other(row)))
        return parts

    def _transaction(self, said: str, owner: str, amount: int, balance: int, other: str) -> str:
        """Credits of an account are a liability: more of them is a larger negative number."""
        return (
            f"{self._day} * {said}\n"
            f"    {owner}  {_credits(-amount)} = {_credits(-balance)}\n"
            f"    {other}  {_credits(amount)}\n\n"
        )


def _other(row: Row) -> str:
    """The account at the other end of an entry."""
    if row["kind"] == EntryKind.GRANT:
        return _OF_GRANT.get(row["source"], _UNKNOWN)
    return _OTHERWISE.get(row["kind"], _UNKNOWN)


def _credits(micro: int) -> str:
    return f"{exact_credits(micro):f} credits"


def _one_line(text: str) -> str:
    """Without what ends a description: a semicolon begins a comment, a line end the postings."""
    return "".join("," if character == ";" else character if character.isprintable() else " " for character in text)

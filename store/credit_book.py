"""The credits of the accounts in a Book: grants that are taken from in order, and entries that explain every change.

Posted is what the grants have left, and the sum of the entries; what can be spent is posted less what open holds have
taken. Nothing is taken that is not there, and nothing is given back elsewhere than where it came from.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from policies.terms import AccountId, HoldId
from store.columns import to_micros
from store.rows import AccountRow, Entry, EntryKind, GrantRow, HoldRow, hold_total
from store.verbs import GrantCredits, LacksCredits


@dataclass(slots=True)
class CreditBook:
    """Grants and new entries of the accounts that a batch concerns."""

    now: int
    """Microseconds since 1970, as in the rows."""
    grants: dict[int, GrantRow] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    _of_account: defaultdict[AccountId, list[GrantRow]] = field(default_factory=lambda: defaultdict(list))

    def add(self, grant: GrantRow) -> None:
        if grant.id not in self.grants:
            self.grants[grant.id] = grant
            self._of_account[grant.account_id].append(grant)

    def with_key(self, account: AccountRow, key: str) -> GrantRow | None:
        """The grant that was made with an idempotency key, if it was."""
        return next((grant for grant in self._of_account[account.id] if grant.key == key), None)

    def posted(self, account: AccountRow) -> int:
        """What the account has, with what open holds have taken of it."""
        return sum(grant.remaining + grant.held for grant in self._of_account[account.id])

    def available(self, account: AccountRow) -> int:
        return sum(grant.remaining for grant in self._of_account[account.id])

    def lapsing(self) -> set[AccountId]:
        """Accounts with a grant whose time is over, for which an entry may have to be appended."""
        return {row.account_id for row in self.grants.values() if self._lapsed(row)}

    def grant(self, account: AccountRow, verb: GrantCredits) -> None:
        self.add(
            GrantRow(
                id=verb.grant_id,
                account_id=account.id,
                key=verb.key,
                source=verb.source,
                amount=verb.amount,
                remaining=verb.amount,
                held=0,
                priority=verb.priority,
                effective_at=self.now,
                expires_at=None if verb.expires_at is None else to_micros(verb.expires_at),
                description=verb.description,
            )
        )
        self._post(account, EntryKind.GRANT, verb.amount, verb.description, grant_id=verb.grant_id)

    def take(self, account: AccountRow, amount: int) -> dict[str, Any] | LacksCredits:
        """Move `amount` from remaining to held over the grants in spend order; all of it or nothing."""
        grants = self._spendable(account)
        available = sum(grant.remaining for grant in grants)
        if available < amount:
            return LacksCredits(amount, available)
        taken: list[list[int]] = []
        for grant in sorted(grants, key=GrantRow.spend_order):
            part = min(grant.remaining, amount)
            if part:
                grant.remaining -= part
                grant.held += part
                taken.append([grant.id, part])
                amount -= part
        return {"grants": taken}

    def spend(self, account: AccountRow, hold: HoldRow, wanted: int) -> int:
        """Spend from the grants of a hold, first taken first; return what is over. Returns what was charged.

        A true cost above the hold takes the difference too, as far as the account has it: the caller has had the
        service, and nobody is brought below zero for it.
        """
        self._hold_more(account, hold, wanted)
        to_spend = charged = min(wanted, hold_total(hold))
        for grant_id, part in hold.taken["grants"]:
            grant = self.grants[grant_id]
            spent = min(part, to_spend)
            grant.held -= part
            grant.remaining += part - spent
            to_spend -= spent
        if charged:
            self._post(account, EntryKind.USAGE, -charged, hold.model_key, hold_id=hold.id)
        self.expire_lapsed(account)
        return charged

    def _hold_more(self, account: AccountRow, hold: HoldRow, wanted: int) -> None:
        """Add the overrun of a hold to what it took, as far as the account has it."""
        if wanted <= hold.amount:
            return
        available = sum(grant.remaining for grant in self._spendable(account))
        extra = self.take(account, min(wanted - hold.amount, available))
        assert isinstance(extra, dict), "the overrun is at most what is available"
        hold.taken = {"grants": hold.taken["grants"] + extra["grants"]}

    def refund(self, account: AccountRow, hold: HoldRow, amount: int, reason: str) -> None:
        """Refill the grants that a settled hold spent from, last spent first."""
        left, spent_left = amount, hold.settled_amount
        spent: list[tuple[GrantRow, int]] = []
        for grant_id, part in hold.taken["grants"]:
            spent.append((self.grants[grant_id], min(part, spent_left)))
            spent_left -= spent[-1][1]
        skip = hold.refunded_amount
        for grant, part in reversed(spent):
            already = min(part, skip)
            skip -= already
            back = min(part - already, left)
            grant.remaining += back
            left -= back
        self._post(account, EntryKind.REFUND, amount, reason, hold_id=hold.id)
        # What went back to a grant that has lapsed meanwhile is not available.
        self.expire_lapsed(account)

    def deduct(self, account: AccountRow, amount: int, description: str) -> LacksCredits | None:
        """Take credits away for good; nothing is taken where there are too few."""
        taken = self.take(account, amount)
        if isinstance(taken, LacksCredits):
            return taken
        for grant_id, part in taken["grants"]:
            self.grants[grant_id].held -= part
        self._post(account, EntryKind.ADJUST, -amount, description)
        return None

    def expire_lapsed(self, account: AccountRow) -> None:
        """Book what has lapsed unspent. Done whenever an account is touched, so no job has to come first."""
        for grant in self._of_account[account.id]:
            if grant.remaining and self._lapsed(grant):
                lapsed, grant.remaining = grant.remaining, 0
                self._post(account, EntryKind.EXPIRE, -lapsed, grant.description, grant_id=grant.id)

    def _spendable(self, account: AccountRow) -> list[GrantRow]:
        grants = self._of_account[account.id]
        return [grant for grant in grants if grant.remaining > 0 and grant.effective_at <= self.now]

    def _lapsed(self, grant: GrantRow) -> bool:
        return grant.expires_at is not None and grant.expires_at <= self.now

    def _post(
        self,
        account: AccountRow,
        kind: EntryKind,
        amount: int,
        description: str,
        *,
        hold_id: HoldId | None = None,
        grant_id: int | None = None,
    ) -> None:
        """Append the entry of a change that was just made to the grants: no other change is there."""
        assert account.version is not None, "loading knows which accounts may get an entry"
        account.version += 1
        self.entries.append(
            Entry(account.id, account.version, kind, amount, self.posted(account), hold_id, grant_id, description)
        )

"""The credits of the accounts in a Book: grants that are taken from in order, and entries that explain every change.

Posted is what the grants have left, less what is overdrawn, and the sum of the entries; what can be spent is posted,
less what open holds have taken. Nothing is taken that is not there, but for an overrun whose route allows it, and
nothing is given back elsewhere than where it came from.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from policies.spending import DEFAULT_ORDER, DEFAULT_PRIORITY, SpendOrder, spend_key
from policies.terms import AccountId, HoldId, Overrun
from store.columns import to_micros
from store.rows import AccountRow, Entry, EntryKind, GrantRow, HoldRow, hold_total
from store.verbs import OVERRUN_KEY, GrantCredits, GrantSource, LacksCredits


@dataclass(slots=True)
class CreditBook:
    """Grants and new entries of the accounts that a batch concerns."""

    now: int
    """Microseconds since 1970, as in the rows."""
    order: SpendOrder = DEFAULT_ORDER
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
        return sum(grant.remaining + grant.held for grant in self._of_account[account.id]) - account.overdrawn

    def available(self, account: AccountRow) -> int:
        return sum(grant.remaining for grant in self._of_account[account.id]) - account.overdrawn

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
        self._repay(account)

    def take(self, account: AccountRow, amount: int) -> dict[str, Any] | LacksCredits:
        """Move `amount` from remaining to held over the grants in spend order; all of it or nothing.

        Who owes an overrun gets nothing, also of what costs nothing: the next overrun would be owed as well.
        """
        if account.overdrawn:
            return LacksCredits(amount, -account.overdrawn)
        available = self._available(account)
        return {"grants": self._parts(account, amount)} if amount <= available else LacksCredits(amount, available)

    def _parts(self, account: AccountRow, amount: int) -> list[list[int]]:
        """Hold `amount` in the grants, which have it, and tell how much in each."""
        taken: list[list[int]] = []
        for grant in self._spendable(account):
            part = min(grant.remaining, amount)
            if part:
                grant.remaining -= part
                grant.held += part
                taken.append([grant.id, part])
                amount -= part
        return taken

    def spend(self, account: AccountRow, hold: HoldRow, wanted: int) -> int:
        """Spend from the grants of a hold, first taken first; return what is over. Returns what was charged.

        A true cost above the hold takes the difference too, as far as the account has it: the caller has had the
        service. What it has not is owed where the hold's rule says so; else nobody is brought below zero for it.
        """
        lent = self._hold_more(account, hold, wanted)
        to_spend = charged = min(wanted, hold_total(hold))
        for grant_id, part in hold.taken["grants"]:
            grant = self.grants[grant_id]
            spent = min(part, to_spend)
            grant.held -= part
            grant.remaining += part - spent
            to_spend -= spent
        if charged > lent:
            self._post(account, EntryKind.USAGE, lent - charged, hold.model_key, hold_id=hold.id, still=lent)
        if lent:
            self._post(account, EntryKind.OVERRUN, -lent, hold.model_key, hold_id=hold.id, grant_id=hold.id)
        self.bring_up_to_date(account)
        return charged

    def _hold_more(self, account: AccountRow, hold: HoldRow, wanted: int) -> int:
        """Add the overrun of a hold to what it took, as far as the account has it; returns how much is lent to it."""
        missing = wanted - hold.amount
        if missing <= 0:
            return 0
        extra = self._parts(account, min(missing, self._available(account)))
        missing -= sum(part for _, part in extra)
        if missing and hold.overrun is Overrun.OVERDRAFT:
            extra.append(self._lend(account, hold, missing))
        else:
            missing = 0
        hold.taken = {"grants": hold.taken["grants"] + extra}
        return missing

    def _lend(self, account: AccountRow, hold: HoldRow, amount: int) -> list[int]:
        """A grant of its own for what the account lacks: spent at once, owed until credits come in, and the place
        where a refund goes. Request ids are grant ids nowhere else, so the hold's id is free for it.
        """
        self.add(
            GrantRow(
                id=hold.id,
                account_id=account.id,
                key=f"{OVERRUN_KEY}{hold.id}",
                source=GrantSource.REFUND,
                amount=amount,
                remaining=0,
                held=amount,
                priority=DEFAULT_PRIORITY,
                effective_at=self.now,
                expires_at=None,
                description=hold.model_key,
            )
        )
        account.overdrawn += amount
        account.changed = True
        return [hold.id, amount]

    def charge_late(self, account: AccountRow, hold: HoldRow, wanted: int) -> int:
        """Spend what a hold has cost from what the account has now; what was held is given back long since."""
        charged = min(wanted, self._available(account))
        parts = self._parts(account, charged)
        for grant_id, part in parts:
            self.grants[grant_id].held -= part
        hold.taken = {"grants": parts}
        if charged:
            self._post(account, EntryKind.LATE, -charged, hold.model_key, hold_id=hold.id)
        return charged

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
        self.bring_up_to_date(account)

    def deduct(self, account: AccountRow, amount: int, description: str) -> LacksCredits | None:
        """Take credits away for good; nothing is taken where there are too few."""
        taken = self.take(account, amount)
        if isinstance(taken, LacksCredits):
            return taken
        for grant_id, part in taken["grants"]:
            self.grants[grant_id].held -= part
        self._post(account, EntryKind.ADJUST, -amount, description)
        return None

    def bring_up_to_date(self, account: AccountRow) -> None:
        """Book what has lapsed unspent, and repay what is owed. Done whenever an account is touched, so no job has to
        come first.
        """
        for grant in self._of_account[account.id]:
            if grant.remaining and self._lapsed(grant):
                lapsed, grant.remaining = grant.remaining, 0
                self._post(account, EntryKind.EXPIRE, -lapsed, grant.description, grant_id=grant.id)
        self._repay(account)

    def _repay(self, account: AccountRow) -> None:
        """What an overrun has left owed is paid from what has come in. The balance went down when it was charged."""
        for grant in self._spendable(account) if account.overdrawn else ():
            part = min(grant.remaining, account.overdrawn)
            grant.remaining -= part
            account.overdrawn -= part
            account.changed = True

    def _spendable(self, account: AccountRow) -> list[GrantRow]:
        """What a request may be paid from, in spend order."""
        grants = self._of_account[account.id]
        found = [grant for grant in grants if grant.remaining > 0 and grant.effective_at <= self.now]
        return sorted(found, key=spend_key(self.order)) if len(found) > 1 else found

    def _available(self, account: AccountRow) -> int:
        return sum(grant.remaining for grant in self._spendable(account))

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
        still: int = 0,
    ) -> None:
        """Append the entry of a change that was just made to the grants; `still` is made too, and its entry follows."""
        assert account.version is not None, "loading knows which accounts may get an entry"
        account.version += 1
        balance = self.posted(account) + still
        self.entries.append(Entry(account.id, account.version, kind, amount, balance, hold_id, grant_id, description))

"""The decisions of the ledger: rows in memory, verbs applied to them in order, changes remembered. No SQL, no clock.

A batch of verbs is decided on one Book: the rows concerned are locked and loaded into it, each verb is applied in
arrival order, and the changed rows are written back in one transaction (`store.batch`). A large request that is
refused changes nothing and so does not stand in the way of a small one behind it.

The laws it keeps at every commit, which its tests repeat:

- a hold ends once; what it did not use goes back to exactly the grants and windows that it came from;
- posted = sum of entries; pending = sum of open credit holds; the grants' parts add up to posted;
- nothing is taken that is not there.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from policies.holds import HoldState, may_move
from policies.terms import AccountId, Funding, HoldId, Metric, OnDeadline
from policies.windows import window_at
from store.verbs import (
    BindJob,
    Deduct,
    Ended,
    Expire,
    GrantCredits,
    Granted,
    Hold,
    LacksCredits,
    LacksQuota,
    Outcome,
    QuotaTerms,
    Refund,
    Refunded,
    Refused,
    Release,
    Request,
    Reserve,
    Settle,
    Usage,
    Verb,
)


class EntryKind(StrEnum):
    """Why a balance changed."""

    GRANT = "grant"
    USAGE = "usage"
    REFUND = "refund"
    EXPIRE = "expire"
    ADJUST = "adjust"


@dataclass(slots=True)
class AccountRow:
    id: AccountId
    posted: int
    pending: int
    version: int
    revision: int
    changed: bool = False


@dataclass(slots=True)
class GrantRow:
    id: int
    account_id: AccountId
    key: str
    source: str
    amount: int
    remaining: int
    held: int
    priority: int
    effective_at: datetime
    expires_at: datetime | None
    description: str
    new: bool = False
    changed: bool = False

    def spend_order(self) -> tuple[int, float, int]:
        """Lowest priority number first, then what expires soonest, then the oldest."""
        return self.priority, self.expires_at.timestamp() if self.expires_at else float("inf"), self.id


WindowKey = tuple[AccountId, datetime, Metric]


@dataclass(slots=True)
class WindowRow:
    key: WindowKey
    end: datetime
    limit: int
    used: int
    held: int
    plan_version_id: int
    new: bool = False
    changed: bool = False


@dataclass(slots=True)
class HoldRow:
    id: HoldId
    account_id: AccountId
    state: HoldState
    funding: Funding
    amount: int
    settled_amount: int
    refunded_amount: int
    taken: dict[str, Any]
    request: Request
    job_id: str | None
    on_deadline: OnDeadline
    deadline: datetime
    created_at: datetime
    ended_at: datetime | None = None
    end_reason: str | None = None
    new: bool = False
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    account_id: AccountId
    version: int
    kind: EntryKind
    amount: int
    balance_after: int
    hold_id: HoldId | None
    grant_id: int | None
    description: str


@dataclass(slots=True)
class Book:
    """The rows that a batch concerns, and what the batch does to them. `now` is the same for the whole batch."""

    now: datetime
    accounts: dict[AccountId, AccountRow] = field(default_factory=dict)
    grants: dict[int, GrantRow] = field(default_factory=dict)
    grants_of: defaultdict[AccountId, list[GrantRow]] = field(default_factory=lambda: defaultdict(list))
    windows: dict[WindowKey, WindowRow] = field(default_factory=dict)
    holds: dict[HoldId, HoldRow] = field(default_factory=dict)
    jobs: set[tuple[str, str]] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)
    usage: list[tuple[HoldRow, Usage]] = field(default_factory=list)

    def add_grant(self, grant: GrantRow) -> None:
        if grant.id not in self.grants:
            self.grants[grant.id] = grant
            self.grants_of[grant.account_id].append(grant)

    def apply(self, verb: Verb) -> Outcome:
        """The answer to one verb, with its effect on the rows."""
        account = self.accounts.get(verb.account_id)
        if account is None:
            return Refused.UNKNOWN_ACCOUNT
        self._expire_lapsed_grants(account)
        match verb:
            case Reserve():
                return self._reserve(account, verb)
            case GrantCredits():
                return self._grant(account, verb)
            case Deduct():
                return self._deduct(account, verb)
        hold = self.holds.get(verb.hold_id)
        if hold is None or hold.account_id != account.id:
            return Refused.UNKNOWN_HOLD
        match verb:
            case Settle():
                return self._settle(account, hold, verb)
            case Release():
                return self._give_back(account, hold, HoldState.RELEASED, verb.reason)
            case Expire():
                return self._expire(account, hold)
            case BindJob():
                return self._bind(account, hold, verb)
            case Refund():
                return self._refund(account, hold, verb)

    # The life of a hold, in its order.

    def _reserve(self, account: AccountRow, verb: Reserve) -> Outcome:
        if account.revision != verb.revision:
            return Refused.STALE
        if verb.hold_id in self.holds:
            return self._open(account, self.holds[verb.hold_id])
        refusal: Outcome | None = None
        for funding in verb.fundings:
            taken = (
                self._take_quota(account, verb.quota, verb.quota_terms)
                if funding is Funding.QUOTA
                else self._take_credits(account, verb.credits)
            )
            if isinstance(taken, dict):
                return self._open(account, self._new_hold(account, verb, funding, taken))
            refusal = refusal or taken
        assert refusal is not None, "a request without any funding must not reach the ledger"
        return refusal

    def _new_hold(self, account: AccountRow, verb: Reserve, funding: Funding, taken: dict[str, Any]) -> HoldRow:
        amount = verb.quota if funding is Funding.QUOTA else verb.credits
        if funding is Funding.CREDITS:
            account.pending += amount
            account.changed = True
        hold = HoldRow(
            id=verb.hold_id,
            account_id=account.id,
            state=HoldState.RESERVED,
            funding=funding,
            amount=amount,
            settled_amount=0,
            refunded_amount=0,
            taken=taken,
            request=verb.request,
            job_id=None,
            on_deadline=verb.on_deadline,
            deadline=verb.deadline,
            created_at=self.now,
            new=True,
        )
        self.holds[hold.id] = hold
        return hold

    def _bind(self, account: AccountRow, hold: HoldRow, verb: BindJob) -> Outcome:
        if hold.state is not HoldState.RESERVED:
            return Refused.NOT_OPEN
        job = (hold.request.route_id, verb.job_id)
        if hold.job_id != verb.job_id and job in self.jobs:
            return Refused.JOB_TAKEN
        self.jobs.add(job)
        hold.job_id, hold.deadline, hold.on_deadline = verb.job_id, verb.deadline, verb.on_deadline
        hold.changed = True
        return self._open(account, hold)

    def _settle(self, account: AccountRow, hold: HoldRow, verb: Settle) -> Outcome:
        if not may_move(hold.state, HoldState.SETTLED):
            return self._ended(account, hold, changed=False)
        wanted = hold.amount if verb.amount is None else verb.amount
        assert wanted >= 0, "measured usage is checked where it is read"
        if hold.funding is Funding.QUOTA:
            charged = self._spend_quota(hold, min(wanted, hold.amount))
        else:
            charged = self._spend_credits(account, hold, wanted)
        self._end(hold, HoldState.SETTLED, charged, verb.reason)
        self.usage.append((hold, verb.usage))
        return self._ended(account, hold, changed=True)

    def _expire(self, account: AccountRow, hold: HoldRow) -> Outcome:
        if not may_move(hold.state, HoldState.EXPIRED):
            return self._ended(account, hold, changed=False)
        if hold.deadline > self.now:
            return Refused.NOT_DUE
        if hold.on_deadline is OnDeadline.QUOTE:
            usage = Usage(hold.request.units, estimated=True)
            return self._settle(account, hold, Settle(hold.id, account.id, None, usage, "deadline"))
        return self._give_back(account, hold, HoldState.EXPIRED, "deadline")

    def _give_back(self, account: AccountRow, hold: HoldRow, state: HoldState, reason: str) -> Outcome:
        if not may_move(hold.state, state):
            return self._ended(account, hold, changed=False)
        if hold.funding is Funding.QUOTA:
            self._spend_quota(hold, 0)
        else:
            self._spend_credits(account, hold, 0)
        self._end(hold, state, 0, reason)
        return self._ended(account, hold, changed=True)

    def _refund(self, account: AccountRow, hold: HoldRow, verb: Refund) -> Outcome:
        if hold.state is not HoldState.SETTLED:
            return Refused.NOT_SETTLED
        left = hold.settled_amount - hold.refunded_amount
        amount = left if verb.amount is None else verb.amount
        assert amount >= 0, "amounts of operators are checked where they are read"
        if amount > left:
            return Refused.ABOVE_SETTLED
        if hold.funding is Funding.QUOTA:
            for window in self._windows_of(hold):
                window.used -= amount
                window.changed = True
        elif amount:
            self._return_to_grants(hold, amount)
            self._post(account, EntryKind.REFUND, amount, verb.reason, hold_id=hold.id)
            self._expire_lapsed_grants(account)
        hold.refunded_amount += amount
        hold.changed = True
        return Refunded(hold.id, hold.funding, amount, self._available(account, hold.funding, hold))

    def _end(self, hold: HoldRow, state: HoldState, charged: int, reason: str) -> None:
        assert may_move(hold.state, state), f"a hold that is {hold.state} cannot become {state}"
        hold.state, hold.settled_amount, hold.end_reason, hold.ended_at = state, charged, reason, self.now
        hold.changed = True

    # Credits.

    def _grant(self, account: AccountRow, verb: GrantCredits) -> Outcome:
        assert verb.amount > 0, "amounts of grants are checked where they are read"
        for grant in self.grants_of[account.id]:
            if grant.key == verb.key:
                return Granted(grant.id, grant.amount, account.posted, changed=False)
        grant = GrantRow(
            id=verb.grant_id,
            account_id=account.id,
            key=verb.key,
            source=verb.source,
            amount=verb.amount,
            remaining=verb.amount,
            held=0,
            priority=verb.priority,
            effective_at=self.now,
            expires_at=verb.expires_at,
            description=verb.description,
            new=True,
        )
        self.add_grant(grant)
        self._post(account, EntryKind.GRANT, verb.amount, verb.description, grant_id=verb.grant_id)
        return Granted(verb.grant_id, verb.amount, account.posted, changed=True)

    def _deduct(self, account: AccountRow, verb: Deduct) -> Outcome:
        assert verb.amount > 0, "amounts of operators are checked where they are read"
        taken = self._take_credits(account, verb.amount)
        if not isinstance(taken, dict):
            return taken
        for grant_id, part in taken["grants"]:
            self.grants[grant_id].held -= part
        self._post(account, EntryKind.ADJUST, -verb.amount, verb.description)
        return Granted(0, -verb.amount, account.posted, changed=True)

    def _take_credits(self, account: AccountRow, amount: int) -> dict[str, Any] | LacksCredits:
        """Move `amount` from remaining to held over the grants in spend order; all of it or nothing."""
        grants = [grant for grant in self.grants_of[account.id] if self._spendable(grant)]
        available = sum(grant.remaining for grant in grants)
        if available < amount:
            return LacksCredits(amount, available)
        taken: list[list[int]] = []
        for grant in sorted(grants, key=GrantRow.spend_order):
            part = min(grant.remaining, amount)
            if part:
                grant.remaining -= part
                grant.held += part
                grant.changed = True
                taken.append([grant.id, part])
                amount -= part
        return {"grants": taken}

    def _spend_credits(self, account: AccountRow, hold: HoldRow, wanted: int) -> int:
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
            grant.changed = True
            to_spend -= spent
        account.pending -= hold.amount
        account.changed = True
        if charged:
            self._post(account, EntryKind.USAGE, -charged, hold.request.model_key, hold_id=hold.id)
        self._expire_lapsed_grants(account)
        return charged

    def _hold_more(self, account: AccountRow, hold: HoldRow, wanted: int) -> None:
        """Add the overrun of a hold to what it took, as far as the account has it."""
        available = sum(grant.remaining for grant in self.grants_of[account.id] if self._spendable(grant))
        overrun = min(wanted - hold.amount, available)
        if overrun > 0:
            extra = self._take_credits(account, overrun)
            assert isinstance(extra, dict), "the overrun is at most what is available"
            hold.taken = {"grants": hold.taken["grants"] + extra["grants"]}

    def _return_to_grants(self, hold: HoldRow, amount: int) -> None:
        """Refill the grants that a settled hold spent from, last spent first."""
        spent_left = hold.settled_amount
        spent: list[tuple[GrantRow, int]] = []
        for grant_id, part in hold.taken["grants"]:
            spent.append((self.grants[grant_id], min(part, spent_left)))
            spent_left -= spent[-1][1]
        skip = hold.refunded_amount
        for grant, part in reversed(spent):
            already = min(part, skip)
            skip -= already
            back = min(part - already, amount)
            grant.remaining += back
            grant.changed = True
            amount -= back

    def _expire_lapsed_grants(self, account: AccountRow) -> None:
        for grant in self.grants_of[account.id]:
            if grant.remaining and grant.expires_at is not None and grant.expires_at <= self.now:
                lapsed, grant.remaining = grant.remaining, 0
                grant.changed = True
                self._post(account, EntryKind.EXPIRE, -lapsed, grant.description, grant_id=grant.id)

    def _spendable(self, grant: GrantRow) -> bool:
        return grant.remaining > 0 and grant.effective_at <= self.now

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
        """Append an entry: the only way a posted balance changes."""
        account.posted += amount
        account.version += 1
        account.changed = True
        self.entries.append(
            Entry(account.id, account.version, kind, amount, account.posted, hold_id, grant_id, description)
        )

    # Quota.

    def _take_quota(self, account: AccountRow, units: int, terms: QuotaTerms | None) -> dict[str, Any] | LacksQuota:
        """Hold `units` in the windows of now, if every one of them has room."""
        assert terms is not None, "quota funds a request only where a plan grants quota"
        windows = [self._window(account, Metric.DAILY, terms.daily, terms)]
        if terms.monthly is not None:
            windows.append(self._window(account, Metric.MONTHLY, terms.monthly, terms))
        for window in windows:
            if window.used + window.held + units > window.limit:
                return LacksQuota(window.key[2], window.used + window.held, window.limit, window.end)
        for window in windows:
            window.held += units
            window.changed = True
        return {"windows": [[window.key[2], window.key[1].isoformat()] for window in windows]}

    def _window(self, account: AccountRow, metric: Metric, limit: int, terms: QuotaTerms) -> WindowRow:
        """The window of now, made on first use. Its limit follows the plan; what was used in it stays."""
        window = window_at(metric, self.now)
        key = (account.id, window.start, metric)
        row = self.windows.get(key)
        if row is None:
            row = WindowRow(key, window.end, limit, 0, 0, terms.plan_version_id, new=True)
            self.windows[key] = row
        elif row.limit != limit or row.plan_version_id != terms.plan_version_id:
            row.limit, row.plan_version_id, row.changed = limit, terms.plan_version_id, True
        return row

    def _spend_quota(self, hold: HoldRow, units: int) -> int:
        for window in self._windows_of(hold):
            window.held -= hold.amount
            window.used += units
            window.changed = True
        return units

    def _windows_of(self, hold: HoldRow) -> list[WindowRow]:
        """The windows that a hold took from, without those that have left the history: nothing depends on them."""
        return [self.windows[key] for key in window_keys(hold) if key in self.windows]

    # Answers.

    def _open(self, account: AccountRow, hold: HoldRow) -> Hold:
        return Hold(hold.id, account.id, hold.funding, hold.amount, self._available(account, hold.funding, hold))

    def _ended(self, account: AccountRow, hold: HoldRow, changed: bool) -> Ended:
        available = self._available(account, hold.funding, hold)
        return Ended(hold.id, hold.state, hold.funding, hold.settled_amount, available, changed)

    def _available(self, account: AccountRow, funding: Funding, hold: HoldRow) -> int:
        """Micro-credits, or the units left in the tightest window of the hold."""
        if funding is Funding.QUOTA:
            left = (window.limit - window.used - window.held for window in self._windows_of(hold))
            return max(min(left, default=0), 0)
        return account.posted - account.pending


def hold_total(hold: HoldRow) -> int:
    """What a hold has taken in all, with its overrun."""
    return sum(part for _, part in hold.taken["grants"])


def window_keys(hold: HoldRow) -> list[WindowKey]:
    """The windows that a hold took from; none when credits fund it."""
    return [
        (hold.account_id, datetime.fromisoformat(start), Metric(metric))
        for metric, start in hold.taken.get("windows", ())
    ]

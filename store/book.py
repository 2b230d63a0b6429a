"""The decisions of the ledger: rows in memory, verbs applied to them in order, changes remembered. No SQL, no clock.

A batch of verbs is decided on one Book: the rows concerned are locked and loaded into it (`store.loading`), each verb
is applied in arrival order, and what has changed is written back (`store.writing`), in one transaction. A large request
that is refused changes nothing and so does not stand in the way of a small one behind it.

The law it keeps is that of `policies.holds`: a hold ends once, and whoever comes later reads the stored outcome. What
it did not use goes back to exactly the grants or windows that it came from.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from policies.holds import HoldState, may_charge_late, may_move
from policies.spending import DEFAULT_ORDER, SpendOrder
from policies.terms import AccountId, Funding, HoldId, OnDeadline
from store.columns import json_text, json_value, to_micros
from store.credit_book import CreditBook
from store.quota_book import QuotaBook
from store.rows import AccountRow, HoldRow
from store.verbs import (
    BindJob,
    Deduct,
    Ended,
    Expire,
    Extend,
    GrantCredits,
    Granted,
    Hold,
    KeptAnswer,
    LacksCredits,
    LacksQuota,
    Outcome,
    Refund,
    Refunded,
    Refused,
    Release,
    Reserve,
    Settle,
    Usage,
    Verb,
    Watch,
)


@dataclass(slots=True)
class Book:
    """The rows that a batch concerns, and what the batch does to them. `now` is the same for the whole batch."""

    now: datetime
    credits: CreditBook
    quota: QuotaBook
    accounts: dict[AccountId, AccountRow] = field(default_factory=dict)
    holds: dict[HoldId, HoldRow] = field(default_factory=dict)
    jobs: set[tuple[str, str]] = field(default_factory=set)
    opened: list[tuple[HoldRow, Reserve]] = field(default_factory=list)
    usage: list[tuple[HoldRow, Usage]] = field(default_factory=list)
    watches: list[tuple[HoldRow, Watch]] = field(default_factory=list)
    answers: list[tuple[HoldRow, KeptAnswer]] = field(default_factory=list)

    @classmethod
    def at(cls, now: datetime, order: SpendOrder = DEFAULT_ORDER) -> Book:
        """An empty book, in which credits are spent in `order`."""
        return cls(now, CreditBook(to_micros(now), order), QuotaBook(now))

    def apply(self, verb: Verb) -> Outcome:
        """The answer to one verb, with its effect on the rows."""
        account = self.accounts.get(verb.account_id)
        if account is None:
            return Refused.UNKNOWN_ACCOUNT
        self.credits.bring_up_to_date(account)
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
            case Extend():
                return self._extend(account, hold, verb)
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
            taken = self._take(account, verb, funding)
            if isinstance(taken, dict):
                return self._open(account, self._new_hold(account, verb, funding, taken))
            if funding is not Funding.EXEMPT:
                # Who has used up what is exempt pays as usual, and is told of that.
                refusal = taken if refusal is None else _both(refusal, taken)
        assert refusal is not None, "a request without any funding must not reach the ledger"
        return refusal

    def _take(self, account: AccountRow, verb: Reserve, funding: Funding) -> dict[str, Any] | Outcome:
        if funding is Funding.QUOTA:
            assert verb.quota_terms is not None, "quota funds a request only where a plan grants quota"
            return self.quota.take(account, verb.quota, verb.quota_terms)
        if funding is Funding.EXEMPT:
            return self.quota.take_fair_use(account, verb.fair_use)
        return self.credits.take(account, verb.credits)

    def _new_hold(self, account: AccountRow, verb: Reserve, funding: Funding, taken: dict[str, Any]) -> HoldRow:
        amount = {Funding.QUOTA: verb.quota, Funding.CREDITS: verb.credits, Funding.EXEMPT: 1}[funding]
        hold = HoldRow(
            id=verb.hold_id,
            account_id=account.id,
            state=HoldState.RESERVED,
            funding=funding,
            amount=amount,
            settled_amount=0,
            refunded_amount=0,
            taken=taken,
            model_key=verb.request.model_key,
            route_id=verb.request.route_id,
            units=json_text(verb.request.units),
            job_id=None,
            on_deadline=verb.on_deadline,
            deadline=to_micros(self.now + verb.lasts),
            on_late=verb.on_late,
            overrun=verb.overrun,
            new=True,
        )
        self.holds[hold.id] = hold
        self.opened.append((hold, verb))
        return hold

    def _extend(self, account: AccountRow, hold: HoldRow, verb: Extend) -> Outcome:
        if hold.state is not HoldState.RESERVED:
            return Refused.NOT_OPEN
        deadline = to_micros(self.now + verb.lasts)
        # A clock that was set back brings no deadline forward; a job has been given its own.
        if deadline > hold.deadline and hold.job_id is None:
            hold.deadline, hold.changed = deadline, True
        return self._open(account, hold)

    def _bind(self, account: AccountRow, hold: HoldRow, verb: BindJob) -> Outcome:
        job = (hold.route_id, verb.job_id)
        if hold.state is not HoldState.RESERVED:
            if hold.state is HoldState.SETTLED and hold.job_id is None and job not in self.jobs:
                # Its end was told before its acceptance. It has a result, which must not be anybody's.
                self._keep(hold, verb.answer)
                self.jobs.add(job)
                hold.job_id, hold.changed = verb.job_id, True
            return Refused.NOT_OPEN
        if hold.job_id != verb.job_id and job in self.jobs:
            return Refused.JOB_TAKEN
        self._keep(hold, verb.answer)
        if hold.job_id is None and verb.watch is not None:
            self.watches.append((hold, verb.watch))
        self.jobs.add(job)
        hold.job_id, hold.deadline, hold.on_deadline = verb.job_id, to_micros(self.now + verb.lasts), verb.on_deadline
        hold.changed = True
        return self._open(account, hold)

    def _settle(self, account: AccountRow, hold: HoldRow, verb: Settle) -> Outcome:
        wanted = hold.amount if verb.amount is None else verb.amount
        assert wanted >= 0, "measured usage is checked where it is read"
        if may_move(hold.state, HoldState.SETTLED):
            self._end(account, hold, HoldState.SETTLED, wanted, verb.reason)
        elif may_charge_late(hold.state, hold.on_late, charged=hold.late_at is not None):
            self._charge_late(account, hold, wanted)
        else:
            return self._ended(account, hold, changed=False)
        self.usage.append((hold, verb.usage))
        self._keep(hold, verb.answer)
        return self._ended(account, hold, changed=True)

    def _keep(self, hold: HoldRow, answer: KeptAnswer | None) -> None:
        if answer is not None:
            self.answers.append((hold, answer))

    def _charge_late(self, account: AccountRow, hold: HoldRow, wanted: int) -> None:
        """The hold stays expired. Its funds were given back, so what is charged is taken from what there is now."""
        if hold.funding is Funding.CREDITS:
            charged = self.credits.charge_late(account, hold, wanted)
        else:
            charged = self.quota.charge_late(hold, wanted)
        hold.settled_amount, hold.late_at, hold.changed = charged, to_micros(self.now), True

    def _expire(self, account: AccountRow, hold: HoldRow) -> Outcome:
        if not may_move(hold.state, HoldState.EXPIRED):
            return self._ended(account, hold, changed=False)
        if hold.deadline > to_micros(self.now):
            return Refused.NOT_DUE
        if hold.on_deadline is OnDeadline.QUOTE:
            usage = Usage(json_value(hold.units), estimated=True)
            return self._settle(account, hold, Settle(hold.id, account.id, None, usage, "deadline"))
        return self._give_back(account, hold, HoldState.EXPIRED, "deadline")

    def _give_back(self, account: AccountRow, hold: HoldRow, state: HoldState, reason: str) -> Outcome:
        if not may_move(hold.state, state):
            return self._ended(account, hold, changed=False)
        self._end(account, hold, state, 0, reason)
        return self._ended(account, hold, changed=True)

    def _end(self, account: AccountRow, hold: HoldRow, state: HoldState, wanted: int, reason: str) -> None:
        """Spend `wanted` of a hold, give the rest back, and close it: the one way out of `reserved`."""
        assert may_move(hold.state, state), f"a hold that is {hold.state} cannot become {state}"
        if hold.funding is Funding.CREDITS:
            charged = self.credits.spend(account, hold, wanted)
        else:
            charged = self.quota.spend(hold, min(wanted, hold.amount))
        hold.state, hold.settled_amount, hold.end_reason = state, charged, reason
        hold.ended_at, hold.changed = to_micros(self.now), True

    def _refund(self, account: AccountRow, hold: HoldRow, verb: Refund) -> Outcome:
        if hold.state is not HoldState.SETTLED and hold.late_at is None:
            return Refused.NOT_SETTLED
        left = hold.settled_amount - hold.refunded_amount
        amount = left if verb.amount is None else verb.amount
        assert amount >= 0, "amounts of operators are checked where they are read"
        if amount > left:
            return Refused.ABOVE_SETTLED
        if hold.funding is not Funding.CREDITS:
            self.quota.refund(hold, amount)
        elif amount:
            self.credits.refund(account, hold, amount, verb.reason)
        hold.refunded_amount += amount
        hold.changed = True
        return Refunded(hold.id, hold.funding, amount, self._available(account, hold))

    # Operators.

    def _grant(self, account: AccountRow, verb: GrantCredits) -> Outcome:
        assert verb.amount > 0, "amounts of grants are checked where they are read"
        earlier = self.credits.with_key(account, verb.key)
        if earlier is not None:
            return Granted(earlier.id, earlier.amount, self.credits.posted(account), changed=False)
        if verb.expires_at is not None and verb.expires_at <= self.now:
            return Refused.LAPSED
        self.credits.grant(account, verb)
        return Granted(verb.grant_id, verb.amount, self.credits.posted(account), changed=True)

    def _deduct(self, account: AccountRow, verb: Deduct) -> Outcome:
        assert verb.amount > 0, "amounts of operators are checked where they are read"
        refusal = self.credits.deduct(account, verb.amount, verb.description)
        return refusal or Granted(0, -verb.amount, self.credits.posted(account), changed=True)

    # Answers.

    def _open(self, account: AccountRow, hold: HoldRow) -> Hold:
        return Hold(hold.id, account.id, hold.funding, hold.amount, self._available(account, hold))

    def _ended(self, account: AccountRow, hold: HoldRow, changed: bool) -> Ended:
        available = self._available(account, hold)
        return Ended(hold.id, hold.state, hold.funding, hold.settled_amount, available, changed)

    def _available(self, account: AccountRow, hold: HoldRow) -> int:
        """What is left of the hold's funding: micro-credits of the account, or units of the tightest window."""
        return self.credits.available(account) if hold.funding is Funding.CREDITS else self.quota.left(hold)


def _both(first: Outcome, second: Outcome) -> Outcome:
    """The first refusal is the answer; a lack of quota says that credits were lacking too."""
    if isinstance(first, LacksQuota) and isinstance(second, LacksCredits):
        return replace(first, credits=second)
    return first

"""What can be asked of the ledger, and what it answers: plain values.

Amounts of holds are micro-credits when credits fund them and quota units when a quota window does. An exempt hold is
one call, counted in the window of its exemption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from policies.holds import HoldState
from policies.quota import FairUseTerms, QuotaTerms
from policies.spending import DEFAULT_PRIORITY
from policies.terms import AccountId, Funding, HoldId, OnDeadline, OnLate, Overrun
from policies.values import value


class GrantSource(StrEnum):
    """Where credits come from."""

    PURCHASE = "purchase"
    BONUS = "bonus"
    PLAN = "plan"
    PROMO = "promo"
    REFUND = "refund"
    ADJUST = "adjust"


OVERRUN_KEY = "overrun:"
"""How the keys of grants begin that the ledger itself makes, for what an overrun has lent: nobody else's may."""


@value
class Request:
    """What a hold remembers of its request: enough to explain the charge for ever."""

    user_id: str
    key_id: str | None
    model_key: str
    action: str
    route_id: str
    policy_revision: str
    rule: str
    price_version: int
    units: Mapping[str, str] = field(default_factory=dict)


@value
class Reserve:
    """Take the quote aside, from the first of `fundings` that has enough. `revision` guards against stale decisions.

    `lasts` counts from the moment of the transaction, by the clock that will judge the deadline.
    """

    hold_id: HoldId
    account_id: AccountId
    revision: int
    fundings: tuple[Funding, ...]
    credits: int
    quota: int
    quota_terms: QuotaTerms | None
    request: Request
    lasts: timedelta
    on_deadline: OnDeadline
    on_late: OnLate = OnLate.NONE
    overrun: Overrun = Overrun.CAP
    fair_use: FairUseTerms | None = None
    """Of an exempt call; None where any number of them is fair."""


@value
class Usage:
    """What an exchange measurably consumed, for its usage event. `estimated`: it could not be measured."""

    units: Mapping[str, str] = field(default_factory=dict)
    estimated: bool = False
    upstream_status: int | None = None
    latency_ms: int | None = None


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer that is kept for those who send its request again with the same idempotency key."""

    key: str
    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


@value
class Settle:
    """Take the true amount of a hold and give the rest back. None takes the quote. `answer` is kept together with that.

    Of a hold that has expired meanwhile it is charged late, where the hold's rule says so.
    """

    hold_id: HoldId
    account_id: AccountId
    amount: int | None
    usage: Usage
    reason: str
    answer: KeptAnswer | None = None


@value
class Release:
    """Give an unused hold back to exactly where it was taken from."""

    hold_id: HoldId
    account_id: AccountId
    reason: str


@dataclass(frozen=True, slots=True)
class Expire:
    """Resolve a hold whose deadline has passed, by its own rule. A hold that is not overdue stays."""

    hold_id: HoldId
    account_id: AccountId


@dataclass(frozen=True, slots=True)
class Extend:
    """A sign of life: an open hold lasts at least this long from now on. One that waits for a job keeps the job's."""

    hold_id: HoldId
    account_id: AccountId
    lasts: timedelta


@dataclass(frozen=True, slots=True)
class Watch:
    """How the scheduler asks for a job: with which path, after which wait first, and how long it waits at most."""

    path: str
    first: timedelta
    longest: timedelta


@dataclass(frozen=True, slots=True)
class BindJob:
    """Tie an open hold to the backend's job, and give it as long as the job may last."""

    hold_id: HoldId
    account_id: AccountId
    job_id: str
    lasts: timedelta
    on_deadline: OnDeadline
    watch: Watch | None = None
    answer: KeptAnswer | None = None


@dataclass(frozen=True, slots=True)
class Refund:
    """Give settled money back to where it was taken from. None refunds all that is left."""

    hold_id: HoldId
    account_id: AccountId
    amount: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class GrantCredits:
    """Add credits. The key makes it safe to repeat: one key, one grant."""

    grant_id: int
    account_id: AccountId
    amount: int
    source: GrantSource
    key: str
    description: str
    priority: int = DEFAULT_PRIORITY
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Deduct:
    """Take credits away by an operator's decision, at most what is available."""

    account_id: AccountId
    amount: int
    description: str


Verb = Reserve | Settle | Release | Expire | Extend | BindJob | Refund | GrantCredits | Deduct


@value
class Hold:
    """An open hold. `available` is what the account has left of the same funding after it."""

    hold_id: HoldId
    account_id: AccountId
    funding: Funding
    amount: int
    available: int


@value
class Ended:
    """A hold that has ended, now or earlier; `changed` tells whether this verb ended it."""

    hold_id: HoldId
    state: HoldState
    funding: Funding
    charged: int
    available: int
    changed: bool


@dataclass(frozen=True, slots=True)
class Granted:
    grant_id: int
    amount: int
    balance: int
    changed: bool


@dataclass(frozen=True, slots=True)
class Refunded:
    hold_id: HoldId
    funding: Funding
    amount: int
    available: int


class Refused(StrEnum):
    """Answers that are not amounts. None of them changes anything."""

    STALE = "the account has changed since the decision"
    UNKNOWN_ACCOUNT = "there is no such account"
    UNKNOWN_HOLD = "there is no such hold"
    NOT_OPEN = "the hold has ended already"
    NOT_SETTLED = "only what was charged can be refunded"
    ABOVE_SETTLED = "more than what was settled and not refunded yet"
    NOT_DUE = "the hold's deadline has not passed"
    JOB_TAKEN = "another hold is bound to this job"
    LAPSED = "credits cannot lapse in the past"
    ARCHIVED = "the charge has been archived, and is final"


@dataclass(frozen=True, slots=True)
class LacksCredits:
    """`current` is below zero when an overrun is still owed."""

    required: int
    current: int


@dataclass(frozen=True, slots=True)
class LacksQuota:
    """`credits` is there where credits could have paid instead, and were lacking too."""

    metric: str
    used: int
    limit: int
    resets_at: datetime
    credits: LacksCredits | None = None


Outcome = Hold | Ended | Granted | Refunded | Refused | LacksCredits | LacksQuota

"""The vocabulary of every other file: identifiers, enumerations and frozen values.

Amounts are integers. Credits are counted in micro-credits (1 credit = 1 000 000), quota in units, money in minor
units of its currency. Moments are timezone-aware UTC datetimes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, tzinfo
from decimal import Decimal
from enum import StrEnum
from typing import NewType

AccountId = NewType("AccountId", int)
UserId = NewType("UserId", str)
HoldId = NewType("HoldId", int)
ModelKey = NewType("ModelKey", str)
Tier = NewType("Tier", str)

MICRO = 1_000_000
"""Micro-credits in one credit."""

MAX_AMOUNT = 10**15
"""The largest amount of a single hold, grant or price, in micro-credits or units: a thousand million credits.

Far above any real call and far below what a signed 64-bit integer holds, so that no sum of them can overflow.
"""


class AccountType(StrEnum):
    """How an account pays: with credits as it goes, or with the quota of its subscription."""

    PAYG = "payg"
    SUBSCRIPTION = "subscription"


class Funding(StrEnum):
    """Where a hold takes from."""

    CREDITS = "credits"
    QUOTA = "quota"
    EXEMPT = "exempt"


class Metric(StrEnum):
    """The quota windows an account has."""

    DAILY = "daily"
    MONTHLY = "monthly"


class OnDeadline(StrEnum):
    """What becomes of a hold whose request never reported back before its deadline."""

    RELEASE = "release"
    QUOTE = "quote"


class OnLate(StrEnum):
    """What a settlement that comes after its hold has expired may still do."""

    NONE = "none"
    CHARGE = "charge"


class Overrun(StrEnum):
    """What becomes of a true cost above the hold that the account has no credits for."""

    CAP = "cap"
    OVERDRAFT = "overdraft"


Range = tuple[Decimal, Decimal | None]
"""From the first to the last number, both included; None is no end."""


@dataclass(frozen=True, slots=True)
class Term:
    """A part of a price: `amount`, once, or for each unit that is above `above`.

    With a `step`, for each that has begun: the eleventh minute costs as much as the twentieth where the step is ten.
    `amount` is micro-credits, or percent of the price before it. It counts `when` all those units are in their ranges.
    """

    amount: Decimal
    unit: str | None = None
    step: Decimal | None = None
    above: Decimal = Decimal(0)
    when: Mapping[str, Range] = field(default_factory=dict)
    percent: bool = False

    def __post_init__(self) -> None:
        numbers = [self.amount, self.above, *(bound for limits in self.when.values() for bound in limits if bound)]
        if not all(number.is_finite() and 0 <= number <= MAX_AMOUNT for number in numbers):
            raise ValueError(f"the numbers of a price are from 0 to {MAX_AMOUNT}")
        if self.step is not None and not (self.step.is_finite() and 0 < self.step <= MAX_AMOUNT):
            raise ValueError(f"the step of a price is more than 0, and at most {MAX_AMOUNT}")


@dataclass(frozen=True, slots=True)
class Price:
    """What one call of a model costs: micro-credits, or units of quota.

    `base` is the least, `fixed` always counts, `rates` are by unit name, and everything is multiplied with the units
    `times`. What `steps` and `surcharges` add, and in which order, says `pricing`. Raises ValueError for a price that
    could be negative, or that no amount can hold.
    """

    base: int
    rates: Mapping[str, Decimal] = field(default_factory=dict)
    round_up_to: int = 1
    version: int = 1
    fixed: int = 0
    steps: tuple[Term, ...] = ()
    surcharges: tuple[Term, ...] = ()
    times: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.base <= MAX_AMOUNT or not 1 <= self.round_up_to <= MAX_AMOUNT:
            raise ValueError(f"a price has a base from 0 to {MAX_AMOUNT} and a step from 1 to {MAX_AMOUNT}")
        if not 0 <= self.fixed <= MAX_AMOUNT or any(term.percent for term in self.steps):
            raise ValueError(f"what is fixed in a price is from 0 to {MAX_AMOUNT}, and only surcharges are percents")
        for unit, rate in self.rates.items():
            if not rate.is_finite() or not 0 <= rate <= MAX_AMOUNT:
                raise ValueError(f"the rate per {unit} is a number from 0 to {MAX_AMOUNT}")


@dataclass(frozen=True, slots=True)
class Model:
    """An AI model that a caller may use. Its key is `app:model`, for example `video-generator:veo3`."""

    key: ModelKey
    app: str
    model_id: str
    name: str
    provider: str
    tier: Tier
    price: Price
    quota_cost: int = 1
    """The least that a call takes of a quota, in units."""
    enabled: bool = True
    beta: bool = False
    description: str = ""
    capabilities: Mapping[str, object] = field(default_factory=dict)
    quota_price: Price | None = None
    """What a call takes of a quota, where that depends on its units; else it is `quota_cost`."""


@dataclass(frozen=True, slots=True)
class App:
    """A backend product that owns models, as the app list of the dashboard shows it."""

    app_id: str
    name: str
    description: str
    icon: str
    version: str
    route_prefix: str
    enabled: bool
    beta: bool
    coming_soon: bool
    order: int
    color: str


class QuotaMonth(StrEnum):
    """On which day the months of a plan's quota begin: on the 1st, or on the subscription's own day."""

    CALENDAR = "calendar"
    SUBSCRIPTION = "subscription"


@dataclass(frozen=True, slots=True)
class QuotaRules:
    """When a plan's quota renews, and how many units of it may be carried into the next window; see `quota`."""

    zone: tzinfo = UTC
    day_starts: time = time(0)
    month: QuotaMonth = QuotaMonth.CALENDAR
    daily_rollover: int = 0
    monthly_rollover: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """One immutable version of a price-list entry. `price` is in minor units of `currency`."""

    version_id: int
    plan_id: str
    version: int
    tier: Tier
    name: str
    description: str
    price: int
    currency: str
    cycle: Cycle
    daily_quota: int
    monthly_quota: int | None
    max_model_tier: Tier
    features: Mapping[str, object]
    active: bool
    order: int
    created_at: datetime
    trial_days: int | None = None
    """Days that a new subscriber may try it without paying."""
    quota_rules: QuotaRules = QuotaRules()

    @property
    def is_free(self) -> bool:
        return self.price == 0


class Cycle(StrEnum):
    """How often a subscription renews."""

    MONTHLY = "monthly"
    YEARLY = "yearly"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything that is for sale, as one immutable snapshot; `revision` names it in records."""

    revision: int
    models: Mapping[str, Model]
    apps: Mapping[str, App]
    plans: tuple[Plan, ...]

    def plan(self, plan_id: str) -> Plan | None:
        """The newest version of a plan that is still on sale, or None."""
        return next((plan for plan in self.plans if plan.plan_id == plan_id and plan.active), None)


class AccountKind(StrEnum):
    """Who an account belongs to."""

    USER = "user"
    TEAM = "team"


class Scope(StrEnum):
    """What a credential may be used for; a token for all of it."""

    USE = "use"
    READ = "read"
    MANAGE = "manage"


class Credential(StrEnum):
    """How a caller proved who they are."""

    JWT = "jwt"
    API_KEY = "api_key"
    TRUSTED_HEADER = "trusted_header"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class UnitRange:
    """What a route accepts of a unit, both ends included. One that is `optional` may be absent from a request."""

    least: Decimal
    most: Decimal
    optional: bool = False


@dataclass(frozen=True, slots=True)
class MeteredRoute:
    """What a policy has to know of a route: its names, and the units that it reads from requests."""

    route_id: str
    action: str
    app: str
    units: Mapping[str, UnitRange] = field(default_factory=dict)

"""What a seed file may say: plans, apps and models; and, in the demo's file, users.

Credits are written as numbers of credits and read as integers of micro-credits. Nothing is coerced, unknown keys are
errors. Whether the names in a file exist is checked by `seeds.reading`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from config.time_zones import zone_named
from policies.pricing import to_micro
from policies.quota import ROLLOVER_WINDOWS
from policies.terms import MAX_AMOUNT, MICRO, Cycle, Metric, QuotaMonth

MAX_DIGITS = 24
"""Digits of a number of credits, on both sides of its point: enough for the millionth part of a micro-credit."""


def _credits(value: object) -> Decimal:
    """A number of credits, exactly as written."""
    if type(value) is not int and not isinstance(value, Decimal):
        raise ValueError("expected a number of credits")
    credits = Decimal(value)
    if not 0 <= credits <= MAX_AMOUNT // MICRO:
        raise ValueError(f"expected a number of credits between 0 and {MAX_AMOUNT // MICRO}")
    _, digits, exponent = credits.as_tuple()
    if len(digits) > MAX_DIGITS or not isinstance(exponent, int) or exponent < -MAX_DIGITS:
        raise ValueError(f"expected a number of credits with at most {MAX_DIGITS} digits")
    return credits


def _micro_credits(value: object) -> int:
    return to_micro(_credits(value))


def _rate(value: object) -> Decimal:
    """Micro-credits for one unit. Finer than a micro-credit on purpose: only the sum is rounded."""
    return _credits(value).scaleb(6)


def _positive(micro_credits: int) -> int:
    if micro_credits == 0:
        raise ValueError("expected more than zero credits")
    return micro_credits


def _plain(value: Any) -> Any:
    """YAML numbers with a point are exact decimals; in free-form fields they become JSON numbers."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return float(value) if isinstance(value, Decimal) else value


Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
ModelKey = Annotated[str, StringConstraints(max_length=200, pattern=r"^[a-z0-9][a-z0-9_-]{0,63}:[\w.:/@-]+$")]
"""`app:model`. The model's own id may hold further colons and slashes: `chat:llama3:8b`."""

UnitName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Credits = Annotated[int, BeforeValidator(_micro_credits)]
Rate = Annotated[Decimal, BeforeValidator(_rate)]
Units = Annotated[int, Field(ge=0, le=MAX_AMOUNT)]
Order = Annotated[int, Field(ge=0, le=1_000_000)]
FreeForm = Annotated[dict[str, Any], AfterValidator(_plain)]


def _zone(name: str) -> str:
    zone_named(name)
    return name


class Seed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class AppSeed(Seed):
    """A backend product that owns models. Switches that are not given keep what they are, or start as usual."""

    id: Identifier
    name: Text
    description: Text
    icon: Text
    version: Text
    route_prefix: Annotated[str, StringConstraints(pattern=r"^/\S*$", max_length=200)]
    order: Order
    color: Text
    enabled: bool | None = None
    beta: bool | None = None
    coming_soon: bool | None = None


class PriceSeed(Seed):
    """`max(base, sum of rate x units)`, rounded up to a multiple of `round_up_to`; see `policies.pricing`."""

    base: Credits
    per: dict[UnitName, Rate] = {}
    """Credits for one unit, by unit. Read as micro-credits."""
    round_up_to: Annotated[Credits, AfterValidator(_positive)] = 1
    """Credits; without it a price is rounded up to the micro-credit."""


class ModelSeed(Seed):
    """A model that callers may use."""

    key: ModelKey
    name: Text
    description: Text
    provider: Text
    tier: Text
    price: PriceSeed
    quota_cost: Units
    """Quota units that one call takes."""
    capabilities: FreeForm = {}
    enabled: bool | None = None
    beta: bool | None = None


class PlanPriceSeed(Seed):
    amount: Units
    """Minor units of the currency."""
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
    """ISO 4217."""


def _time_of_day(text: str) -> str:
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text):
        raise ValueError('expected a time of day as "HH:MM", from "00:00" to "23:59"')
    return text


class RolloverSeed(Seed):
    """Unused units that may be carried into the next window, at most."""

    daily: Units = 0
    monthly: Units = 0


class PlanQuotaSeed(Seed):
    """Units for each window, when windows begin, and what becomes of unused units; see `policies.quota`."""

    daily: Units
    monthly: Units | None = None
    """Without it only the daily quota limits."""
    timezone: Annotated[str, StringConstraints(max_length=100), AfterValidator(_zone)] = "UTC"
    """An IANA name."""
    day_starts: Annotated[str, AfterValidator(_time_of_day)] = "00:00"
    """What clocks in that zone show when a day begins."""
    month: Annotated[QuotaMonth, Field(strict=False)] = QuotaMonth.CALENDAR
    """Whether months begin on the 1st, or on the day of the month on which the subscription did."""
    rollover: RolloverSeed = RolloverSeed()

    @model_validator(mode="after")
    def _month_of_something(self) -> Self:
        if self.monthly is None and self.month is not QuotaMonth.CALENDAR:
            raise ValueError("`month` says when the monthly quota renews, and there is none; give `monthly` as well")
        return self

    @model_validator(mode="after")
    def _rollover_within_quota(self) -> Self:
        quotas = {Metric.DAILY: self.daily, Metric.MONTHLY: self.monthly or 0}
        caps = {Metric.DAILY: self.rollover.daily, Metric.MONTHLY: self.rollover.monthly}
        for metric, windows in ROLLOVER_WINDOWS.items():
            most = windows * quotas[metric]
            if caps[metric] > most:
                times = f"{windows} times the {metric} quota" if windows > 1 else f"the {metric} quota"
                raise ValueError(f"`rollover.{metric}` is {caps[metric]}; at most {times}, {most}, can be carried over")
        return self


class PlanTrialSeed(Seed):
    days: Annotated[int, Field(ge=1, le=365)]
    """That a new subscriber may try it without paying: once for each account, whichever plan comes first."""


class PlanSeed(Seed):
    """A plan that can be subscribed to. Changed terms are a new version; subscribers keep the one they have."""

    id: Identifier
    tier: Text
    name: Text
    description: Text
    price: PlanPriceSeed
    cycle: Annotated[Cycle, Field(strict=False)]
    quota: PlanQuotaSeed
    trial: PlanTrialSeed | None = None
    """Without it there is none. A plan that costs nothing needs none."""
    max_model_tier: Text
    features: FreeForm = {}
    order: Order
    active: bool | None = None
    """Whether the plan is on sale. Not given: as it is, and a new plan is."""

    @model_validator(mode="after")
    def _something_to_try(self) -> Self:
        if self.trial is not None and self.price.amount == 0:
            raise ValueError("a plan that costs nothing has no trial: remove `trial`, or give it a price")
        return self


class CatalogueFile(Seed):
    """One file of what is for sale; the sections may stand in one file or in several."""

    plans: list[PlanSeed] = []
    apps: list[AppSeed] = []
    models: list[ModelSeed] = []


class UserSeed(Seed):
    """A user of the demo: pays as they go with `credits` to start with, or has subscribed to `plan`."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    email: Text | None = None
    credits: Credits | None = None
    plan: Identifier | None = None

    @model_validator(mode="after")
    def _one_way_to_pay(self) -> Self:
        if (self.credits is None) == (self.plan is None):
            raise ValueError("a user has either `credits` or a `plan`")
        return self


class DemoFile(CatalogueFile):
    """What the demo has on top of the catalogue."""

    disabled_models: list[ModelKey] = []
    users: list[UserSeed] = []

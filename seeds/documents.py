"""What a seed file may say: plans, apps and models; and, in the demo's file, users.

Credits are written as numbers of credits and read as integers of micro-credits. Nothing is coerced, unknown keys are
errors. Whether the names in a file exist is checked by `seeds.reading`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from config.time_zones import zone_named
from policies.pricing import to_micro
from policies.quota import ROLLOVER_WINDOWS
from policies.terms import MAX_AMOUNT, MICRO, Cycle, Metric, Price, QuotaMonth
from seeds.prices import MAX_FACTORS, MAX_TERMS, PerSeed, Seed, SurchargeSeed, UnitName, credits, per_unit, price_from


def _micro_credits(value: object) -> int:
    return to_micro(credits(value))


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

Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Credits = Annotated[int, BeforeValidator(_micro_credits)]
Units = Annotated[int, Field(ge=0, le=MAX_AMOUNT)]
Order = Annotated[int, Field(ge=0, le=1_000_000)]
FreeForm = Annotated[dict[str, Any], AfterValidator(_plain)]


def _zone(name: str) -> str:
    zone_named(name)
    return name


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
    """`max(base, (each x percents + surcharges) x times)`, rounded up to a multiple of `round_up_to`; `each` is what is
    `fixed` and what comes `per` unit. See `policies.pricing`.
    """

    base: Credits
    fixed: Credits = 0
    """Credits that always count, beside what comes per unit."""
    per: dict[UnitName, Annotated[list[PerSeed], BeforeValidator(per_unit)]] = {}
    """Credits for one unit, by unit; or for each begun step of it. Read as micro-credits."""
    surcharges: Annotated[list[SurchargeSeed], Field(max_length=MAX_TERMS)] = []
    """What comes on top, and when."""
    times: Annotated[list[UnitName], Field(max_length=MAX_FACTORS)] = []
    """Units that everything is multiplied with; one that a call does not give counts as one."""
    round_up_to: Annotated[Credits, AfterValidator(_positive)] = 1
    """Credits; without it a price is rounded up to the micro-credit."""

    def price(self) -> Price:
        """As the policies know it."""
        return price_from(self, self.base, self.fixed, self.round_up_to, MICRO)


class QuotaCostSeed(Seed):
    """A price in units of quota, rounded up to whole ones."""

    base: Units
    """The least that one call takes."""
    fixed: Units = 0
    """Units that always count."""
    per: dict[UnitName, Annotated[list[PerSeed], BeforeValidator(per_unit)]] = {}
    """Units of quota for one unit of the request, or for each begun step of it."""
    surcharges: Annotated[list[SurchargeSeed], Field(max_length=MAX_TERMS)] = []
    """What comes on top, and when; `credits` are units of quota here."""
    times: Annotated[list[UnitName], Field(max_length=MAX_FACTORS)] = []
    """Units that everything is multiplied with."""

    def price(self) -> Price:
        """As the policies know it."""
        return price_from(self, self.base, self.fixed, 1, 1)


def _quota_cost(value: object) -> object:
    return value if isinstance(value, dict | QuotaCostSeed) else {"base": value}


class ModelSeed(Seed):
    """A model that callers may use."""

    key: ModelKey
    name: Text
    description: Text
    provider: Text
    tier: Text
    price: PriceSeed
    quota_cost: Annotated[QuotaCostSeed, BeforeValidator(_quota_cost)]
    """Quota units that one call takes: a number, or what it depends on."""
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

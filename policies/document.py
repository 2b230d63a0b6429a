"""What a policy file may say, as data: tiers, terms of payment, rules, exemptions and limits.

A file is read and located elsewhere (`config.documents`); this is its shape, with the sentence and an example of each
key, from which the reference and the schema for editors are written.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator

from policies.rates import FairUse, Rate, fair_use_of, rate_of
from policies.scope import AT_LEAST_MODEL, Id, Mode, ModeName, Name, Scope, Section

Because = Annotated[str, StringConstraints(min_length=1, max_length=300)]
# Written as texts; the input type is what the schema for editors says.
RateText = Annotated[Rate, BeforeValidator(rate_of, json_schema_input_type=str)]
FairUseText = Annotated[FairUse, BeforeValidator(fair_use_of, json_schema_input_type=str)]


class Rule(Scope):
    """One allow or deny. A request passes when some rule allows it and no rule denies it."""

    id: Id = Field(examples=["long-videos"])
    """Its name, in refusals and records: small letters, digits, `-` and `_`. Unique over all files."""
    allow: Literal["use"] | None = Field(default=None, examples=["use"])
    """`use`. A rule has this or `deny`."""
    deny: Literal["use"] | None = Field(default=None, examples=["use"])
    """`use`."""
    because: Because | None = Field(default=None, examples=["This model is in beta"])
    """The sentence that a refused caller reads; for `deny` only."""

    @model_validator(mode="after")
    def _one_effect(self) -> Self:
        if (self.allow is None) == (self.deny is None):
            raise ValueError("a rule has exactly one of `allow: use` and `deny: use`")
        if self.because is not None and self.deny is None:
            raise ValueError("`because` is the sentence of a refusal; it belongs to a `deny` rule")
        return self


class Exemption(Scope):
    """Calls that cost nothing. They still have to be allowed by the rules."""

    id: Id = Field(examples=["house-accounts"])
    """Its name, unique over all files; the name of its count in the ledger as well."""
    funding: Literal["none"] = Field(default="none", examples=["none"])
    """`none`: neither credits nor quota are taken."""
    fair_use: FairUseText | None = Field(default=None, examples=["500/day", "10000/month"])
    """How many calls of an account are exempt in a UTC day or month; without it, all. What comes after is paid for."""


class Limit(Scope):
    """How often calls may be made, or how many at a time. A call has to keep every limit that is about it."""

    id: Id = Field(examples=["free-rate"])
    """Its name, in refusals and in the `RateLimit` headers. Unique over all files."""
    requests: RateText | None = Field(default=None, examples=["60/minute"])
    """How many requests in how much time: a number, `/`, and `second`, `minute`, `hour` or `day`."""
    concurrent: Annotated[int, Field(ge=1, le=100_000)] | None = Field(default=None, examples=[2])
    """How many requests at the same time."""
    per: Literal["account", "user", "key", "everyone"] = Field(default="account", examples=["key"])
    """Whose requests are counted together. Without a key, those of a user count as of one key."""
    because: Because | None = Field(default=None, examples=["Free accounts may ask once a second"])
    """The sentence that a refused caller reads."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.requests is None and self.concurrent is None:
            raise ValueError("a limit has `requests`, `concurrent` or both")
        return self


class Payg(Section):
    """Accounts without a subscription."""

    tier: Name = Field(default="free", examples=["basic"])
    """Their tier: they may use models up to this one."""


class SubscriptionTerms(Section):
    """Accounts with a subscription."""

    overflow: Literal["none", "credits"] = Field(default="none", examples=["credits"])
    """When the quota of the plan is used up: `none` refuses, `credits` goes on with the account's credits."""


class PolicyFile(Section):
    """One file of the policy folder. All files of the folder are one policy."""

    version: Literal[1] = Field(examples=[1])
    """The version of this language."""
    tiers: Annotated[list[Name], Field(min_length=1, max_length=50)] | None = Field(
        default=None, examples=[["free", "basic", "pro", "enterprise", "internal"]]
    )
    """The ladder, from the lowest to the highest; each tier includes those before it. In one file only."""
    payg: Payg | None = Field(default=None, examples=[{"tier": "basic"}])
    """Accounts without a subscription. In one file only."""
    subscription: SubscriptionTerms | None = Field(default=None, examples=[{"overflow": "credits"}])
    """Accounts with a subscription. In one file only."""
    timezone: Annotated[str, StringConstraints(min_length=1, max_length=60)] | None = Field(
        default=None, examples=["Asia/Jakarta"]
    )
    """The time zone of `time` in conditions; without it, UTC. In one file only."""
    mode: ModeName = Field(default=Mode.ENFORCE, examples=["audit"])
    """The mode of the entries of this file that say none of their own."""
    rules: list[Rule] = Field(default=[], examples=[[{"id": "staff", "allow": "use", "who": {"tag": "staff"}}]])
    """What is allowed and denied. Without any rule in any file, the ladder."""
    exemptions: list[Exemption] = Field(
        default=[], examples=[[{"id": "house-accounts", "who": {"tag": "house"}, "fair_use": "500/day"}]]
    )
    """What costs nothing."""
    limits: list[Limit] = Field(
        default=[], examples=[[{"id": "free-rate", "who": {"tier": "free"}, "requests": "60/minute"}]]
    )
    """How often."""

    @field_validator("tiers")
    @classmethod
    def _tiers_differ(cls, tiers: list[str] | None) -> list[str] | None:
        twice = sorted({tier for tier in tiers or () if (tiers or []).count(tier) > 1})
        if twice:
            raise ValueError(f"the tier {twice[0]!r} stands twice; a ladder has each tier once")
        if AT_LEAST_MODEL in (tiers or ()):
            raise ValueError(f"{AT_LEAST_MODEL!r} has its own meaning in rules and cannot be a tier")
        return tiers

    @property
    def entries(self) -> list[tuple[Literal["rules", "exemptions", "limits"], int, Rule | Exemption | Limit]]:
        """All entries with the list that they stand in and their place in it."""
        found: list[tuple[Literal["rules", "exemptions", "limits"], int, Rule | Exemption | Limit]] = []
        found += [("rules", index, rule) for index, rule in enumerate(self.rules)]
        found += [("exemptions", index, exemption) for index, exemption in enumerate(self.exemptions)]
        found += [("limits", index, limit) for index, limit in enumerate(self.limits)]
        return found

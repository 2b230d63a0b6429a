"""What a policy file may say, as data.

A file is read and located elsewhere (`config.documents`); this is its shape, with the sentence that each field means.
Whether the names in it exist is checked by `rulebook.compile_rulebook`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)

from policies.patterns import MAX_PATTERN
from policies.terms import AccountType, Credential


def _one_or_many(value: object) -> object:
    return value if isinstance(value, list) else [value]


Name = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[\w.:@/ -]+$")]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=MAX_PATTERN, pattern=r"^[^,;|\s\x00-\x1f]+$")]
# The input type is for the JSON Schema that editors complete and check files by.
Names = Annotated[
    list[Name], BeforeValidator(_one_or_many, json_schema_input_type=Name | list[Name]), Field(min_length=1)
]
Patterns = Annotated[
    list[Pattern], BeforeValidator(_one_or_many, json_schema_input_type=Pattern | list[Pattern]), Field(min_length=1)
]
AccountTypes = Annotated[
    list[Annotated[AccountType, Field(strict=False)]],
    BeforeValidator(_one_or_many, json_schema_input_type=AccountType | list[AccountType]),
    Field(min_length=1),
]
Credentials = Annotated[
    list[Annotated[Credential, Field(strict=False)]],
    BeforeValidator(_one_or_many, json_schema_input_type=Credential | list[Credential]),
    Field(min_length=1),
]


class Section(BaseModel):
    """Unknown keys are errors, and nothing is coerced: `tier: no` is a mistake, not the text "False".

    A key without a value is an error too: `tag:` would else mean that anyone will do.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _has_value(cls, value: object) -> object:
        if value is None:
            raise ValueError("the key needs a value; leave it out to ask for nothing")
        return value


class AtLeast(Section):
    at_least: Name


def _mapping_or_names(value: object) -> str:
    return "mapping" if isinstance(value, dict | BaseModel) else "names"


TierNames = Annotated[
    Annotated[AtLeast, Tag("mapping")] | Annotated[Names, Tag("names")], Discriminator(_mapping_or_names)
]

AT_LEAST_MODEL: Literal["at-least-model"] = "at-least-model"


class Who(Section):
    """Whom a rule is about. Fields are joined by and, the names in a list by or."""

    tier: TierNames | None = None
    """Exactly these tiers; `{at_least: pro}` for pro and above; `at-least-model` for the model's tier and above."""
    account_type: AccountTypes | None = None
    tag: Names | None = None
    user: Names | None = None
    credential: Credentials | None = None
    not_: Who | None = Field(default=None, alias="not")

    @model_validator(mode="after")
    def _not_is_plain(self) -> Self:
        if self.not_ is None:
            return self
        if self.not_ == Who():
            raise ValueError("`not` is empty: a rule about nobody")
        if self.not_.not_ is not None or (isinstance(self.not_.tier, list) and AT_LEAST_MODEL in self.not_.tier):
            raise ValueError("`not` may hold neither another `not` nor `at-least-model`")
        return self


class ModelAttributes(Section):
    """Models by what they are, rather than by name. All given attributes must fit."""

    tier: Names | None = None
    provider: Names | None = None
    beta: bool | None = None
    capability: Names | None = None
    """Some of these the model has, with a value that is neither false nor null."""


Models = Annotated[
    Annotated[ModelAttributes, Tag("mapping")] | Annotated[Patterns, Tag("names")], Discriminator(_mapping_or_names)
]


class Rule(Section):
    """One allow or deny. A request passes when some rule allows it and no rule denies it."""

    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    allow: Literal["use"] | None = None
    deny: Literal["use"] | None = None
    who: Who = Who()
    app: Names | None = None
    model: Models | None = None
    because: Annotated[str, StringConstraints(min_length=1, max_length=300)] | None = None
    """The sentence that a refused user reads."""

    @model_validator(mode="after")
    def _one_effect(self) -> Self:
        if (self.allow is None) == (self.deny is None):
            raise ValueError("a rule has exactly one of `allow: use` and `deny: use`")
        if self.because is not None and self.deny is None:
            raise ValueError("`because` is the sentence of a refusal; it belongs to a `deny` rule")
        return self


class Payg(Section):
    tier: Name = "free"
    """The highest tier of models that pay-as-you-go accounts may use."""


class SubscriptionTerms(Section):
    overflow: Literal["none", "credits"] = "none"
    """What happens when the quota is used up: refuse, or go on with the account's credits."""


class PolicyFile(Section):
    """One file of the policy folder. `tiers`, `payg` and `subscription` may be said in one file only."""

    version: Literal[1]
    tiers: Annotated[list[Name], Field(min_length=1, max_length=50)] | None = None
    payg: Payg | None = None
    subscription: SubscriptionTerms | None = None
    rules: list[Rule] = []

    @field_validator("tiers")
    @classmethod
    def _tiers_differ(cls, tiers: list[str] | None) -> list[str] | None:
        twice = sorted({tier for tier in tiers or () if (tiers or []).count(tier) > 1})
        if twice:
            raise ValueError(f"the tier {twice[0]!r} stands twice; a ladder has each tier once")
        if AT_LEAST_MODEL in (tiers or ()):
            raise ValueError(f"{AT_LEAST_MODEL!r} has its own meaning in rules and cannot be a tier")
        return tiers

"""What an entry of a policy is about: whom, which models, and which requests. Rules, exemptions and limits share it.

A file is read and located elsewhere (`config.documents`). Whether the names in it exist is checked by `checks`; what
they mean for a call is in `table`, and once more, for Casbin, in `selection`.
"""

from __future__ import annotations

from enum import StrEnum
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

MAX_WHEN = 300
"""Characters of a condition: three lines. What needs more is better said by two entries."""


def one_or_many(value: object) -> object:
    return value if isinstance(value, list) else [value]


Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[\w.:@/ -]+$")]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=MAX_PATTERN, pattern=r"^[^,;|\s\x00-\x1f]+$")]
# The input type is for the JSON Schema that editors complete and check files by.
Names = Annotated[
    list[Name], BeforeValidator(one_or_many, json_schema_input_type=Name | list[Name]), Field(min_length=1)
]
Patterns = Annotated[
    list[Pattern], BeforeValidator(one_or_many, json_schema_input_type=Pattern | list[Pattern]), Field(min_length=1)
]
AccountTypes = Annotated[
    list[Annotated[AccountType, Field(strict=False)]],
    BeforeValidator(one_or_many, json_schema_input_type=AccountType | list[AccountType]),
    Field(min_length=1),
]
Credentials = Annotated[
    list[Annotated[Credential, Field(strict=False)]],
    BeforeValidator(one_or_many, json_schema_input_type=Credential | list[Credential]),
    Field(min_length=1),
]


class Mode(StrEnum):
    """What an entry does when it is about a call."""

    ENFORCE = "enforce"
    """It decides."""
    WARN = "warn"
    """It changes nothing; the answer has a header that says what it would have done, and so does the log."""
    AUDIT = "audit"
    """It changes nothing; the log says what it would have done."""


ModeName = Annotated[Mode, Field(strict=False)]


class Section(BaseModel):
    """Unknown keys are errors, and nothing is coerced: `tier: no` is a mistake, not the text "False".

    A key without a value is an error too: `tag:` would else mean that anyone will do.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _has_value(cls, value: object) -> object:
        if value is None:
            raise ValueError("the key needs a value; leave it out to ask for nothing")
        return value


class AtLeast(Section):
    """A tier and all above it."""

    at_least: Name = Field(examples=["pro"])
    """The lowest tier that is meant."""


def _mapping_or_names(value: object) -> str:
    return "mapping" if isinstance(value, dict | BaseModel) else "names"


TierNames = Annotated[
    Annotated[AtLeast, Tag("mapping")] | Annotated[Names, Tag("names")], Discriminator(_mapping_or_names)
]

AT_LEAST_MODEL: Literal["at-least-model"] = "at-least-model"


class Who(Section):
    """Which callers. All keys that are given have to fit; of a list, one item is enough."""

    tier: TierNames | None = Field(default=None, examples=["at-least-model", ["free", "basic"], {"at_least": "pro"}])
    """Exactly these tiers; `{at_least: pro}` for it and all above; `at-least-model` for the model's tier and above."""
    account_type: AccountTypes | None = Field(default=None, examples=["payg"])
    """How the account pays: `payg` or `subscription`."""
    tag: Names | None = Field(default=None, examples=["beta_tester", ["partner", "staff"]])
    """A tag of the account (`farebox accounts tag`)."""
    role: Names | None = Field(default=None, examples=["editor"])
    """A role of the user, as the credential states it."""
    team: Names | None = Field(default=None, examples=["12"])
    """The number of an account that belongs to a team, in quotes."""
    user: Names | None = Field(default=None, examples=["user-1001"])
    """A user id."""
    credential: Credentials | None = Field(default=None, examples=["api_key"])
    """How the caller proved who they are."""
    not_: Who | None = Field(default=None, alias="not", examples=[{"tag": ["beta_tester", "staff"]}])
    """A mapping of the same keys; the entry is about everybody whom that mapping does not fit as a whole."""

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
    """Models by what they are, rather than by name. All keys that are given have to fit."""

    tier: Names | None = Field(default=None, examples=[["pro", "enterprise"]])
    """The model's own tier."""
    provider: Names | None = Field(default=None, examples=["edenai"])
    """Who runs the model."""
    beta: bool | None = Field(default=None, examples=[True])
    """Whether the model is in beta."""
    capability: Names | None = Field(default=None, examples=["supportsAudio"])
    """Something that the model has, with a value that is neither `false` nor `null`."""


Models = Annotated[
    Annotated[ModelAttributes, Tag("mapping")] | Annotated[Patterns, Tag("names")], Discriminator(_mapping_or_names)
]


class Scope(Section):
    """What every entry may say about the calls that it is about. All keys that are given have to fit."""

    who: Who = Field(default=Who(), examples=[{"tag": "trial"}])
    """Which callers; without it, all."""
    app: Names | None = Field(default=None, examples=["poster-editor", ["poster-editor", "carousel-mix"]])
    """Models of this app, or of these."""
    model: Models | None = Field(default=None, examples=["video-generator:*", {"beta": True}])
    """Models by patterns of their keys, in which `*` and `?` are wild, or by what they are; without it, all."""
    action: Names | None = Field(default=None, examples=["generate_video"])
    """What the route of the request calls it (`action` in farebox.yaml; without one, the route's id)."""
    route: Names | None = Field(default=None, examples=["generate-video"])
    """The id of the request's route in farebox.yaml."""
    when: Annotated[str, StringConstraints(min_length=1, max_length=MAX_WHEN)] | None = Field(
        default=None, examples=["units.duration_seconds > 10", "time.hour >= 22 or time.hour < 6"]
    )
    """A condition on the units of the request, on the time, and on caller and model."""
    mode: ModeName | None = Field(default=None, examples=["audit"])
    """`enforce`, `warn` or `audit`; without it, that of the file."""

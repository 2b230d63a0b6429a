"""Where in a request or an answer a value stands: the `{json: /model}` of the settings, as data.

What they mean on real bytes is the business of `proxy.pipeline`; here is only what may be written.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
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

Number = Annotated[Decimal, BeforeValidator(lambda value: Decimal(value) if type(value) is int else value)]


def _json_pointer(text: str) -> str:
    if len(text) > 300 or not re.fullmatch(r"(/([^/~]|~[01])*)*", text):
        raise ValueError("expected a JSON pointer (RFC 6901) such as /generation/id")
    return text


JsonPointer = Annotated[str, AfterValidator(_json_pointer)]
"""RFC 6901: `/generation/id`; the empty pointer is the whole document."""

CALLS, FIELD = "calls", "field"


def _in_a_call(text: str) -> str:
    if text in (CALLS, FIELD):
        return text
    if not text.startswith("/"):
        raise ValueError(f"expected `{FIELD}`, `{CALLS}`, or a JSON pointer into the arguments such as /input/model")
    return _json_pointer(text)


InCall = Annotated[str, AfterValidator(_in_a_call)]
"""Of a call of a GraphQL request: the name of its field, itself, or a pointer into its arguments."""

UnitName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]

FieldName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.\-\[\]]{1,100}$")]


class Settings(BaseModel):
    """Unknown keys are errors, nothing is coerced, and nothing changes after the start.

    A key without a value is an error too: `audience:` would else mean that any audience will do.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)

    @field_validator("*", mode="before")
    @classmethod
    def _has_value(cls, value: object) -> object:
        if value is None:
            raise ValueError("the key needs a value; leave it out for its default")
        return value


class Source(Settings):
    """Exactly one place of a request. `json` may list several pointers where backends know several spellings."""

    json_: Annotated[
        list[JsonPointer] | None,
        BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
        Field(alias="json", min_length=1, max_length=10),
    ] = None
    """A pointer, or several for several spellings: the largest unit counts; only one model may be there."""
    path: FieldName | None = None
    """A `{name}` in the path of the route."""
    query: FieldName | None = None
    """A parameter of the query."""
    header: FieldName | None = None
    """A header of the request."""
    form: FieldName | None = None
    """A field of a body that is `application/x-www-form-urlencoded`."""
    multipart: FieldName | None = None
    """A field of a body that is `multipart/form-data`, before the first file; files stream past."""
    graphql: InCall | None = None
    """Of each call of a GraphQL request: its `field`, or a pointer into its arguments; or `calls`, their number."""
    const: str | int | Number | None = None
    """The value itself: the same for every request of the route."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(self.places) != 1:
            raise ValueError("expected exactly one of json, path, query, header, form, multipart, graphql, const")
        return self

    @property
    def places(self) -> dict[str, object]:
        names: dict[str, object] = {"json": self.json_, "path": self.path, "query": self.query}
        names |= {"header": self.header, "form": self.form, "multipart": self.multipart}
        names |= {"graphql": self.graphql, "const": self.const}
        return {name: value for name, value in names.items() if value is not None}

    @property
    def reads_body(self) -> bool:
        return self.json_ is not None or self.form is not None or self.graphql is not None


class ModelSource(Source):
    """Where a request names its model: the model's id within the route's app, or its full key."""

    @model_validator(mode="after")
    def _no_number(self) -> Self:
        if self.graphql == CALLS:
            raise ValueError("the number of calls names no model; expected `field`, or a pointer into the arguments")
        return self


class UnitSource(Source):
    """Where a request says how much it asks for. Out of range is refused, absent without default as well."""

    min: Number = Decimal(0)
    """The least that is accepted."""
    max: Number | None = None
    """The most that is accepted. It has to be there, except with `values` and `present`, which have a most already."""
    default: Number | None = None
    """What an absent unit counts as."""
    length: bool = False
    """Count the items of the array found, instead of reading a number."""
    values: Annotated[dict[str, Number], Field(max_length=100)] = {}
    """What each text counts as, such as `{720p: 720, 4k: 2160}`; another text is refused."""
    present: bool = False
    """Count 1 where there is something, and 0 where there is nothing, or false, 0 or an empty text."""
    optional: bool = False
    """An absent unit is left out of the price, which then is the model's base."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if [self.length, bool(self.values), self.present].count(True) > 1:
            raise ValueError("a unit is read in one way: as a number, or by `length`, `values` or `present`")
        if self.max is None and not self.values and not self.present:
            raise ValueError("a unit needs `max`: it bounds what a request can cost")
        if not 0 <= self.min <= self.most:
            raise ValueError("expected 0 <= min <= max")
        if self.default is not None and not self.min <= self.default <= self.most:
            raise ValueError("expected the default between min and max")
        if any(value < 0 for value in self.values.values()):
            raise ValueError("no text counts less than 0")
        if self.length and self.json_ is None and (self.graphql or "")[:1] != "/":
            raise ValueError("`length` counts the items of an array; it needs `json`, or `graphql` with a pointer")
        if self.graphql == CALLS and (self.values or self.present):
            raise ValueError("calls are counted as they are, without `values` or `present`")
        return self

    @property
    def most(self) -> Decimal:
        """The most that is accepted, also where the settings need not say it."""
        if self.max is not None:
            return self.max
        return max(self.values.values()) if self.values else Decimal(1)


class ProductSource(Settings):
    """A unit that is the product of several, such as width x height."""

    product: Annotated[list[UnitSource], Field(min_length=2, max_length=4)]
    """The factors. When one is absent and optional, the whole unit is absent."""


def _kind_of_unit(value: object) -> str:
    product = "product" in value if isinstance(value, dict) else isinstance(value, ProductSource)
    return "ProductSource" if product else "UnitSource"


Unit = Annotated[
    Annotated[UnitSource, Tag("UnitSource")] | Annotated[ProductSource, Tag("ProductSource")],
    Discriminator(_kind_of_unit),
]


class AnswerSource(Settings):
    """Where an answer states a value: a JSON body, or the last event of a stream that has it."""

    json_: JsonPointer = Field(alias="json")
    """A pointer into the answer."""


class UsageSource(Settings):
    """Exactly one place in which an exchange states or shows what it really used."""

    json_: JsonPointer | None = Field(default=None, alias="json")
    """A pointer into the answer: a JSON body, or the events of a stream, of which the last one that has it counts."""
    header: FieldName | None = None
    """A header of the answer."""
    bytes: Literal["request", "answer"] | None = None
    """How long the body of the request or of the answer was, in bytes, as they were sent."""
    seconds: Literal[True] | None = None
    """How long the exchange took, from its reservation to the end of the answer."""
    length: bool = False
    """With `json`: count the items of the array found."""
    sum: bool = False
    """With `json`: add up what the events of a stream state, instead of taking the last one."""
    max: Number | None = None
    """More than this is not believed."""
    default: Number | None = None
    """What counts where an answer does not state it. Without it the quote is charged then."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if [self.json_, self.header, self.bytes, self.seconds].count(None) != 3:
            raise ValueError("expected exactly one of json, header, bytes, seconds")
        if (self.length or self.sum) and self.json_ is None:
            raise ValueError("`length` and `sum` are of `json`")
        if self.length and self.sum:
            raise ValueError("expected `length` or `sum`")
        if any(number is not None and number < 0 for number in (self.max, self.default)):
            raise ValueError("expected numbers that are not negative")
        if self.max is not None and self.default is not None and self.default > self.max:
            raise ValueError("expected the default to be at most max")
        return self

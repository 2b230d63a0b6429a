"""Where in a request or an answer a value stands: the `{json: /model}` of the settings, as data.

What they mean on real bytes is the business of `proxy.pipeline`; here is only what may be written.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Self

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
    const: str | int | Number | None = None
    """The value itself: the same for every request of the route."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(self.places) != 1:
            raise ValueError("expected exactly one of json, path, query, header, form, multipart, const")
        return self

    @property
    def places(self) -> dict[str, object]:
        names: dict[str, object] = {"json": self.json_, "path": self.path, "query": self.query}
        names |= {"header": self.header, "form": self.form, "multipart": self.multipart, "const": self.const}
        return {name: value for name, value in names.items() if value is not None}

    @property
    def reads_body(self) -> bool:
        return self.json_ is not None or self.form is not None


class ModelSource(Source):
    """Where a request names its model: the model's id within the route's app, or its full key."""


class UnitSource(Source):
    """Where a request says how much it asks for. Out of range is refused, absent without default as well."""

    min: Number = Decimal(0)
    """The least that is accepted."""
    max: Number
    """The most that is accepted."""
    default: Number | None = None
    """What an absent unit counts as."""
    length: bool = False
    """Count the items of the array found, instead of reading a number."""
    optional: bool = False
    """An absent unit is left out of the price, which then is the model's base."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if not 0 <= self.min <= self.max:
            raise ValueError("expected 0 <= min <= max")
        if self.default is not None and not self.min <= self.default <= self.max:
            raise ValueError("expected the default between min and max")
        if self.length and self.json_ is None:
            raise ValueError("`length` counts the items of a JSON array; it needs `json`")
        return self


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

"""What answers and bodies are made of: the base of every shape, and how moments, credits and texts look in JSON.

A shape is a pydantic model, so that the answer, its validation and its description in the OpenAPI document are one
thing. Names are camelCase in JSON, as the clients of the origin system expect.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints, WithJsonSchema
from pydantic.alias_generators import to_camel

from policies.pricing import to_credits
from policies.refusals import iso

MAX_NAME = 200
"""Characters of an id that a client sends: plan ids and model keys are far shorter."""

PAGE_DEFAULT = 50
PAGE_MAX = 200
"""Rows of one page: what a person scrolls through; a script follows `nextCursor`."""


class Shape(BaseModel):
    """An answer, or a part of one. Every field is always there, null where it has no meaning."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
        frozen=True,
        extra="forbid",
    )


class Body(BaseModel):
    """A request body: nothing is coerced, and a key that is not known is an error."""

    model_config = ConfigDict(
        alias_generator=to_camel, use_attribute_docstrings=True, frozen=True, extra="forbid", strict=True
    )


class Query(BaseModel):
    """The parameters of a query. Others than these are not looked at."""

    model_config = ConfigDict(alias_generator=to_camel, use_attribute_docstrings=True, frozen=True)

    envelope: Literal["0", "1"] | None = None
    """1 wraps the answer as {success, data} and errors as {success, error}."""


class Page(Query):
    limit: int = Field(default=PAGE_DEFAULT, ge=1, le=PAGE_MAX)
    """Rows of one page."""
    cursor: str | None = Field(default=None, max_length=40)
    """`nextCursor` of the page before; without it the newest rows come."""


Moment = Annotated[
    datetime, PlainSerializer(iso, return_type=str), WithJsonSchema({"type": "string", "format": "date-time"})
]

Credits = Annotated[int, PlainSerializer(to_credits, return_type=int | float), WithJsonSchema({"type": "number"})]
"""Micro-credits here, credits in JSON: a whole number, or one with at most six decimals."""


def _rate(micro_credits: Decimal) -> int | float:
    credits = micro_credits.scaleb(-6)
    return int(credits) if credits == credits.to_integral_value() else float(credits)


CreditRate = Annotated[
    Decimal, PlainSerializer(_rate, return_type=int | float), WithJsonSchema({"type": "number", "minimum": 0})
]
"""Micro-credits for one unit here, credits for one unit in JSON; a rate may have more than six decimals."""


def _json_text(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), separators=(",", ":"), ensure_ascii=False)


JsonText = Annotated[
    Mapping[str, Any],
    PlainSerializer(_json_text, return_type=str),
    WithJsonSchema({"type": "string", "contentMediaType": "application/json"}),
]
"""An object that the origin system sends as a text of JSON, which its clients parse a second time."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME)]

Text = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]
"""Words of a person, which are stored; PostgreSQL has no texts with a NUL in them."""


class Done(Shape):
    """What every answer to a change begins with."""

    success: Literal[True] = True
    message: str
    """What has happened, for people."""

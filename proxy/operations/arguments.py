"""The kinds of arguments that verbs take, each with its bounds. Credits are written in credits and read as micro."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, StringConstraints

from policies.pricing import to_credits, to_micro
from policies.refusals import iso
from policies.scope import Pattern
from policies.terms import MAX_AMOUNT, MICRO, HoldId
from store.ids import id_text, parse_id

MAX_PAGE = 500
"""Rows of one answer: what a person scrolls through, and a script fetches without holding up anyone."""

_NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")
"""As people write amounts. Python's own reading takes 1e3, 1_000, digits of any script and blanks around them."""

_UNIT = re.compile(r"([a-z][a-z0-9_]{0,39})=([0-9]{1,15}(?:\.[0-9]{1,9})?)")


def _number(value: object) -> Decimal:
    number: Decimal | None = None
    if isinstance(value, str | float) and _NUMBER.fullmatch(str(value)):
        number = Decimal(str(value))
    elif isinstance(value, int | Decimal) and not isinstance(value, bool):
        # Of a JSON body, whose numbers are read as exact ones.
        number = Decimal(value)
    # Compared without its sign: of a huge exponent Decimal would round even the absolute value, and fail.
    if number is None or not number.is_finite() or number.copy_abs() > MAX_AMOUNT:
        raise ValueError(f"expected a number of credits, such as 25 or 0.5, at most {MAX_AMOUNT // MICRO}")
    return number


def _micro(value: object) -> int:
    return to_micro(_number(value))


def _positive(micro: int) -> int:
    if micro <= 0:
        raise ValueError("expected more than zero credits")
    return micro


def _not_negative(micro: int) -> int:
    if micro < 0:
        raise ValueError("expected zero credits or more")
    return micro


_shown_as_credits = PlainSerializer(to_credits)
Credits = Annotated[int, BeforeValidator(_micro), AfterValidator(_positive), _shown_as_credits]
"""More than zero."""
CreditsOrNone = Annotated[int, BeforeValidator(_micro), AfterValidator(_not_negative), _shown_as_credits]
"""Zero or more."""


def _amount(value: object) -> Decimal:
    number = _number(value)
    if number < 0:
        raise ValueError("expected zero or more")
    return number


Amount = Annotated[Decimal, BeforeValidator(_amount)]
"""Credits or quota units, whichever a hold is made of."""


def _moment(value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        if moment is not None:
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError("expected a date such as 2026-12-31, or a moment such as 2026-12-31T18:00:00Z")


Moment = Annotated[datetime, BeforeValidator(_moment), PlainSerializer(iso)]
"""UTC unless it says otherwise; a date alone is its midnight."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("expected characters that can be printed")
    return text


def one_or_many(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


Name = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_printable)]
"""Of an account, a user, a model, a plan: what fits into a line."""
Email = Annotated[str, StringConstraints(max_length=320), AfterValidator(_printable)]
Sentence = Annotated[str, StringConstraints(min_length=1, max_length=300), AfterValidator(_printable)]
Tag = Annotated[str, StringConstraints(pattern=r"^[\w.:@/-]{1,100}$")]
Tags = Annotated[list[Tag], BeforeValidator(one_or_many), Field(min_length=1, max_length=50)]
Patterns = Annotated[list[Pattern], BeforeValidator(one_or_many), Field(max_length=100)]
Limit = Annotated[int, Field(ge=1, le=MAX_PAGE)]
Priority = Annotated[int, Field(ge=0, le=1000)]
Cursor = Annotated[int, Field(ge=0, lt=2**63)]


def _hold_id(value: object) -> HoldId:
    hold_id = parse_id(value) if isinstance(value, str) else None
    if hold_id is None:
        raise ValueError("expected the id of a request: thirteen letters and digits, as in X-Request-Id")
    return hold_id


MinorUnits = Annotated[int, Field(ge=0, le=MAX_AMOUNT)]
"""Of the currency of a plan."""

Hold = Annotated[HoldId, BeforeValidator(_hold_id), PlainSerializer(id_text)]


def _unit(value: object) -> str:
    if not isinstance(value, str) or not _UNIT.fullmatch(value):
        raise ValueError("expected a unit with its number, such as duration_seconds=10")
    return value


UnitTexts = Annotated[list[Annotated[str, BeforeValidator(_unit)]], BeforeValidator(one_or_many), Field(max_length=20)]


def units_of(texts: list[str]) -> dict[str, Decimal]:
    """The units that checked texts such as `duration_seconds=10` name."""
    return {name: Decimal(number) for name, _, number in (text.partition("=") for text in texts)}

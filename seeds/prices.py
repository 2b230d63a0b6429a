"""What a seed file may say about a price, below its top: rates, steps, surcharges and their conditions.

Numbers are credits, or units of quota, exactly as written; `price_from` makes of them what the policies know. Unknown
keys are errors, and every error has its place, by the path of keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Protocol, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from policies.terms import MAX_AMOUNT, MICRO, Price, Range, Term

MAX_DIGITS = 24
"""Digits of a number of credits, on both sides of its point: enough for the millionth part of a micro-credit."""

MAX_TERMS = 50
"""Surcharges of one price: each costs time with every call, and nobody could explain more to a customer."""

MAX_FACTORS = 4
"""Units that a price is multiplied with."""


def credits(value: object) -> Decimal:
    """A number of credits, exactly as written."""
    return _number(value, MAX_AMOUNT // MICRO, "number of credits")


def _plain_number(value: object) -> Decimal:
    return _number(value, MAX_AMOUNT, "number")


def _number(value: object, most: int, what: str) -> Decimal:
    if type(value) is not int and not isinstance(value, Decimal):
        raise ValueError(f"expected a {what}")
    number = Decimal(value)
    if not 0 <= number <= most:
        raise ValueError(f"expected a {what} between 0 and {most}")
    _, digits, exponent = number.as_tuple()
    if len(digits) > MAX_DIGITS or not isinstance(exponent, int) or exponent < -MAX_DIGITS:
        raise ValueError(f"expected a {what} with at most {MAX_DIGITS} digits")
    return number


def _positive(value: object) -> Decimal:
    number = _plain_number(value)
    if number == 0:
        raise ValueError("expected a number of more than zero")
    return number


UnitName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Number = Annotated[Decimal, BeforeValidator(_plain_number)]
Step = Annotated[Decimal, BeforeValidator(_positive)]
Amount = Annotated[Decimal, BeforeValidator(credits)]


class Seed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PerSeed(Seed):
    """Credits for each unit, or for each begun `step` of it, above `above`."""

    credits: Amount
    step: Step | None = None
    """Units that cost as much as one: each begun step counts whole."""
    above: Number = Decimal(0)
    """Units that cost nothing."""


def per_unit(value: object) -> object:
    """A number, a mapping, or a list of mappings."""
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, dict | PerSeed) else [{"credits": value}]


class RangeSeed(Seed):
    """From `min` to `max`, both included."""

    min: Number = Decimal(0)
    max: Number | None = None

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.max is not None and self.max < self.min:
            raise ValueError("expected min <= max")
        return self


def _range(value: object) -> object:
    return value if isinstance(value, dict | RangeSeed) else {"min": value, "max": value}


Condition = Annotated[RangeSeed, BeforeValidator(_range)]


class SurchargeSeed(Seed):
    """What comes on top: credits, or percent of what is fixed and comes per unit."""

    credits: Amount | None = None
    percent: Annotated[Number, Field(le=100_000)] | None = None
    unit: UnitName | None = None
    """Counts for each of these, instead of once."""
    step: Step | None = None
    """With `unit`: for each begun step of it."""
    above: Number | None = None
    """With `unit`: only for what is above."""
    when: Annotated[dict[UnitName, Condition], Field(max_length=MAX_TERMS)] = {}
    """Counts only when each of these units is given and is that number, or in that range."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.credits is None) == (self.percent is None):
            raise ValueError("a surcharge is either `credits` or `percent`")
        if self.unit is None and (self.step is not None or self.above is not None):
            raise ValueError("`step` and `above` are of a `unit`")
        return self


class _Priced(Protocol):
    @property
    def per(self) -> Mapping[str, Sequence[PerSeed]]: ...
    @property
    def surcharges(self) -> Sequence[SurchargeSeed]: ...
    @property
    def times(self) -> Sequence[str]: ...


def price_from(seed: _Priced, base: int, fixed: int, round_up_to: int, scale: int) -> Price:
    """The price; `scale` is what one credit, or one unit of quota, counts."""
    plain = {unit: parts[0] for unit, parts in seed.per.items() if _is_plain(parts)}
    return Price(
        base=base,
        rates={unit: _scaled(part.credits, scale) for unit, part in plain.items()},
        round_up_to=round_up_to,
        fixed=fixed,
        steps=tuple(
            Term(_scaled(part.credits, scale), unit, part.step, part.above)
            for unit, parts in seed.per.items()
            if unit not in plain
            for part in parts
        ),
        surcharges=tuple(_term(surcharge, scale) for surcharge in seed.surcharges),
        times=tuple(seed.times),
    )


def _is_plain(parts: Sequence[PerSeed]) -> bool:
    return len(parts) == 1 and parts[0].step is None and not parts[0].above


def _term(seed: SurchargeSeed, scale: int) -> Term:
    percent = seed.percent is not None
    amount: Any = seed.percent if percent else _scaled(seed.credits or Decimal(0), scale)
    when: dict[str, Range] = {unit: (limits.min, limits.max) for unit, limits in seed.when.items()}
    return Term(amount, seed.unit, seed.step, seed.above or Decimal(0), when, percent)


def _scaled(number: Decimal, scale: int) -> Decimal:
    """Exactly: `MAX_DIGITS` and those of the scale are far below what a product of decimals holds."""
    return number.scaleb(6) if scale == MICRO else number

"""Values of the hot path: dataclasses that nobody changes, made at the price of plain ones.

A frozen dataclass sets each field by way of `object.__setattr__`, which makes it four times as expensive, and a request
makes some thirty of them. Here the type checker alone keeps them frozen (PEP 681), which in this house is enough:
nothing is committed that it does not accept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

Class = TypeVar("Class")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[Class]) -> type[Class]:
    """As `@dataclass(frozen=True, slots=True)`, for types of which every request makes some."""
    return dataclass(slots=True, unsafe_hash=True)(cls)

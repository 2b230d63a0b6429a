"""What an exchange has used, from everything that tells: its documents, its headers, its bytes and its time. Pure.

| the answer states            | charged is                                                        |
|------------------------------|-------------------------------------------------------------------|
| every unit, believably       | the true cost                                                     |
| a unit not at all            | its `default`, where it has one; else the quote, as an estimate   |
| something absurd or negative | the quote, as an estimate, whatever the defaults are              |

So nothing that a backend says wrongly, and nothing that it leaves out, lowers a charge below what the settings allow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from config.extractors import UsageSource
from policies.values import value
from proxy import strict_json
from proxy.headers import HeaderList
from proxy.pipeline.metering import is_believable
from proxy.strict_json import Unreadable

_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A unit of a route's usage, with its pointer parsed."""

    name: str
    source: UsageSource
    pointer: tuple[str, ...] | None


@value
class Passed:
    """What was seen of an exchange beside its documents: the answer's headers, both bodies' bytes, and the time."""

    headers: HeaderList
    request_bytes: int
    answer_bytes: int
    seconds: float


NOTHING_PASSED = Passed([], 0, 0, 0.0)
"""For what has no answer of its own, such as a message of a WebSocket."""


def states_any(document: Any, wanted: Sequence[Wanted]) -> bool:
    """Whether a document has anything at one of the places, believable or not."""
    return any(unit.pointer is not None and _lookup(document, unit.pointer) is not None for unit in wanted)


def wanted_of(usage: Mapping[str, UsageSource]) -> tuple[Wanted, ...]:
    return tuple(
        Wanted(name, source, None if source.json_ is None else strict_json.tokens(source.json_))
        for name, source in usage.items()
    )


def usage_in(documents: Sequence[Any], wanted: Sequence[Wanted], passed: Passed) -> Mapping[str, Decimal] | None:
    """The units that an exchange has used, or None unless every one of them is told, believably."""
    units: dict[str, Decimal] = {}
    for unit in wanted:
        value = _stated(unit, documents, passed)
        if value is None:
            value = unit.source.default
        if not is_believable(value) or (unit.source.max is not None and value > unit.source.max):
            return None
        units[unit.name] = Decimal(value)
    return units


def _stated(unit: Wanted, documents: Sequence[Any], passed: Passed) -> Any:
    """What is stated, of whatever kind it is; None for nothing."""
    source = unit.source
    if unit.pointer is not None:
        values = [value for document in documents if (value := _lookup(document, unit.pointer)) is not None]
        if not values or not source.length:
            return values[-1] if values else None
        return len(values[-1]) if isinstance(values[-1], list) else False
    if source.header is not None:
        texts = [text.strip() for name, text in passed.headers if name.lower() == source.header.lower()]
        if not texts:
            return None
        return Decimal(texts[0]) if len(texts) == 1 and _NUMBER.fullmatch(texts[0]) else False
    if source.bytes is not None:
        return passed.request_bytes if source.bytes == "request" else passed.answer_bytes
    return Decimal(f"{passed.seconds:.3f}")


def _lookup(document: Any, pointer: tuple[str, ...]) -> Any:
    try:
        return strict_json.find(document, pointer)
    except Unreadable:
        return None

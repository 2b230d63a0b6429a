"""How often: rates as they are written, and the one rule by which calls are let through at a rate.

The rule is the generic cell rate algorithm (ITU-T I.371, annex A): one moment for each counter, the time at which it
would be empty again, instead of a list of past calls. After a pause the whole number may come at once, then one more in
each equal part of the time. Nothing has to be reset, and a counter whose moment has passed says nothing any more.

Pure: the counters are kept elsewhere (`proxy.limiting`), and time is an argument.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from policies.terms import Metric

_RATE = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour|day)")
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_FAIR_USE = re.compile(r"([1-9][0-9]{0,8})/(day|month)")
_MICROS = 1_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """So many calls in so many seconds."""

    calls: int
    seconds: int
    text: str

    @property
    def step(self) -> int:
        """Microseconds that one call takes up, rounded up."""
        return -(-self.seconds * _MICROS // self.calls)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class FairUse:
    """So many exempt calls of an account in a UTC day or calendar month."""

    calls: int
    period: Metric
    text: str

    def __str__(self) -> str:
        return self.text


def rate_of(value: object) -> Rate:
    if isinstance(value, Rate):
        return value
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(
            "expected a number of calls and a time, such as 60/minute; known are second, minute, hour, day"
        )
    return Rate(int(match[1]), _SECONDS[match[2]], match[0])


def fair_use_of(value: object) -> FairUse:
    if isinstance(value, FairUse):
        return value
    match = _FAIR_USE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected a number of calls and day or month, such as 500/day")
    return FairUse(int(match[1]), Metric.DAILY if match[2] == "day" else Metric.MONTHLY, match[0])


@dataclass(frozen=True, slots=True)
class Admitted:
    """`empty_at` is the counter's new moment, in microseconds; `left` how many more calls may come at once."""

    empty_at: int
    left: int


@dataclass(frozen=True, slots=True)
class Limited:
    """`wait` is the time until a call may come, in microseconds."""

    wait: int


def admit(empty_at: int, rate: Rate, now: int) -> Admitted | Limited:
    """Whether one more call may come at `now`, to a counter that is empty at `empty_at`. Microseconds, both.

    At a rate of n, n calls may come at once and, in any span of time, never more than n and one for each step of it.
    """
    after = max(empty_at, now) + rate.step
    room = rate.calls * rate.step
    if after - now > room:
        return Limited(after - now - room)
    return Admitted(after, (room - (after - now)) // rate.step)

"""Which quota window a moment falls in, and when that window ends.

A reset is a change of key, never an UPDATE: the window of a moment is a pure function, so a reset job that comes
late, twice or never changes no decision. Windows are the UTC day and the UTC calendar month.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from policies.terms import Metric


@dataclass(frozen=True, slots=True)
class Window:
    """Half-open interval [start, end) in UTC; with the account and the metric, `start` is the window's key."""

    metric: Metric
    start: datetime
    end: datetime


def window_at(metric: Metric, now: datetime) -> Window:
    """The window of `metric` that contains `now`."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if metric is Metric.DAILY:
        return Window(metric, day, day + timedelta(days=1))
    first = day.replace(day=1)
    return Window(metric, first, (first + timedelta(days=32)).replace(day=1))

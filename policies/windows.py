"""Which quota window a moment falls in, and when that window ends: a pure function of a calendar and the moment.

A reset is a change of key, never an UPDATE, so a reset job that comes late, twice or never changes no decision.

A **calendar** cuts time into days and months. A day begins when the clocks of the calendar's zone show `day_starts`.
Where they skip that time, or show it twice, it is read as RFC 5545 §3.3.5 reads it: by the offset before the gap, and
as the first of the two. So days of 23, 25 or 24½ hours are whole days, and a date that a zone left out (Samoa had no
30 December 2011) is no day. A month is made of such days: from the 1st, or from the day of the month of an anchor,
clamped to the month's last day from the ORIGINAL anchor (31 January, 28 February, 31 March), by the arithmetic that
billing periods use.

What an account may use in a window, and which window it is in when its calendar changes, is for `policies.quota`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from policies.subscription import add_cycles
from policies.terms import Cycle, Metric

_DAY = timedelta(days=1)
_FIRST = datetime(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Calendar:
    """How days and months are cut. The default is that of UTC."""

    zone: tzinfo = UTC
    day_starts: time = time(0)
    """What the zone's clocks show when a day begins."""
    month_anchor: datetime | None = None
    """Months begin on the day of the month of this moment; None is the 1st."""


UTC_CALENDAR = Calendar()


@dataclass(frozen=True, slots=True)
class Window:
    """Half-open interval [start, end) in UTC; with the account and the metric, `start` is the window's key."""

    metric: Metric
    start: datetime
    end: datetime


def window_at(metric: Metric, calendar: Calendar, now: datetime) -> Window:
    """The window of `metric` that contains `now`."""
    day = day_of(calendar, now)
    if metric is Metric.DAILY:
        return day_window(calendar, day)
    anchor = _anchor(calendar)
    number = _month_of(anchor, day)
    first, next_first = _first_day(anchor, number), _first_day(anchor, number + 1)
    return Window(metric, _start(calendar, first), _start(calendar, next_first))


def windows_between(metric: Metric, calendar: Calendar, earlier: datetime, later: datetime) -> int:
    """How many windows begin after `earlier` and until `later`: 0 when both are in the same one."""
    first, last = day_of(calendar, earlier), day_of(calendar, later)
    if metric is Metric.DAILY:
        return (last - first).days
    anchor = _anchor(calendar)
    return _month_of(anchor, last) - _month_of(anchor, first)


def day_of(calendar: Calendar, now: datetime) -> date:
    """The date of the day that contains `now`: the one on which it began."""
    shown = now.astimezone(calendar.zone)
    # A guess by what the clocks show, which is a day off where they were set in between.
    day = shown.date() if shown.time() >= calendar.day_starts else shown.date() - _DAY
    while _start(calendar, day) > now:
        day -= _DAY
    while _start(calendar, day + _DAY) <= now:
        day += _DAY
    return day


def day_window(calendar: Calendar, day: date) -> Window:
    """The window of a date, which is empty where the zone left that date out."""
    return Window(Metric.DAILY, _start(calendar, day), _start(calendar, day + _DAY))


def _start(calendar: Calendar, day: date) -> datetime:
    """When a day begins. `datetime` itself reads a time as RFC 5545 does, by its `fold` of 0 (PEP 495)."""
    return datetime.combine(day, calendar.day_starts, calendar.zone).astimezone(UTC)


def _anchor(calendar: Calendar) -> datetime:
    """The first day of month 0, as a date with a time of no meaning."""
    if calendar.month_anchor is None:
        return _FIRST
    return datetime.combine(day_of(calendar, calendar.month_anchor), time(0))


def _month_of(anchor: datetime, day: date) -> int:
    """The number of the month that contains `day`, counted from that of the anchor."""
    number = (day.year - anchor.year) * 12 + day.month - anchor.month
    return number if _first_day(anchor, number) <= day else number - 1


def _first_day(anchor: datetime, number: int) -> date:
    return add_cycles(anchor, Cycle.MONTHLY, number).date()

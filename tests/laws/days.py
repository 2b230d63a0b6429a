"""Days and months once more, as simply as they can be thought of: by looking at the clock every quarter of an hour.

What the oracle counts by. It knows nothing of offsets: a day has the date that the clocks show, less the hours until
it begins, and ends where that date changes. For zones whose clocks are set by whole quarters, and not around the hour
at which the days begin.
"""

from __future__ import annotations

import calendar as months
from datetime import date, datetime, timedelta
from functools import cache

from policies.terms import Metric
from policies.windows import Calendar

QUARTER = timedelta(minutes=15)
Name = date | tuple[int, int]


def span(metric: Metric, calendar: Calendar, moment: datetime) -> tuple[datetime, datetime]:
    """Where the day or month begins and ends that contains `moment`."""
    quarter = moment.replace(minute=moment.minute // 15 * 15, second=0, microsecond=0)
    name = _name(metric, calendar, quarter)
    return _walk(metric, calendar, quarter, name, -1), _walk(metric, calendar, quarter, name, 1)


def _walk(metric: Metric, calendar: Calendar, quarter: datetime, name: Name, direction: int) -> datetime:
    """Day by day, so that a month is not walked through by quarters."""
    edge = _edge(calendar, quarter, direction)
    while _name(metric, calendar, edge if direction > 0 else edge - QUARTER) == name:
        edge = _edge(calendar, edge if direction > 0 else edge - QUARTER, direction)
    return edge


@cache
def _edge(calendar: Calendar, quarter: datetime, direction: int) -> datetime:
    """The beginning or the end of a day."""
    today = _date(calendar, quarter)
    while _date(calendar, quarter if direction > 0 else quarter - QUARTER) == today:
        quarter += direction * QUARTER
    return quarter


def _date(calendar: Calendar, moment: datetime) -> date:
    begins = timedelta(hours=calendar.day_starts.hour, minutes=calendar.day_starts.minute)
    return (moment.astimezone(calendar.zone).replace(tzinfo=None) - begins).date()


def _name(metric: Metric, calendar: Calendar, moment: datetime) -> Name:
    day = _date(calendar, moment)
    if metric is Metric.DAILY:
        return day
    first = 1 if calendar.month_anchor is None else _date(calendar, calendar.month_anchor).day
    if day.day >= min(first, months.monthrange(day.year, day.month)[1]):
        return day.year, day.month
    return (day.year, day.month - 1) if day.month > 1 else (day.year - 1, 12)

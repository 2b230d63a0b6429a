"""Quota windows: the day and the month of a calendar, as pure functions of a moment."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.subscription import add_cycles
from policies.terms import Cycle, Metric
from policies.windows import UTC_CALENDAR, Calendar, Window, day_of, day_window, window_at, windows_between
from tests.policies.samples import LAW

HOUR = timedelta(hours=1)
ZONES = sorted(available_timezones())
AWKWARD = [
    "America/Santiago",
    "America/Asuncion",
    "America/Havana",
    "America/Scoresbysund",
    "Asia/Beirut",
    "Asia/Tehran",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/Monrovia",
    "Antarctica/Casey",
    "Antarctica/Troll",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",
]
"""Clocks set at midnight, by half an hour, by two hours, backwards in summer; days left out, and shown twice."""

_moments = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
_metrics = st.sampled_from(Metric)
_times = st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30, 59]))
_calendars = st.builds(
    Calendar, st.sampled_from([*AWKWARD, *ZONES]).map(ZoneInfo), st.just(time(0)) | _times, st.none() | _moments
)


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _days(zone: str, first: str, count: int, starts: str = "00:00") -> list[Window]:
    """Windows one after the other, the first being that of a moment."""
    calendar = Calendar(ZoneInfo(zone), time.fromisoformat(starts))
    windows = [window_at(Metric.DAILY, calendar, _utc(first))]
    for _ in range(count - 1):
        windows.append(window_at(Metric.DAILY, calendar, windows[-1].end))
    return windows


def _hours(windows: list[Window]) -> list[float]:
    return [(window.end - window.start) / HOUR for window in windows]


@pytest.mark.parametrize(
    ("metric", "now", "start", "end"),
    [
        (Metric.DAILY, "2025-01-15T00:00:00", "2025-01-15", "2025-01-16"),
        (Metric.DAILY, "2025-01-15T23:59:59.999999", "2025-01-15", "2025-01-16"),
        (Metric.DAILY, "2025-01-31T12:00:00", "2025-01-31", "2025-02-01"),
        (Metric.DAILY, "2024-02-28T12:00:00", "2024-02-28", "2024-02-29"),
        (Metric.DAILY, "2024-02-29T12:00:00", "2024-02-29", "2024-03-01"),
        (Metric.DAILY, "2025-02-28T12:00:00", "2025-02-28", "2025-03-01"),
        (Metric.DAILY, "2025-12-31T23:59:59", "2025-12-31", "2026-01-01"),
        (Metric.MONTHLY, "2025-01-01T00:00:00", "2025-01-01", "2025-02-01"),
        (Metric.MONTHLY, "2025-01-31T23:59:59.999999", "2025-01-01", "2025-02-01"),
        (Metric.MONTHLY, "2024-02-29T12:00:00", "2024-02-01", "2024-03-01"),
        (Metric.MONTHLY, "2025-04-30T12:00:00", "2025-04-01", "2025-05-01"),
        (Metric.MONTHLY, "2025-12-31T23:59:59", "2025-12-01", "2026-01-01"),
    ],
)
def test_the_edges_of_windows(metric: Metric, now: str, start: str, end: str) -> None:
    """Midnight belongs to the new window; months end with their own last day, also in leap years."""
    assert window_at(metric, UTC_CALENDAR, _utc(now)) == Window(metric, _utc(start), _utc(end))


@pytest.mark.parametrize(
    ("now", "start"),
    [
        ("2025-01-15T20:00:00+00:00", "2025-01-15"),
        ("2025-01-16T03:00:00+07:00", "2025-01-15"),
        ("2025-01-15T06:00:00+07:00", "2025-01-14"),
        ("2025-01-14T20:00:00-05:00", "2025-01-15"),
        ("2025-01-15T19:00:00-05:00", "2025-01-16"),
    ],
)
def test_the_day_is_the_utc_day_wherever_the_server_stands(now: str, start: str) -> None:
    """The origin reset at local midnight: hours early or late, depending on the server's time zone."""
    assert window_at(Metric.DAILY, UTC_CALENDAR, datetime.fromisoformat(now)).start == _utc(start)


@pytest.mark.parametrize(
    ("starts", "now", "start", "end"),
    [
        ("00:00", "2025-01-15T16:59:59", "2025-01-14T17:00", "2025-01-15T17:00"),
        ("00:00", "2025-01-15T17:00:00", "2025-01-15T17:00", "2025-01-16T17:00"),
        ("06:00", "2025-01-14T22:59:59", "2025-01-13T23:00", "2025-01-14T23:00"),
        ("06:00", "2025-01-14T23:00:00", "2025-01-14T23:00", "2025-01-15T23:00"),
    ],
)
def test_a_day_begins_when_the_clocks_of_its_zone_say_so(starts: str, now: str, start: str, end: str) -> None:
    """In Jakarta, seven hours before UTC, at midnight or at six in the morning."""
    calendar = Calendar(ZoneInfo("Asia/Jakarta"), time.fromisoformat(starts))
    assert window_at(Metric.DAILY, calendar, _utc(now)) == Window(Metric.DAILY, _utc(start), _utc(end))


@pytest.mark.parametrize(
    ("zone", "first", "starts", "hours"),
    [
        ("Europe/Berlin", "2025-03-29T12:00", "00:00", [24, 23, 24]),
        ("Europe/Berlin", "2025-10-25T12:00", "00:00", [24, 25, 24]),
        # 02:30 is left out on 30 March, and counts as if the clocks had not been set yet: 03:30 by those that were.
        ("Europe/Berlin", "2025-03-28T12:00", "02:30", [24, 24, 23]),
        # It comes twice on 26 October, and the first one counts.
        ("Europe/Berlin", "2025-10-24T12:00", "02:30", [24, 24, 25]),
        ("Australia/Lord_Howe", "2025-10-04T12:00", "00:00", [24, 23.5, 24]),
        # Midnight itself is left out: the day begins at 01:00.
        ("America/Santiago", "2025-09-06T12:00", "00:00", [24, 23, 24]),
        ("Africa/Cairo", "2025-04-24T12:00", "00:00", [24, 23, 24]),
        ("Asia/Beirut", "2025-03-29T12:00", "00:00", [24, 23, 24]),
        # Midnight comes twice: the last hour of the day before is shown again, and belongs to the new day.
        ("America/Havana", "2025-11-01T12:00", "00:00", [24, 25, 24]),
        # At the end of 29 December 2011 Samoa went to 31 December.
        ("Pacific/Apia", "2011-12-29T12:00", "00:00", [24, 24, 24]),
        # 30 September 1969 was shown nearly twice in the Marshall Islands.
        ("Pacific/Kwajalein", "1969-09-29T00:00", "00:00", [24, 47, 24]),
    ],
)
def test_days_on_which_clocks_are_set(zone: str, first: str, starts: str, hours: list[float]) -> None:
    """Of 23, 25 or 23½ hours, they are whole days that follow each other."""
    windows = _days(zone, first, 3, starts)
    assert _hours(windows) == hours
    assert all(one.end == other.start for one, other in pairwise(windows))


def test_a_date_that_was_left_out_is_no_day() -> None:
    """Samoa had no 30 December 2011: the window of that date is empty, and its neighbours meet."""
    calendar = Calendar(ZoneInfo("Pacific/Apia"))
    jump = _utc("2011-12-30T10:00")
    empty = day_window(calendar, date(2011, 12, 30))
    assert (empty.start, empty.end) == (jump, jump)
    assert day_of(calendar, jump - timedelta(microseconds=1)) == date(2011, 12, 29)
    assert day_of(calendar, jump) == date(2011, 12, 31)


@pytest.mark.parametrize("initial", sorted({zone[:2] for zone in ZONES}))
def test_the_days_of_every_zone_tile_time(initial: str) -> None:
    """A year and more of every zone there is: no gap, no overlap, about a day each, each date once and in its order."""
    for zone in (zone for zone in ZONES if zone.startswith(initial)):
        calendar = Calendar(ZoneInfo(zone))
        window, day = window_at(Metric.DAILY, calendar, _utc("2025-02-01")), day_of(calendar, _utc("2025-02-01"))
        while window.start < _utc("2026-04-15"):
            following, day = window_at(Metric.DAILY, calendar, window.end), day + timedelta(days=1)
            assert following.start == window.end, (zone, window)
            assert timedelta(hours=20) < window.end - window.start < timedelta(hours=28), (zone, window)
            assert day_of(calendar, following.start) == day, (zone, window)
            window = following


@pytest.mark.parametrize("starts", ["00:00", "00:30", "02:30", "23:59"])
@pytest.mark.parametrize("zone", AWKWARD)
def test_the_days_of_awkward_zones_tile_sixty_years(zone: str, starts: str) -> None:
    """Also where a day was left out, or lasted for two, and whenever the day begins."""
    calendar = Calendar(ZoneInfo(zone), time.fromisoformat(starts))
    window = window_at(Metric.DAILY, calendar, _utc("1968-01-01"))
    # Long stretches without a change of clocks are left out.
    while window.start < _utc("2028-01-01"):
        following = window_at(Metric.DAILY, calendar, window.end)
        assert following.start == window.end > window.start, window
        shown = [moment.astimezone(calendar.zone).utcoffset() for moment in (window.start, window.end + timedelta(25))]
        window = window_at(Metric.DAILY, calendar, window.end + timedelta(24)) if shown[0] == shown[1] else following


@pytest.mark.parametrize("zone", AWKWARD)
@pytest.mark.parametrize("anchor", [None, "2024-02-29T23:30", "2025-01-31T10:00", "2011-12-30T12:00"])
def test_the_months_of_awkward_zones_tile_time(zone: str, anchor: str | None) -> None:
    """From the 1st or from an anchor's day, on this side of it and on the other."""
    calendar = Calendar(ZoneInfo(zone), time(3), _utc(anchor) if anchor else None)
    window = window_at(Metric.MONTHLY, calendar, _utc("2008-01-01"))
    while window.start < _utc("2032-01-01"):
        following = window_at(Metric.MONTHLY, calendar, window.end)
        assert following.start == window.end, window
        assert timedelta(days=26) < window.end - window.start < timedelta(days=33)
        window = following


def test_a_month_is_anchored_to_the_day_of_the_subscription() -> None:
    """Clamped to the month's last day from the original anchor: 31 January, 28 February, 31 March, 30 April."""
    calendar = Calendar(month_anchor=_utc("2025-01-31T10:00"))
    starts, moment = [], _utc("2024-12-31")
    for _ in range(6):
        starts.append(f"{moment:%Y-%m-%d}")
        moment = window_at(Metric.MONTHLY, calendar, moment).end
    assert starts == ["2024-12-31", "2025-01-31", "2025-02-28", "2025-03-31", "2025-04-30", "2025-05-31"]


def test_an_anchored_month_begins_with_the_day_of_its_anchor() -> None:
    """At the hour at which days begin, and on the date that the anchor has in the zone: the 1st in Jakarta."""
    calendar = Calendar(ZoneInfo("Asia/Jakarta"), time(6), _utc("2025-01-31T23:30"))
    window = window_at(Metric.MONTHLY, calendar, _utc("2025-02-10"))
    assert (window.start, window.end) == (_utc("2025-01-31T23:00"), _utc("2025-02-28T23:00"))


@LAW
@given(_moments, st.integers(0, 400))
def test_an_anchored_month_is_that_of_a_billing_period(anchor: datetime, count: int) -> None:
    """Quota renews on the day on which the subscription does, and goes on for as many days."""
    calendar = Calendar(month_anchor=anchor)
    start, end = (add_cycles(anchor, Cycle.MONTHLY, number) for number in (count, count + 1))
    window = window_at(Metric.MONTHLY, calendar, start)
    assert (window.start.date(), window.end.date()) == (start.date(), end.date())


@LAW
@given(_metrics, _calendars, _moments)
def test_windows_tile_time(metric: Metric, calendar: Calendar, now: datetime) -> None:
    """Every moment is in its window; the next window begins where it ends, and the one before ends where it begins."""
    window = window_at(metric, calendar, now)
    assert window.start <= now < window.end
    assert window_at(metric, calendar, window.start) == window
    assert window_at(metric, calendar, window.end - timedelta(microseconds=1)) == window
    assert window_at(metric, calendar, window.end).start == window.end
    assert window_at(metric, calendar, window.start - timedelta(microseconds=1)).end == window.start


@LAW
@given(_metrics, _calendars, _moments, st.integers(-14 * 60, 14 * 60))
def test_a_window_does_not_depend_on_the_time_zone_of_its_moment(
    metric: Metric, calendar: Calendar, now: datetime, offset: int
) -> None:
    """The same moment written in another time zone is in the same window."""
    assert window_at(metric, calendar, now.astimezone(timezone(timedelta(minutes=offset)))) == window_at(
        metric, calendar, now
    )


@LAW
@given(_calendars, _moments)
def test_a_month_is_made_of_its_days(calendar: Calendar, now: datetime) -> None:
    """No day lies in two months, so that daily and monthly counts add up."""
    day, month = window_at(Metric.DAILY, calendar, now), window_at(Metric.MONTHLY, calendar, now)
    assert month.start <= day.start
    assert day.end <= month.end
    assert timedelta(days=26) <= month.end - month.start <= timedelta(days=33)


@LAW
@given(_metrics, st.builds(Calendar, st.sampled_from(AWKWARD).map(ZoneInfo), _times, st.none() | _moments), st.data())
def test_windows_between_two_moments_are_counted(metric: Metric, calendar: Calendar, data: st.DataObject) -> None:
    """As many as one would pass going from window to window."""
    earlier = data.draw(st.datetimes(datetime(2012, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)))
    steps = data.draw(st.integers(0, 20))
    window = window_at(metric, calendar, earlier)
    for _ in range(steps):
        window = window_at(metric, calendar, window.end)
    assert windows_between(metric, calendar, earlier, window.start) == steps
    assert windows_between(metric, calendar, earlier, window.end - timedelta(microseconds=1)) == steps

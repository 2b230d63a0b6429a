"""Quota windows: the UTC day and the UTC month, as pure functions of a moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.terms import Metric
from policies.windows import Window, window_at
from tests.policies.samples import LAW

_moments = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
_metrics = st.sampled_from(Metric)


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


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
    assert window_at(metric, _utc(now)) == Window(metric, _utc(start), _utc(end))


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
    assert window_at(Metric.DAILY, datetime.fromisoformat(now)).start == _utc(start)


@LAW
@given(_metrics, _moments)
def test_windows_tile_time(metric: Metric, now: datetime) -> None:
    """Every moment is in its window; the next window begins where it ends, and the one before ends where it begins."""
    window = window_at(metric, now)
    assert window.start <= now < window.end
    assert window_at(metric, window.start) == window
    assert window_at(metric, window.end - timedelta(microseconds=1)) == window
    assert window_at(metric, window.end).start == window.end
    assert window_at(metric, window.start - timedelta(microseconds=1)).end == window.start


@LAW
@given(_metrics, _moments, st.integers(-14 * 60, 14 * 60))
def test_a_window_does_not_depend_on_the_time_zone_of_its_moment(metric: Metric, now: datetime, offset: int) -> None:
    """The same moment written in another time zone is in the same window."""
    assert window_at(metric, now.astimezone(timezone(timedelta(minutes=offset)))) == window_at(metric, now)


@LAW
@given(_moments)
def test_a_month_is_made_of_its_days(now: datetime) -> None:
    """No day lies in two months, so that daily and monthly counts add up."""
    day, month = window_at(Metric.DAILY, now), window_at(Metric.MONTHLY, now)
    assert month.start <= day.start
    assert day.end <= month.end
    assert timedelta(days=28) <= month.end - month.start <= timedelta(days=31)

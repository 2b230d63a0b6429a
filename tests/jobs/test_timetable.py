"""When jobs are due: at their times in UTC, all of them at the start, and again soon after trouble."""

from __future__ import annotations

import datetime as real
import os
import time
from types import SimpleNamespace

import pytest

from jobs.timetable import JOBS, RETRY_S, Timetable, UnknownJob, in_utc, job_named

START = real.datetime(2025, 1, 15, 10, 0, 7)


class SystemTime:
    """The time that `schedule` sees."""

    def __init__(self) -> None:
        self.now = START

    def pass_(self, **duration: float) -> None:
        self.now += real.timedelta(**duration)


@pytest.fixture
def system_time(monkeypatch: pytest.MonkeyPatch) -> SystemTime:
    moment = SystemTime()

    class Datetime(real.datetime):
        @classmethod
        def now(cls, tz: real.tzinfo | None = None) -> real.datetime:  # type: ignore[override]
            return moment.now

    fake = SimpleNamespace(datetime=Datetime, timedelta=real.timedelta, time=real.time)
    monkeypatch.setattr("schedule.datetime", fake)
    return moment


def _due(timetable: Timetable) -> list[str]:
    return [job.name for job in timetable.due()]


def test_everything_is_due_at_the_start_and_then_nothing(system_time: SystemTime) -> None:
    """What was missed while no scheduler ran is made up for at once."""
    timetable = Timetable(JOBS)
    assert _due(timetable) == [job.name for job in JOBS]
    assert _due(timetable) == []


def test_each_job_is_due_at_its_times(system_time: SystemTime) -> None:
    """Sweeping every 15 seconds, adding up every 5 minutes, subscriptions every full hour, the rest at midnight."""
    timetable = Timetable(JOBS)
    timetable.due()
    seen: dict[str, list[real.datetime]] = {job.name: [] for job in JOBS}
    while system_time.now < START + real.timedelta(hours=26):
        system_time.pass_(seconds=1)
        for name in _due(timetable):
            seen[name].append(system_time.now)
    midnight = real.datetime(2025, 1, 16)
    assert seen["quota_housekeeping"] == seen["archive_usage"] == [midnight]
    assert seen["expire_subscriptions"] == [
        real.datetime(2025, 1, 15, 11) + real.timedelta(hours=hour) for hour in range(26)
    ]
    assert seen["sweep_holds"][:2] == [START + real.timedelta(seconds=seconds) for seconds in (15, 30)]
    assert len(seen["sweep_holds"]) == 26 * 3600 // 15
    assert len(seen["roll_up_usage"]) == 26 * 60 // 5


def test_a_job_is_due_once_however_often_it_was_missed(system_time: SystemTime) -> None:
    """A process that slept for three days does not run a job three times."""
    timetable = Timetable(JOBS)
    timetable.due()
    system_time.pass_(days=3)
    assert sorted(_due(timetable)) == sorted(job.name for job in JOBS)
    assert _due(timetable) == []


def test_a_job_that_is_to_be_tried_again_is_due_in_a_minute_and_once(system_time: SystemTime) -> None:
    """However often it fails meanwhile: tries replace each other, they do not pile up."""
    timetable = Timetable(JOBS)
    timetable.due()
    daily = job_named("quota_housekeeping")
    for _ in range(5):
        timetable.try_again(daily)
        system_time.pass_(seconds=1)
    system_time.pass_(seconds=RETRY_S - 2)
    assert "quota_housekeeping" not in _due(timetable)
    system_time.pass_(seconds=1)
    assert "quota_housekeeping" in _due(timetable)
    system_time.pass_(minutes=10)
    assert "quota_housekeeping" not in _due(timetable)


def test_a_frequent_job_waits_for_its_next_time_instead(system_time: SystemTime) -> None:
    """Sweeping comes again in seconds anyway."""
    timetable = Timetable([job for job in JOBS if job.name != "watch_jobs"])
    timetable.due()
    timetable.try_again(job_named("sweep_holds"))
    system_time.pass_(seconds=15)
    assert _due(timetable) == ["sweep_holds"]
    assert _due(timetable) == []


@pytest.mark.parametrize(
    ("name", "one", "other", "same"),
    [
        ("quota_housekeeping", "2025-01-15T00:00:00", "2025-01-15T23:59:59", True),
        ("quota_housekeeping", "2025-01-15T23:59:59", "2025-01-16T00:00:00", False),
        ("expire_subscriptions", "2025-01-15T10:00:00", "2025-01-15T10:59:59", True),
        ("expire_subscriptions", "2025-01-15T10:59:59", "2025-01-15T11:00:00", False),
        ("sweep_holds", "2025-01-15T10:00:15", "2025-01-15T10:00:29", True),
        ("sweep_holds", "2025-01-15T10:00:14", "2025-01-15T10:00:15", False),
    ],
)
def test_a_job_is_done_once_in_each_stretch_of_time(name: str, one: str, other: str, same: bool) -> None:
    """The day, the hour and the quarter of a minute, all counted from midnight UTC."""
    moments = [real.datetime.fromisoformat(text).replace(tzinfo=real.UTC) for text in (one, other)]
    assert job_named(name).when.same_stretch(*moments) is same
    assert job_named(name).when.same_stretch(*reversed(moments)) is same


def test_an_unknown_job_is_told_with_the_nearest_name() -> None:
    """A typing mistake is answered with what was probably meant."""
    with pytest.raises(UnknownJob, match="'sweep_hold'; did you mean 'sweep_holds'"):
        job_named("sweep_hold")


@pytest.mark.usefixtures("local_time")
def test_midnight_is_that_of_utc_wherever_the_machine_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server in Jakarta keeps the same times: the process that runs the jobs lives in UTC."""
    monkeypatch.setitem(os.environ, "TZ", "Asia/Jakarta")
    time.tzset()
    in_utc()
    assert time.localtime(0)[:6] == (1970, 1, 1, 0, 0, 0)

"""The audit log stays as long as the settings say, by whole months."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jobs.process import run_job_once
from jobs.timetable import jobs_for
from store import audit
from store.audit import Act, Outcome, Result
from tests.jobs.conftest import House

MOMENTS = [
    datetime(2024, 10, 31, 23, 59, tzinfo=UTC),
    datetime(2024, 11, 1, tzinfo=UTC),
    datetime(2025, 1, 2, tzinfo=UTC),
]


@pytest.mark.parametrize(("months", "kept"), [(None, 3), (2, 2), (3, 3)])
async def test_entries_older_than_the_months_that_stay_are_dropped(
    houses: tuple[House, House], months: int | None, kept: int
) -> None:
    """In the middle of January two months are those from November on; without a setting everything stays."""
    house, _ = houses
    for moment in MOMENTS:
        await house.store.database.write(audit.note, Act("admin", "", "x y", {}), Result(Outcome.DONE), moment)
    report = await run_job_once(house.store, house.clock, "audit_housekeeping", jobs_for(None, months))
    assert report.counts == {"entries_dropped": 3 - kept}
    rows = await house.store.database.read(lambda connection: audit.page(connection, limit=9))
    assert [row["at"] for row in rows] == MOMENTS[::-1][:kept]

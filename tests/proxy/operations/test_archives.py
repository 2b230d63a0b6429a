"""Archives as operators see them: what has left, whether its files are sound, and where a hold went."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.archive_usage import Keep
from jobs.process import Outcome, run_job_once
from jobs.timetable import jobs_for
from policies.refusals import Reason
from store import archiving
from store.ids import parse_id
from tests.proxy.operations.desk import MICRO, Counter

FILE = "usage-2026-01.csv.gz"


async def _archive(counter: Counter, folder: Path | None) -> None:
    counter.clock.now += timedelta(days=100)
    jobs = jobs_for(Keep(2, folder))
    report = await run_job_once(counter.desk.store, counter.clock, "archive_usage", jobs)
    assert report.outcome is Outcome.DONE


async def _use(counter: Counter) -> str:
    hold = await counter.reserve("ana", 5 * MICRO)
    number = parse_id(hold)
    assert number is not None
    await counter.settle(number, "ana")
    return hold


@pytest.fixture
async def hold(counter: Counter) -> str:
    """A charge of January."""
    await counter.do("accounts create", user="ana")
    return await _use(counter)


@pytest.fixture
def folder(counter: Counter) -> Path:
    assert counter.desk.archive_folder is not None
    counter.desk.archive_folder.mkdir()
    return counter.desk.archive_folder


async def _listed(counter: Counter) -> tuple[bool, list[tuple[Any, ...]]]:
    answer = await counter.do("usage archives")
    return answer["ok"], [(row["file"], row["rows"], row["deleted"], row["condition"]) for row in answer["archives"]]


async def test_archives_are_listed_and_read_through(counter: Counter, hold: str, folder: Path) -> None:
    """With what the manifest says of each, and whether the file is the one that was written."""
    assert await _listed(counter) == (True, [])
    await _archive(counter, folder)
    answer = await counter.do("usage archives")
    manifest = json.loads((folder / "usage-2026-01.json").read_text())
    assert answer == {
        "ok": True,
        "archives": [
            {
                "month": "2026-01",
                "file": FILE,
                "rows": 1,
                "bytes": (folder / FILE).stat().st_size,
                "deleted": "all",
                "done_at": "2026-04-25T10:30:00.000Z",
                "sha256": manifest["sha256"],
                "condition": "intact",
            }
        ],
    }


async def test_damage_and_loss_are_told(counter: Counter, hold: str, folder: Path) -> None:
    """The command ends with 1 then, as `ok` is false."""
    await _archive(counter, folder)
    content = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(content + b"\n")
    assert await _listed(counter) == (False, [(FILE, 1, "all", "changed")])
    (folder / FILE).unlink()
    assert await _listed(counter) == (False, [(FILE, 1, "all", "missing")])
    (folder / FILE).mkdir()
    assert await _listed(counter) == (False, [(FILE, 1, "all", "cannot be read: Is a directory")])


async def test_a_file_of_another_database_is_told(counter: Counter, hold: str, folder: Path) -> None:
    """One that was restored from a backup does not know what it wrote later."""
    (folder / "usage-2025-07.json").write_text('{"file": "usage-2025-07.csv.gz", "month": "2025-07", "rows": 7}')
    assert await _listed(counter) == (False, [("usage-2025-07.csv.gz", 7, None, "not of this database")])


async def test_what_was_not_kept_is_told(counter: Counter, hold: str) -> None:
    """`archive: off`."""
    await _archive(counter, None)
    assert await _listed(counter) == (True, [(None, 0, "all", "not kept")])
    refused = await counter.refused("holds show", Reason.NOT_FOUND, id=hold)
    assert "archive: off" in str(refused.hint)


async def test_a_hold_that_was_archived_says_where_to_look(counter: Counter, hold: str, folder: Path) -> None:
    """And its refund, that credits can still be given."""
    await _archive(counter, folder)
    for verb in ("holds show", "holds release", "holds settle", "holds refund"):
        assert FILE in str((await counter.refused(verb, Reason.NOT_FOUND, id=hold)).hint)
    later = await _use(counter)
    await counter.do("holds refund", id=later)
    assert (await counter.refused("holds show", Reason.NOT_FOUND, id="7ZZZZZZZZZZZZ")).hint is None


async def test_a_refund_of_what_is_being_archived_is_refused(counter: Counter, hold: str) -> None:
    """The row is still here and its month is on the way out; the hint says what can be done instead."""
    month = counter.clock.now.replace(day=1, hour=0, minute=0)
    counter.clock.now += timedelta(days=100)
    await run_job_once(counter.desk.store, counter.clock, "roll_up_usage")
    assert await counter.desk.store.database.write(archiving.begin, month, FILE, counter.clock.now) is not None
    refused = await counter.refused("holds refund", Reason.CONFLICT, id=hold, amount=1)
    assert "has been archived, and is final" in refused.error
    assert "farebox credits grant" in str(refused.hint)
    assert await _listed(counter) == (True, [(FILE, None, "none", "not complete yet")])


async def test_sums_can_be_counted_anew(counter: Counter, hold: str) -> None:
    """Whenever they are in doubt: they stay what they were."""
    counter.clock.now += timedelta(days=1)
    await run_job_once(counter.desk.store, counter.clock, "roll_up_usage")
    before = await counter.do("usage summary")
    assert (await counter.do("usage recount"))["counted_anew_from"] is None
    assert await counter.do("usage summary") == before
    report = await run_job_once(counter.desk.store, counter.clock, "roll_up_usage")
    assert report.counts == {"usage_rolled_up": 1}
    assert await counter.do("usage summary") == before
    assert (await counter.do("ledger verify"))["ok"] is True

"""Archiving may stop anywhere, and somebody else may come between: nothing is lost, and nothing is there twice."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import jobs.archive_usage
from config.clock import utc_now
from store import archiving
from store.archive_files import ArchiveTrouble
from store.archiving import Batch
from store.ids import id_text
from store.roll_up import count_anew, frontier
from tests.archive.archives import (
    APRIL,
    CALLS,
    FEBRUARY,
    MARCH,
    MAY,
    archive,
    by_id,
    filed,
    stored,
    used_account,
)
from tests.store.till import Till
from tests.store.usages import DAY, reserve, roll_up, shown, use

pytestmark = pytest.mark.asyncio(loop_scope="session")

FILE = "usage-2025-02.csv.gz"


async def _months(till: Till) -> int:
    """How many months are done."""
    months = await till.database.read(archiving.archives)
    return sum(month.done_at is not None for month in months)


@pytest.mark.parametrize("batch", [1, 3, 100])
async def test_a_turn_may_end_after_any_piece_of_work(
    till: Till, tmp_path: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one begins a file again that is not complete, and goes on with the deletion where it was."""
    monkeypatch.setattr(archiving, "BATCH", batch)
    monkeypatch.setattr(jobs.archive_usage, "READ_SIZE", batch + 2)
    await used_account(till)
    before, sums, looks = await stored(till.database), await shown(till), 0
    while await _months(till) < 3:
        await archive(till.database, tmp_path, MAY, looks=looks)
        left, gone = await stored(till.database), by_id(filed(tmp_path))
        assert gone | left == before
        assert await shown(till) == sums
        await till.check()
        looks += 1
    assert looks > 1
    assert (await stored(till.database), by_id(filed(tmp_path))) == ({}, before)


async def _in_the_middle(till: Till, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """February's file is complete, and its first rows are deleted."""
    monkeypatch.setattr(archiving, "BATCH", 1)
    looks = 0
    while len(await stored(till.database)) == CALLS:
        await archive(till.database, folder, MARCH, looks=looks)
        looks += 1
    assert await _months(till) == 0


async def test_somebody_who_comes_late_deletes_nothing(
    till: Till, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that slept through its lease finds the state moved on, and leaves."""
    await used_account(till)
    await _in_the_middle(till, tmp_path, monkeypatch)
    (month,) = await till.database.read(archiving.archives)
    rows = await till.database.read(archiving.next_rows, month, month.deleted_through, 1)
    stale = Batch(month.deleted_through, month.deleted_through, rows)
    await archive(till.database, tmp_path, MARCH)
    left = await stored(till.database)
    assert await till.database.write(archiving.delete, month, stale) is False
    assert await till.database.write(archiving.complete, month, 1, "other") is None
    assert await stored(till.database) == left


async def test_a_month_that_is_not_counted_does_not_begin(till: Till) -> None:
    """What has left can never be counted: the line is drawn when the roll-up has passed the end of the month."""
    await used_account(till)
    begin = partial(till.database.write, archiving.begin, FEBRUARY, None, utc_now())
    assert await begin() is None
    await roll_up(till, MARCH)
    # The roll-up runs a little behind the moment up to which it counts.
    assert await begin() is None
    await roll_up(till, MARCH + DAY)
    await till.database.write(count_anew, utc_now())
    assert await begin() is None
    await archive(till.database, None, FEBRUARY)
    month = await begin()
    assert month is not None
    assert (month.until, month.ended_by) == (MARCH, (await till.database.read(frontier)).at)


@pytest.mark.parametrize("change", ["refund", "usage"])
async def test_a_row_that_has_changed_is_not_deleted(till: Till, tmp_path: Path, change: str) -> None:
    """Given back, or become usage after all: between the comparison and the deletion, and the whole batch stays."""
    account = await used_account(till)
    hold = await use(till, account, FEBRUARY, "a:x", 30, funding="credits")
    released = await reserve(till, account, FEBRUARY, "a:y", 30, "credits")
    await till.release(released)
    await archive(till.database, tmp_path, before=FEBRUARY)
    month = await till.database.write(archiving.begin, FEBRUARY, None, utc_now())
    assert month is not None
    rows = await till.database.read(archiving.next_rows, month, -1, 100)
    columns = "user_id, key_id, model_key, action, route_id, funding, quoted, charged, units, estimated, at"
    usage = f"SELECT {released.hold_id}, account_id, {columns} FROM usage_events WHERE id = {hold.hold_id}"
    if change == "refund":
        await till.refund(hold, 10)
    else:
        await till.tamper(f"INSERT INTO usage_events (id, account_id, {columns}) {usage}")
    before = await stored(till.database)
    with pytest.raises(archiving.Changed):
        await till.database.write(archiving.delete, month, Batch(-1, hold.hold_id, rows))
    assert await stored(till.database) == before
    assert await till.rows("SELECT * FROM archived_usage") == []
    await till.tamper(f"DELETE FROM usage_events WHERE id = {released.hold_id}")


async def test_a_refund_that_slips_in_is_not_lost(
    till: Till, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Booked after the file was written: the row stays with what is true now, and the next file has that."""
    account = await used_account(till)
    hold = await use(till, account, FEBRUARY, "a:x", 30, funding="credits")
    _before_the_first(archiving.delete, lambda: till.refund(hold, 10), till, monkeypatch)
    with caplog.at_level(logging.WARNING, "jobs"):
        await archive(till.database, tmp_path, before=MARCH)
    assert f"1 rows of {FILE} have changed since" in caplog.text
    await till.check()
    assert (await stored(till.database))[id_text(hold.hold_id)]["refunded"] == "10"
    await archive(till.database, tmp_path, before=APRIL)
    assert [row["refunded"] for row in filed(tmp_path) if row["id"] == id_text(hold.hold_id)] == ["0", "10"]


def _before_the_first(
    change: object, happens: Callable[[], Awaitable[object]], till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something happens just before the first transaction that runs `change`."""
    write, waiting = till.database.write, [happens]

    async def write_later(function: Any, *arguments: Any, **named: Any) -> Any:
        if function is change and waiting:
            await waiting.pop()()
        return await write(function, *arguments, **named)

    monkeypatch.setattr(till.database, "write", write_later)


# What may be wrong with a folder. Nothing is deleted then, and the sentence says what to do.


async def test_a_folder_that_is_not_there_is_not_made(till: Till, tmp_path: Path) -> None:
    """A volume that is not mounted: the archive would be written on a disk that goes away."""
    await used_account(till)
    with pytest.raises(ArchiveTrouble, match="make or mount it"):
        await archive(till.database, tmp_path / "missing", before=MAY)
    assert len(await stored(till.database)) == CALLS
    assert not (tmp_path / "missing").exists()


async def test_a_file_of_somebody_else_is_not_written_over(till: Till, tmp_path: Path) -> None:
    """The database was restored from a backup, or two of them have one folder."""
    await used_account(till)
    (tmp_path / FILE).write_text("precious")
    with pytest.raises(ArchiveTrouble, match="move the file away"):
        await archive(till.database, tmp_path, before=MAY)
    assert (tmp_path / FILE).read_text() == "precious"
    assert len(await stored(till.database)) == CALLS


@pytest.mark.parametrize("loss", ["gone", "changed"])
async def test_a_file_that_is_not_what_it_was_stops_the_deletion(
    till: Till, tmp_path: Path, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read back before the next row is deleted; when it is put back, the work goes on."""
    await used_account(till)
    before = await stored(till.database)
    await _in_the_middle(till, tmp_path, monkeypatch)
    left, content = await stored(till.database), (tmp_path / FILE).read_bytes()
    if loss == "gone":
        (tmp_path / FILE).unlink()
    else:
        (tmp_path / FILE).write_bytes(content[:-1])
    with pytest.raises(ArchiveTrouble, match="put it back"):
        await archive(till.database, tmp_path, MARCH)
    assert await stored(till.database) == left
    (tmp_path / FILE).write_bytes(content)
    await archive(till.database, tmp_path, MARCH)
    assert by_id(filed(tmp_path)) | await stored(till.database) == before


async def test_a_month_on_its_way_keeps_its_folder(till: Till, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets `archive: off` meanwhile is told to wait: the rest would be deleted without a copy."""
    await used_account(till)
    await _in_the_middle(till, tmp_path, monkeypatch)
    with pytest.raises(ArchiveTrouble, match="until it is done"):
        await archive(till.database, None, MARCH)
    await archive(till.database, tmp_path, MARCH)
    assert (await archive(till.database, None, APRIL))["months_archived"] == 1

"""Moves usage that is older than `retention.usage` into files, a month at a time, and deletes it from the database.

Killed at any point it goes on where it was: a file that is not complete is written again, one that is complete is read
back before the next row is deleted, and a row is deleted only against its copy in the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from jobs.pacing import unhurried
from jobs.roll_up_usage import roll_up_usage
from jobs.turns import Turn
from policies.terms import Metric
from policies.windows import UTC_CALENDAR, window_at
from store import archiving
from store.archive_files import ArchiveTrouble, ArchiveWriter, batches, checksum, file_name
from store.archive_rows import ArchiveRow, number_of
from store.archiving import Archive, Batch, Changed
from store.opening import Store
from store.schema import current_schema

READ_SIZE = 5_000
"""Rows that are read at once to be written into a file; nothing is locked meanwhile."""

PROGRESS = 100_000
"""Rows between two lines of the log that say how far it has come."""

TRIES = 3
"""How often a batch is read again of which a row has changed under our hands."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Keep:
    """How many complete months stay, and the folder for those that go; None keeps nothing of them."""

    months: int
    folder: Path | None


async def archive_usage(store: Store, turn: Turn, keep: Keep | None) -> dict[str, int]:
    """Archive every month that is due, the oldest first. Without `keep` everything stays.

    Raises ArchiveTrouble when a folder or a file is not as it should be; nothing is lost then.
    """
    archived = deleted = 0
    if keep is not None:
        # What leaves has to be counted first.
        await roll_up_usage(store, turn)
        while (archive := await _next(store, keep)) is not None:
            complete = archive if archive.rows is not None else await _write(store, turn, archive, _folder(keep))
            if complete is None:
                break
            count, ended = await _delete(store, turn, complete, keep)
            deleted += count
            if not ended:
                break
            archived += 1
    return {"months_archived": archived, "rows_deleted": deleted}


async def _next(store: Store, keep: Keep) -> Archive | None:
    """The month that is under way, or else the next one that is due."""
    months = await store.database.read(archiving.archives)
    if months and months[-1].done_at is None:
        return months[-1]
    now = await store.database.read(store.database.now)
    month = await store.database.read(archiving.due_month, months_before(now, keep.months))
    if month is None:
        return None
    file = None
    if keep.folder is not None:
        file = file_name(month)
        if (_folder(keep) / file).exists():
            raise ArchiveTrouble(
                f"{keep.folder / file} is there already, and not from this database as it is now (was it restored from "
                "a backup, or is the folder another one's?); move the file away"
            )
    return await store.database.write(archiving.begin, month, file, now)


def months_before(now: datetime, months: int) -> datetime:
    """The beginning of the months that stay: so many, and the current one."""
    start = window_at(Metric.MONTHLY, UTC_CALENDAR, now).start
    year, month = divmod(start.year * 12 + start.month - 1 - months, 12)
    return start.replace(year=year, month=month + 1)


def _folder(keep: Keep) -> Path:
    if keep.folder is None:
        raise ArchiveTrouble("a month is on its way into a file; set retention.archive to its folder until it is done")
    if not keep.folder.is_dir():
        # Not made here: where a volume is not mounted, it would be made on a disk that goes away.
        raise ArchiveTrouble(f"there is no folder {keep.folder}, which retention.archive names; make or mount it")
    return keep.folder


async def _write(store: Store, turn: Turn, archive: Archive, folder: Path) -> Archive | None:
    """The archive with its file complete. None when the turn ends before that."""
    assert archive.file is not None, "a month that is not complete has a file"
    with contextlib.closing(await asyncio.to_thread(ArchiveWriter, folder, archive.file)) as writer:
        after = -1
        while rows := await store.database.read(archiving.next_rows, archive, after, READ_SIZE):
            await asyncio.to_thread(writer.add, rows)
            after = number_of(rows[-1])
            _tell("%d rows are written into %s", writer.tally.rows, len(rows), archive)
            if not await turn.goes_on():
                return None
        schema = await store.database.read(current_schema)
        manifest = await asyncio.to_thread(writer.finish, archive.month, str(schema), archive.begun_at)
    return await store.database.write(archiving.complete, archive, manifest["rows"], manifest["sha256"])


async def _delete(store: Store, turn: Turn, archive: Archive, keep: Keep) -> tuple[int, bool]:
    """Delete the rows of a month: how many, and whether that was all of them."""
    after, deleted, kept = archive.deleted_through, 0, 0
    async with contextlib.aclosing(_what_goes(store, archive, keep)) as batches_to_go:
        async for rows in batches_to_go:
            through = number_of(rows[-1])
            gone = await _delete_batch(store, archive, after, through, rows)
            if gone is None or not await turn.goes_on():
                return deleted + (gone or 0), False
            after, deleted, kept = through, deleted + gone, kept + len(rows) - gone
            _tell("%d rows of %s are deleted", deleted + kept, len(rows), archive)
    if kept:
        log.warning("%d rows of %s have changed since; they stay, and go with the next month", kept, archive.file)
    await store.database.write(archiving.finish, archive, await store.database.read(store.database.now))
    log.info("usage of %s is archived", f"{archive.month:%Y-%m}")
    return deleted, True


async def _what_goes(store: Store, archive: Archive, keep: Keep) -> AsyncGenerator[Sequence[ArchiveRow], None]:
    """The rows that are still to be deleted: those of the file, after it was read back; without one, what is due."""
    if archive.file is None:
        after = archive.deleted_through
        while rows := await store.database.read(archiving.next_rows, archive, after, archiving.BATCH):
            yield rows
            after = number_of(rows[-1])
        return
    path = _folder(keep) / archive.file
    if not path.exists() or await asyncio.to_thread(checksum, path) != archive.sha256:
        raise ArchiveTrouble(
            f"{path} is missing or has changed; rows up to {archive.deleted_through} are only there: put it back"
        )
    for rows in batches(path, archiving.BATCH):
        if number_of(rows[-1]) > archive.deleted_through:
            yield [row for row in rows if number_of(row) > archive.deleted_through]


async def _delete_batch(
    store: Store, archive: Archive, after: int, through: int, rows: Sequence[ArchiveRow]
) -> int | None:
    """Delete those rows that are as they were written; their number, or None when somebody else is at it."""
    for _ in range(TRIES):
        stored = await store.database.read(archiving.rows_of, [row["id"] for row in rows])
        unchanged = [row for row in rows if stored.get(row["id"]) == row]
        try:
            batch = Batch(after, through, unchanged)
            done = await unhurried(store.database.write(archiving.delete, archive, batch))
        except Changed:
            continue
        return len(unchanged) if done else None
    raise ArchiveTrouble(f"the rows from {rows[0]['id']} to {rows[-1]['id']} keep changing while they are deleted")


def _tell(message: str, done: int, just_now: int, archive: Archive) -> None:
    """How far it has come, now and then."""
    if done // PROGRESS != (done - just_now) // PROGRESS:
        log.info(message, done, archive.file or f"{archive.month:%Y-%m}")

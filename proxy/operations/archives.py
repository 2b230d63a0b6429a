"""The archives of usage: what has left the database, and whether its files are as they were; and counting anew."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from policies.refusals import iso
from proxy.operations.operation import Answer, Arguments, Desk
from store import archiving
from store.archive_files import checksum, manifests
from store.archiving import Archive
from store.roll_up import count_anew, settled_until


class ListArchives(Arguments):
    pass


async def list_archives(desk: Desk, given: ListArchives) -> Answer:
    """Reads every file through, to compare it with what the database knows of it."""
    months = await desk.store.database.read(archiving.archives)
    found = await asyncio.to_thread(manifests, desk.archive_folder) if desk.archive_folder is not None else {}
    shown = []
    for done, archive in enumerate(months, 1):
        shown.append(_shown(archive, found, await asyncio.to_thread(_condition, archive, desk.archive_folder)))
        desk.progress("usage archives", done, len(months))
    known = {archive.file for archive in months}
    shown += [_stranger(manifest) for file, manifest in found.items() if file not in known]
    return {"ok": all(row["condition"] in _FINE for row in shown), "archives": shown}


_FINE = ("intact", "not kept", "not complete yet")


def _condition(archive: Archive, folder: Path | None) -> str:
    if archive.file is None:
        return "not kept"
    if archive.rows is None:
        return "not complete yet"
    if folder is None:
        return "not looked at: retention.archive names no folder"
    path = folder / archive.file
    try:
        return "intact" if checksum(path) == archive.sha256 else "changed"
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _shown(archive: Archive, found: dict[str, dict[str, Any]], condition: str) -> dict[str, Any]:
    manifest = found.get(archive.file or "", {})
    return {
        "month": f"{archive.month:%Y-%m}",
        "file": archive.file,
        "rows": archive.rows,
        "bytes": manifest.get("bytes"),
        "deleted": "all" if archive.done_at is not None else "some" if archive.deleted_through >= 0 else "none",
        "done_at": iso(archive.done_at) if archive.done_at is not None else None,
        "sha256": archive.sha256,
        "condition": condition,
    }


def _stranger(manifest: dict[str, Any]) -> dict[str, Any]:
    """A file that this database knows nothing of: it was restored from a backup, or the folder is not its own."""
    known = {name: manifest.get(name) for name in ("month", "file", "rows", "bytes")}
    return {
        **known,
        "deleted": None,
        "done_at": None,
        "sha256": manifest.get("sha256"),
        "condition": "not of this database",
    }


class Recount(Arguments):
    pass


async def recount(desk: Desk, given: Recount) -> Answer:
    """Sums are right at once, from the rows; the next run of the job makes them quick to read again."""
    until = await settled_until(desk.store.database)
    await desk.store.database.write(count_anew, until if until is not None else desk.now())
    from_day = await desk.store.database.read(archiving.archived_until)
    return {
        "counted_anew_from": iso(from_day) if from_day is not None else None,
        "by": "farebox jobs --once roll_up_usage",
    }

"""The files of an archive: a compressed CSV for each month, and beside it a manifest that says what is in it.

A file appears under its name when it is complete, on disk, and read back; never before, whatever kills the process.
No SQL here, and nothing is deleted: `store.archiving` does that, against what it reads from the file.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any

from store.archive_rows import COLUMNS, ArchiveRow, Tally

FORMAT = 1
"""Of file and manifest, for readers: another number when a column changes its name or its meaning."""

READ_SIZE = 2**20

csv.field_size_limit(2**24)
"""Characters: a hold that took from a hundred thousand grants names them all in one field. Python stops at 128 Ki."""

Manifest = dict[str, Any]


class ArchiveTrouble(Exception):
    """An archive cannot be written, or is not what it should be. Nothing was deleted; the message says what to do."""


def file_name(month: datetime) -> str:
    return f"usage-{month:%Y-%m}.csv.gz"


def manifest_name(file: str) -> str:
    return file.removesuffix(".csv.gz") + ".json"


class ArchiveWriter:
    """Writes the file of one month. Killed before `finish`, it leaves a hidden file, which the next one writes over."""

    def __init__(self, folder: Path, file: str) -> None:
        self._path = folder / file
        self._part = folder / f".{file}.part"
        self._raw = self._part.open("wb")
        # Without a time and a name inside, the same rows make the same bytes.
        self._zip = gzip.GzipFile("", "wb", fileobj=self._raw, mtime=0)
        self._text = io.TextIOWrapper(self._zip, "utf-8", newline="")
        # RFC 4180's line ends; with others Python 3.11 leaves a carriage return inside a field without its quotes.
        self._csv = csv.DictWriter(self._text, list(COLUMNS), lineterminator="\r\n")
        self._csv.writeheader()
        self.tally = Tally()

    def add(self, rows: Sequence[ArchiveRow]) -> None:
        self._csv.writerows(rows)
        self.tally.add(rows)

    def close(self) -> None:
        """Give up, unless it is finished."""
        self._text.close()
        self._raw.close()
        self._part.unlink(missing_ok=True)

    def finish(self, month: datetime, schema: str, now: datetime) -> Manifest:
        """Put the file and its manifest in their places. Raises ArchiveTrouble when it does not read back the same."""
        self._text.close()
        self._raw.flush()
        os.fsync(self._raw.fileno())
        self._raw.close()
        found, sha256 = read_back(self._part)
        if found != self.tally:
            raise ArchiveTrouble(f"{self._part} does not read back as it was written; is its disk sound?")
        manifest = {
            "format": FORMAT,
            "file": self._path.name,
            "month": f"{month:%Y-%m}",
            "rows": found.rows,
            "first_id": found.first_id,
            "last_id": found.last_id,
            "states": dict(found.states),
            "usage": {funding: dict(amounts) for funding, amounts in found.usage.items()},
            "bytes": self._part.stat().st_size,
            "sha256": sha256,
            "columns": COLUMNS,
            "schema": schema,
            "made_at": now.isoformat(),
        }
        _put(self._part, self._path)
        _write(self._path.with_name(manifest_name(self._path.name)), json.dumps(manifest, indent=2) + "\n")
        return manifest


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    _put(part, path)


def _put(part: Path, path: Path) -> None:
    """Rename, durably: a name is on disk when its folder is."""
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class _Hashing(io.RawIOBase):
    """A file whose bytes are hashed as they are read."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._raw.read(len(buffer))
        self.sha256.update(chunk)
        buffer[: len(chunk)] = chunk
        return len(chunk)


def read_back(path: Path) -> tuple[Tally, str]:
    """What the rows of a file add up to, and its SHA-256. Raises ArchiveTrouble for one that is no archive."""
    tally = Tally()
    try:
        with path.open("rb") as raw:
            hashing = _Hashing(raw)
            for rows in _batches(io.BufferedReader(hashing, READ_SIZE), 1_000):
                tally.add(rows)
            return tally, hashing.sha256.hexdigest()
    except (OSError, EOFError, ValueError, KeyError, zlib.error, csv.Error) as error:
        raise ArchiveTrouble(f"{path} cannot be read back: {error}") from error


def batches(path: Path, size: int) -> Iterator[list[ArchiveRow]]:
    """The rows of a file, in their order."""
    with path.open("rb") as raw:
        yield from _batches(raw, size)


def _batches(raw: IO[bytes], size: int) -> Iterator[list[ArchiveRow]]:
    with gzip.GzipFile(fileobj=raw, mode="rb") as unzipped:
        rows = csv.DictReader(io.TextIOWrapper(unzipped, "utf-8", newline=""))
        if rows.fieldnames != list(COLUMNS):
            raise ValueError("its columns are not those of an archive")
        while batch := list[ArchiveRow](islice(rows, size)):
            yield batch


def checksum(path: Path) -> str:
    """The SHA-256 of a file, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifests(folder: Path) -> dict[str, Manifest]:
    """The manifests in a folder, by the file that each is about. One that cannot be read says nothing."""
    found: dict[str, Manifest] = {}
    for path in sorted(folder.glob("usage-*.json")):
        manifest = _read_manifest(path)
        if manifest is not None:
            found[str(manifest["file"])] = manifest
    return found


def _read_manifest(path: Path) -> Manifest | None:
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and isinstance(manifest.get("file"), str) else None

"""The files of an archive: what is written is read back, byte for byte the same every time, and damage is noticed."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.archive_files import (
    ArchiveTrouble,
    ArchiveWriter,
    batches,
    checksum,
    file_name,
    manifest_name,
    manifests,
    read_back,
)
from store.archive_rows import COLUMNS, ArchiveRow
from store.ids import id_text
from store.tables import holds, usage_events

MONTH, NOW = datetime(2025, 3, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)
FILE = file_name(MONTH)


def _row(number: int, **given: str) -> ArchiveRow:
    texts = {
        "state": "settled",
        "charged_at": "2025-03-01T00:00:00.000000Z",
        "funding": "credits",
        "charged": "5",
        "refunded": "2",
    } | given
    return dict.fromkeys(COLUMNS, "") | texts | {"id": id_text(number)}


def _written(folder: Path, rows: list[ArchiveRow]) -> dict[str, object]:
    with contextlib.closing(ArchiveWriter(folder, FILE)) as writer:
        for start in range(0, len(rows), 2):
            writer.add(rows[start : start + 2])
        return writer.finish(MONTH, "0005", NOW)


def _read(folder: Path) -> list[ArchiveRow]:
    return [row for batch in batches(folder / FILE, 3) for row in batch]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """In order, in batches; nothing else is left in the folder."""
    rows = [_row(number) for number in range(7)]
    _written(tmp_path, rows)
    assert _read(tmp_path) == rows
    assert sorted(path.name for path in tmp_path.iterdir()) == ["usage-2025-03.csv.gz", "usage-2025-03.json"]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=60, deadline=None)
@given(users=st.lists(texts | st.sampled_from(["\r", "\n", "\r\n", '"', ",", "\0", "=1+1", " ", "\ufeff"]), max_size=6))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, users: list[str]) -> None:
    """User ids are other people's texts: line ends, quotes, commas and what spreadsheets take for formulas."""
    folder = tmp_path_factory.mktemp("archive")
    rows = [_row(number, user_id=user, units=user) for number, user in enumerate(users)]
    _written(folder, rows)
    assert _read(folder) == rows


def test_a_long_field_is_read(tmp_path: Path) -> None:
    """A hold may have taken from very many grants."""
    rows = [_row(1, taken="1" * 10**6)]
    _written(tmp_path, rows)
    assert _read(tmp_path) == rows


def test_the_manifest_says_what_is_in_the_file(tmp_path: Path) -> None:
    """Sums by funding of what was used, and everything that it takes to trust and to read the file."""
    rows = [_row(1), _row(2, charged="7", refunded="0"), _row(3, funding="quota", charged="1", refunded="1")]
    rows += [_row(4, state="released", charged_at="", charged="0", refunded="0")]
    manifest = _written(tmp_path, rows)
    assert json.loads((tmp_path / manifest_name(FILE)).read_text()) == manifest
    assert manifest == {
        "format": 1,
        "file": "usage-2025-03.csv.gz",
        "month": "2025-03",
        "rows": 4,
        "first_id": id_text(1),
        "last_id": id_text(4),
        "states": {"settled": 3, "released": 1},
        "usage": {
            "credits": {"calls": 2, "charged": 12, "refunded": 2},
            "quota": {"calls": 1, "charged": 1, "refunded": 1},
        },
        "bytes": (tmp_path / FILE).stat().st_size,
        "sha256": checksum(tmp_path / FILE),
        "columns": COLUMNS,
        "schema": "0005",
        "made_at": "2026-05-01T00:00:00+00:00",
    }
    assert manifests(tmp_path) == {FILE: manifest}


def test_the_same_rows_make_the_same_file(tmp_path: Path) -> None:
    """So that writing it again after a crash changes nothing."""
    rows = [_row(number) for number in range(9)]
    assert _written(tmp_path, rows) == _written(tmp_path, rows)


def test_a_file_that_is_not_finished_is_not_there(tmp_path: Path) -> None:
    """Neither when writing fails nor when it is given up; what a killed process has left is written over."""
    with contextlib.closing(ArchiveWriter(tmp_path, FILE)) as writer:
        writer.add([_row(1)])
        assert [path.name for path in tmp_path.iterdir()] == [f".{FILE}.part"]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / f".{FILE}.part").write_bytes(b"left by somebody" * 1000)
    _written(tmp_path, [_row(1)])
    assert _read(tmp_path) == [_row(1)]


def test_a_disk_that_reads_back_something_else_is_noticed(tmp_path: Path) -> None:
    """Then the file does not appear under its name."""
    with contextlib.closing(ArchiveWriter(tmp_path, FILE)) as writer:
        writer.add([_row(1)])
        writer.tally.rows += 1
        with pytest.raises(ArchiveTrouble, match="does not read back"):
            writer.finish(MONTH, "0005", NOW)
    assert not (tmp_path / FILE).exists()


def _cut(data: bytes) -> bytes:
    return data[:-9]


def _flipped(data: bytes) -> bytes:
    return data[:40] + bytes([data[40] ^ 1]) + data[41:]


def _other_columns(data: bytes) -> bytes:
    output = io.StringIO()
    csv.writer(output).writerows([["id", "amount"], ["1", "2"]])
    return gzip.compress(output.getvalue().encode())


def _no_numbers(data: bytes) -> bytes:
    return gzip.compress(gzip.decompress(data).replace(b",5,2,", b",x,2,"))


@pytest.mark.parametrize("damage", [_cut, _flipped, _other_columns, _no_numbers, lambda data: b"", lambda data: b"x"])
def test_damage_is_trouble_and_no_crash(tmp_path: Path, damage: object) -> None:
    """Whatever stands in the file."""
    _written(tmp_path, [_row(number) for number in range(50)])
    whole, sha256 = read_back(tmp_path / FILE)
    assert (whole.rows, sha256) == (50, checksum(tmp_path / FILE))
    (tmp_path / FILE).write_bytes(damage((tmp_path / FILE).read_bytes()))  # type: ignore[operator]
    with pytest.raises(ArchiveTrouble, match="cannot be read back"):
        read_back(tmp_path / FILE)


def test_a_manifest_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    """Other files in the folder are not looked at."""
    for name, text in {"usage-1.json": "{", "usage-2.json": "[]", "usage-3.json": "{}", "other.json": "{}"}.items():
        (tmp_path / name).write_text(text)
    assert manifests(tmp_path) == {}


def test_every_column_is_archived() -> None:
    """Whatever the database knows of a hold or its usage is in its row; twice is once enough."""
    renamed = {
        "amount": "reserved",
        "settled_amount": "charged",
        "refunded_amount": "refunded",
        "late_at": "charged_at",
    }
    of_usage = {"at": "charged_at", "units": "used_units", "quoted": "reserved"}
    names = {renamed.get(column.name, column.name) for column in holds.c}
    names |= {of_usage.get(column.name, column.name) for column in usage_events.c}
    assert names == set(COLUMNS)

"""Importing users from a CSV file `id,email,credits`, as pay-as-you-go accounts with that many credits.

The whole file is read and checked before anything is imported. The import is safe to repeat, also after it was
interrupted: a user is made once, and the credits are granted once. A user who is known already keeps their account
and e-mail address, and gets the credits in addition to what they have.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from config.findings import Finding, InvalidDocument
from policies.pricing import to_micro
from store.engine import AlreadyExists
from store.opening import Store
from store.user_import import Imported, ImportedUser, import_users

BATCH = 200
"""Users in one transaction: some milliseconds, so that requests hardly wait for an import."""

MAX_FINDINGS = 100
"""Of one file; nobody reads more, and a file of another kind has one in every row."""

MAX_ID = 200
"""Characters in a user id, as in the tokens that name users."""

_CREDITS = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
_COLUMNS = ["id", "email", "credits"]

Progress = Callable[[int, int], None]
"""Called after every batch with the number of users done, and of all."""


@dataclass(frozen=True, slots=True)
class UserRow:
    user_id: str
    email: str | None
    micro_credits: int


@dataclass(frozen=True, slots=True)
class ImportReport:
    """`users` in the file, of whom `created` were new; `granted` got credits, `micro_credits` in all."""

    users: int
    created: int
    granted: int
    micro_credits: int


async def import_csv(store: Store, path: Path, progress: Progress) -> ImportReport:
    """Import every user of a file. Raises InvalidDocument with every bad row; then nothing was imported."""
    rows = read_users(path)
    created = granted = micro_credits = 0
    for first in range(0, len(rows), BATCH):
        done = await _import(store, rows[first : first + BATCH])
        created += done.created
        granted += done.grants
        micro_credits += done.micro_credits
        progress(min(first + BATCH, len(rows)), len(rows))
    return ImportReport(len(rows), created, granted, micro_credits)


async def _import(store: Store, rows: Sequence[UserRow]) -> Imported:
    batch = [ImportedUser(row.user_id, row.email, row.micro_credits, store.ids.next()) for row in rows]
    try:
        return await store.database.write(import_users, batch, store.clock())
    except AlreadyExists:
        # One of them came in at the same moment and was made by the gate: they are there now.
        return await store.database.write(import_users, batch, store.clock())


def read_users(path: Path) -> list[UserRow]:
    """The users of a file. Raises InvalidDocument with every bad row, up to `MAX_FINDINGS`."""
    name = str(path)
    try:
        # Spreadsheets begin UTF-8 files with a byte order mark.
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidDocument([Finding(name, 1, 1, "unreadable", f"cannot be read: {error}")]) from None
    reader = _Reader(name, text)
    rows = list(reader.rows())
    if reader.findings:
        raise InvalidDocument(reader.findings)
    return rows


class _Reader:
    """Goes through the lines of a file once; rows that are right come out, what is wrong is kept."""

    def __init__(self, name: str, text: str) -> None:
        self.findings: list[Finding] = []
        self._name = name
        self._lines = text.splitlines()
        self._seen: dict[str, int] = {}

    def rows(self) -> Iterable[UserRow]:
        reader = csv.reader(self._lines, strict=True)
        try:
            header = next(reader, [])
            if header != _COLUMNS:
                self._found(1, "header", f"expected the columns {','.join(_COLUMNS)} in the first line")
                return
            for cells in reader:
                row = self._row(reader.line_num, cells) if cells else None
                if row is not None:
                    yield row
                if len(self.findings) >= MAX_FINDINGS:
                    return
        except csv.Error as error:
            self._found(reader.line_num, "csv-syntax", str(error))

    def _row(self, line: int, cells: Sequence[str]) -> UserRow | None:
        if len(cells) != len(_COLUMNS):
            self._found(line, "columns", f"expected {len(_COLUMNS)} values, found {len(cells)}")
            return None
        user_id, email, credits = cells
        problems = [*_wrong_id(user_id), *_wrong_email(email)]
        micro_credits = _micro_credits(credits)
        if isinstance(micro_credits, str):
            problems.append(micro_credits)
        if user_id in self._seen:
            problems.append(f"the user {user_id!r} is given on line {self._seen[user_id]} already")
        self._seen.setdefault(user_id, line)
        if problems or isinstance(micro_credits, str):
            self._found(line, "invalid-value", "; ".join(problems))
            return None
        return UserRow(user_id, email or None, micro_credits)

    def _found(self, line: int, code: str, message: str) -> None:
        source = self._lines[line - 1] if 0 < line <= len(self._lines) else ""
        self.findings.append(Finding(self._name, line, 1, code, message, source))


def _wrong_id(user_id: str) -> Iterable[str]:
    if not 0 < len(user_id) <= MAX_ID or not user_id.isprintable() or user_id != user_id.strip():
        yield f"expected an id of 1 to {MAX_ID} printable characters, found {user_id[:60]!r}"


def _wrong_email(email: str) -> Iterable[str]:
    if email and (len(email) > 320 or "@" not in email[1:-1] or not email.isprintable() or " " in email):
        yield f"expected an e-mail address or nothing, found {email[:60]!r}"


def _micro_credits(text: str) -> int | str:
    """The micro-credits, or what is wrong with the text."""
    if not _CREDITS.fullmatch(text):
        return f"expected a number of credits such as 100 or 2.5, found {text[:60]!r}"
    try:
        return to_micro(Decimal(text))
    except ValueError as error:
        return str(error)

"""The chain over the audit log: each row has a link that holds its digest and that of all links before.

Called by `store.audit` with every row that it adds, in the same transaction, and to verify. Triggers keep the rows as
they are for everybody who uses the database as they should; the chain shows what was done by somebody who could remove
triggers. Whoever can rewrite every link can make a chain that fits, and so the last link is worth being kept elsewhere:
a head that was written down once has to be in the chain for ever.

Links are numbered without gaps, so writers take turns: they wait for each other from the look at the last link to their
commit. These transactions are short and change nothing else, and operators are few.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.types import TypeDecorator, TypeEngine

from store.tables import audit_cuts, audit_entries, audit_links, audit_outcomes

TURN = 7014208
"""The advisory lock that writers on PostgreSQL take; the number is arbitrary, it only has to be ours."""

PAGE = 1_000
"""Links that are looked at together: a megabyte of rows."""

MAX_BREACHES = 100
"""That are told one by one; what is beyond is counted."""

_link = audit_links.c


class Kind(StrEnum):
    START = "start"
    """The first link: it names the last entry from before there was a chain."""
    ENTRY = "entry"
    OUTCOME = "outcome"


TABLES: dict[str, tuple[sa.Table, str]] = {
    Kind.ENTRY: (audit_entries, "id"),
    Kind.OUTCOME: (audit_outcomes, "entry_id"),
}


class Link(NamedTuple):
    number: int
    chain: str


START = Link(0, "")
"""What stands before the first link."""


def take_turn(connection: Connection) -> Link:
    """Wait for other writers of the log; the last link there is. SQLite has one writer at a time by itself."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(TURN)))
    last = sa.select(_link.number, _link.chain).order_by(_link.number.desc()).limit(1)
    row = connection.execute(last).first()
    return START if row is None else Link(row.number, row.chain)


def append(connection: Connection, last: Link, kind: Kind, entry_id: int) -> Link:
    """Add the link of a row that this transaction has added, behind the `last` one."""
    digest = _digests(connection, kind, [entry_id])[entry_id]
    link = Link(last.number + 1, _chain(last, kind, entry_id, digest))
    values = {"number": link.number, "kind": kind.value, "entry_id": entry_id, "digest": digest, "chain": link.chain}
    connection.execute(sa.insert(audit_links).values(**values))
    return link


def _chain(last: Link, kind: str, entry_id: int, digest: str) -> str:
    """Over all that a link says: what it stands for cannot be exchanged either."""
    return hashlib.sha256(f"{last.number + 1}:{last.chain}:{kind}:{entry_id}:{digest}".encode()).hexdigest()


def _digests(connection: Connection, kind: str, ids: Sequence[int]) -> dict[int, str]:
    """The digests of rows, from what is stored and not from what it is read as."""
    table, key = TABLES[kind]
    raw = [sa.type_coerce(column, _stored_as(column.type)) for column in table.c]
    names = [column.name for column in table.c]
    found: dict[int, str] = {}
    for row in connection.execute(sa.select(*raw).where(table.c[key].in_(ids))):
        told = json.dumps([str(kind), *zip(names, row, strict=True)], ensure_ascii=True, separators=(",", ":"))
        found[int(row[names.index(key)])] = hashlib.sha256(told.encode()).hexdigest()
    return found


def _stored_as(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    return kind.impl_instance if isinstance(kind, TypeDecorator) else kind


@dataclass
class Verified:
    """What a look at the whole chain has found. `older` rows were written before there was a chain."""

    head: Link = START
    rows: int = 0
    dropped: int = 0
    older: int = 0
    breaches: list[str] = field(default_factory=list)
    further: int = 0

    def breach(self, sentence: str) -> None:
        if len(self.breaches) < MAX_BREACHES:
            self.breaches.append(sentence)
        else:
            self.further += 1


def verify(connection: Connection, known: Link | None, progress: Callable[[int, int], None]) -> Verified:
    """Follow the chain from its first link to its last; `known` is a head of earlier, which has to be in it."""
    verified, begins_after = Verified(), None
    cut = _cut(connection)
    total = connection.scalar(sa.select(sa.func.count()).select_from(audit_links)) or 0
    since: dict[str, int] = dict.fromkeys(TABLES, 0)
    for page in _pages(connection):
        digests = {kind: _digests(connection, kind, [row.entry_id for row in page if row.kind == kind])
                   for kind in TABLES}  # fmt: skip
        for row in page:
            _follow(verified, row, known)
            if row.kind == Kind.START and row.number == 1:
                begins_after = row.entry_id
            elif row.kind in TABLES:
                found = digests[row.kind]
                _compare(verified, row, found.get(row.entry_id), cut)
                since[row.kind] += row.entry_id in found and row.entry_id > (begins_after or 0)
            else:
                verified.breach(f"link {row.number} stands for nothing that there is: {row.kind}")
        progress(verified.head.number, total)
    if known is not None and known.number > verified.head.number:
        verified.breach(f"the chain ends with link {verified.head.number}, before the known one, {known.number}")
    if begins_after is None:
        verified.breach("the link that the chain begins with is missing")
    _look_for_strangers(connection, verified, since, begins_after or 0)
    return verified


def _cut(connection: Connection) -> int:
    """The number up to which rows may be gone: retention takes the lowest, so whatever is there ends its reach."""
    through = connection.scalar(sa.select(sa.func.max(audit_cuts.c.through))) or 0
    first = connection.scalar(sa.select(sa.func.min(audit_entries.c.id)).where(audit_entries.c.id > 0))
    return through if first is None else min(through, first - 1)


def _pages(connection: Connection) -> Iterator[Sequence[sa.Row[Any]]]:
    after, pages = 0, sa.select(*_link).order_by(_link.number).limit(PAGE)
    while page := connection.execute(pages.where(_link.number > after)).all():
        yield page
        after = page[-1].number


def _follow(verified: Verified, row: sa.Row[Any], known: Link | None) -> None:
    """Whether a link follows from the one before it."""
    last = verified.head
    if row.number != last.number + 1:
        verified.breach(f"links {last.number + 1} to {row.number - 1} are missing")
    elif row.chain != _chain(last, row.kind, row.entry_id, row.digest):
        verified.breach(f"link {row.number} does not follow from the one before")
    if known is not None and known.number == row.number and known.chain != row.chain:
        verified.breach(f"link {row.number} is another one than was known")
    verified.head = Link(row.number, row.chain)


def _compare(verified: Verified, row: sa.Row[Any], digest: str | None, cut: int) -> None:
    """Whether what a link stands for is as it was."""
    if digest is None and row.entry_id <= cut:
        verified.dropped += 1
    elif digest is None:
        verified.breach(f"the {row.kind} of number {row.entry_id} is missing")
    else:
        verified.rows += 1
        if digest != row.digest:
            verified.breach(f"the {row.kind} of number {row.entry_id} was changed")


def _look_for_strangers(connection: Connection, verified: Verified, since: dict[str, int], begins_after: int) -> None:
    """Rows without a link: from before there was a chain, or written past it."""
    verified.older = -verified.rows
    for kind, (table, key) in TABLES.items():
        number = sa.select(sa.func.count()).select_from(table)
        verified.older += connection.scalar(number) or 0
        # No database numbers rows from below 1: those would be new ones that pass for older.
        outside = (table.c[key] > begins_after) | (table.c[key] < 1)
        strangers = (connection.scalar(number.where(outside)) or 0) - since[kind]
        if strangers > 0:
            verified.older -= strangers
            verified.breach(f"{strangers} of {table.name} have no link")
        elif strangers < 0:
            verified.breach(f"{-strangers} links too many stand for {table.name}")

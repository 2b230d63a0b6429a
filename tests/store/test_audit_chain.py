"""The chain over the audit log: what was done to its rows behind the triggers' back is found, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy import Connection

from config.clock import utc_now
from store import audit, audit_chain
from store.audit import Act, Outcome, Result
from store.audit_chain import PAGE, Link, Verified
from store.engine import Database
from store.schema import migrate
from store.upgrading import config as alembic_config
from tests.store.till import NOON

GRANT = Act("ana", "10.0.0.7", "credits grant", {"account": "bén", "credits": 2.5}, "operator", 2_500_000)
DAY = timedelta(days=1)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, utc_now)
    yield opened
    await opened.close()


async def verified(database: Database, known: Link | None = None) -> Verified:
    return await database.read(audit_chain.verify, known, lambda done, total: None)


async def note(database: Database, times: int) -> list[int]:
    return [
        await database.write(audit.note, GRANT, Result(Outcome.REFUSED, "no"), NOON + number * DAY)
        for number in range(times)
    ]


async def behind_their_back(database: Database, *statements: str) -> None:
    """As somebody who owns the database."""

    def change(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        else:
            triggers = sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            for name in connection.scalars(triggers).all():
                connection.execute(sa.text(f"DROP TRIGGER {name}"))
        for statement in statements:
            connection.execute(sa.text(statement))

    await database.write(change)


async def test_what_nobody_touched_is_as_it_was_written(database: Database) -> None:
    """Every row has its link; what is under way has one so far; a head that was told before is in the chain."""
    assert (await verified(database)).breaches == []
    await note(database, 2)
    before = await verified(database)
    await database.write(audit.begin, GRANT, NOON)
    after = await verified(database, before.head)
    assert (before.breaches, before.rows, after.breaches, after.rows) == ([], 4, [], 5)
    assert (after.older, after.dropped, after.head.number) == (0, 0, before.head.number + 1)


TAMPERED = {
    "UPDATE audit_entries SET actor = 'eve' WHERE id = {second}": "the entry of number {second} was changed",
    "UPDATE audit_entries SET moved = 1 WHERE id = {second}": "the entry of number {second} was changed",
    "UPDATE audit_entries SET role = NULL WHERE id = {second}": "the entry of number {second} was changed",
    "UPDATE audit_entries SET arguments = '{{}}' WHERE id = {second}": "the entry of number {second} was changed",
    "UPDATE audit_outcomes SET error = '' WHERE entry_id = {second}": "the outcome of number {second} was changed",
    "DELETE FROM audit_entries WHERE id = {second}": "the entry of number {second} is missing",
    "DELETE FROM audit_outcomes WHERE entry_id = {third}": "the outcome of number {third} is missing",
    "DELETE FROM audit_links WHERE entry_id = {second}": "links 4 to 5 are missing",
    "DELETE FROM audit_links WHERE number = 1": "links 1 to 1 are missing",
    "DELETE FROM audit_links": "the link that the chain begins with is missing",
    "DELETE FROM audit_links WHERE entry_id = {third}": "1 of audit_entries have no link",
    "UPDATE audit_links SET chain = digest WHERE number = 2": "link 2 does not follow from the one before",
    "UPDATE audit_links SET entry_id = 0 WHERE number = 4": "link 4 does not follow from the one before",
    "UPDATE audit_links SET kind = 'nothing' WHERE number = 4": "link 4 stands for nothing that there is: nothing",
    "UPDATE audit_links SET kind = 'start' WHERE number = 4": "link 4 stands for nothing that there is: start",
    "INSERT INTO audit_links (number, kind, entry_id, digest, chain) "
    "SELECT 99, kind, entry_id, digest, chain FROM audit_links WHERE number = 4": "1 links too many stand for "
    "audit_entries",
    "INSERT INTO audit_entries (id, at, actor, place, operation, arguments) "
    "VALUES (999999999, 0, 'eve', '', 'x', '{{}}')": "1 of audit_entries have no link",
    "INSERT INTO audit_entries (id, at, actor, place, operation, arguments) "
    "VALUES (-1, 0, 'eve', '', 'x', '{{}}')": "1 of audit_entries have no link",
    "INSERT INTO audit_outcomes (entry_id, at, outcome) VALUES (0, 0, 'done')": "1 of audit_outcomes have no link",
}


@pytest.mark.parametrize("statement", TAMPERED)
async def test_what_was_done_to_a_row_is_found(database: Database, statement: str) -> None:
    """Changed in any column, taken away, or added past the chain; also when its link goes with it."""
    _, second, third = await note(database, 3)
    await behind_their_back(database, statement.format(second=second, third=third))
    assert TAMPERED[statement].format(second=second, third=third) in (await verified(database)).breaches


async def test_a_chain_that_was_made_anew_does_not_have_the_head_that_was_known(database: Database) -> None:
    """Whoever rewrites everything makes a chain that fits; not one that has what was written down elsewhere."""
    _, second, third = await note(database, 3)
    known = (await verified(database)).head
    gone = f"entry_id >= {second}"
    await behind_their_back(database, f"DELETE FROM audit_links WHERE {gone}",
                            f"DELETE FROM audit_outcomes WHERE {gone}",
                            f"DELETE FROM audit_entries WHERE id >= {second}")  # fmt: skip
    assert (await verified(database)).breaches == []
    assert (await verified(database, known)).breaches == ["the chain ends with link 3, before the known one, 7"]
    await note(database, third - second + 1)
    assert (await verified(database, known)).breaches in ([], ["link 7 is another one than was known"])
    await database.write(audit.note, GRANT, Result(Outcome.DONE, "another"), NOON)
    assert (await verified(database, Link(known.number, "0" * 64))).breaches == ["link 7 is another one than was known"]


async def test_retention_leaves_the_chain_whole(database: Database) -> None:
    """The links of what it has taken stay, and show that it was there; nothing beyond the cut may be missing."""
    numbers = await note(database, 4)
    await database.write(audit.drop_before, NOON + 2 * DAY, 9, NOON + 9 * DAY)
    found = await verified(database)
    assert (found.breaches, found.dropped, found.rows, found.older) == ([], 4, 4, 0)
    await behind_their_back(database, f"DELETE FROM audit_outcomes WHERE entry_id = {numbers[2]}")
    assert (await verified(database)).breaches == [f"the outcome of number {numbers[2]} is missing"]


async def test_a_cut_covers_no_gap(database: Database) -> None:
    """Whoever puts one on record, to take an entry or its outcome out of the middle, has to take all before it too."""
    first, second, third, _ = await note(database, 4)

    def take(connection: Connection) -> None:
        connection.execute(sa.text(f"INSERT INTO audit_cuts (through, at) VALUES ({third}, 0)"))
        connection.execute(sa.text(f"DELETE FROM audit_outcomes WHERE entry_id IN ({second}, {third})"))
        connection.execute(sa.text(f"DELETE FROM audit_entries WHERE id = {second}"))

    await database.write(take)
    found = await verified(database)
    assert (first, found.dropped) == (second - 1, 0)
    assert found.breaches == [f"the entry of number {second} is missing", f"the outcome of number {second} is missing",
                              f"the outcome of number {third} is missing"]  # fmt: skip


async def test_retention_leaves_no_gap(database: Database) -> None:
    """Also where a clock was ahead: what is behind a younger entry waits for it."""
    for days in (0, 5, 1):
        await database.write(audit.note, GRANT, Result(Outcome.DONE), NOON + days * DAY)
    assert await database.write(audit.drop_before, NOON + 3 * DAY, 9, NOON + 9 * DAY) == 1
    assert (await verified(database)).breaches == []
    assert await database.write(audit.drop_before, NOON + 6 * DAY, 9, NOON + 9 * DAY) == 2
    assert (await verified(database)).breaches == []


async def test_several_processes_add_to_one_chain(database: Database, database_url: str) -> None:
    """Each waits for its turn: no link is lost, none is there twice, and a page of them is not the end."""
    others = [Database(database_url, utc_now) for _ in range(3)]
    try:
        await asyncio.gather(*(note(each, 10) for each in [database, *others]))
    finally:
        for other in others:
            await other.close()
    found = await verified(database)
    assert (found.breaches, found.rows, found.head.number) == ([], 80, 81)


async def test_a_long_log_is_read_by_pages(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says how far it has come."""
    assert PAGE > 100
    monkeypatch.setattr(audit_chain, "PAGE", 3)
    await note(database, 4)
    told: list[tuple[int, int]] = []
    found = await database.read(audit_chain.verify, None, lambda done, total: told.append((done, total)))
    assert (found.breaches, found.rows) == ([], 8)
    assert told == [(3, 9), (6, 9), (9, 9)]


async def test_what_was_there_before_the_chain_is_counted(empty_database_url: str) -> None:
    """It has no links, as the first one says; and nothing can be added to it afterwards."""
    database = Database(empty_database_url, utc_now)

    def as_of_0009(connection: Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0009")
        for number in (1, 3):
            values = f"({number}, 0, 'operator', '', 'x', '{{}}')"
            columns = "id, at, actor, place, operation, arguments"
            connection.execute(sa.text(f"INSERT INTO audit_entries ({columns}) VALUES {values}"))
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text("SELECT setval('audit_entries_id_seq', 3)"))
        connection.execute(sa.text("INSERT INTO audit_outcomes (entry_id, at, outcome) VALUES (1, 0, 'done')"))

    try:
        await database.write(as_of_0009)
        await migrate(empty_database_url)
        await database.write(audit.end, 3, Result(Outcome.DONE), NOON)
        await note(database, 1)
        found = await verified(database)
        assert (found.breaches, found.older, found.rows) == ([], 3, 3)
        (old,) = (row for row in await database.read(lambda c: audit.page(c, limit=9)) if row["id"] == 1)
        assert (old["role"], old["moved"]) == (None, None)
    finally:
        await database.close()


async def test_what_an_actor_has_moved_in_a_day_is_known_in_turn(database: Database) -> None:
    """Of two at once the second sees the first; refusals, others, and what is older do not count."""
    begun = await asyncio.gather(*(database.write(audit.begin, GRANT, NOON) for _ in range(3)))
    assert sorted(entry.moved_before for entry in begun) == [0, 2_500_000, 5_000_000]
    await database.write(audit.end, begun[0].number, Result(Outcome.REFUSED), NOON)
    await database.write(audit.end, begun[1].number, Result(Outcome.FAILED), NOON)
    assert (await database.write(audit.begin, GRANT, NOON + DAY / 2)).moved_before == 5_000_000
    assert (await database.write(audit.begin, Act("ben", "", "x", {}, None, 1), NOON)).moved_before == 0
    assert (await database.write(audit.begin, GRANT, NOON + DAY)).moved_before == 2_500_000

"""Opening and closing the store: database, schema check, process number, committer, ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from config.clock import Clock
from store.catalogue import next_number
from store.committer import Committer
from store.engine import Database
from store.ids import IdGenerator
from store.ledger import Ledger
from store.schema import check_schema, migrate


@dataclass(frozen=True, slots=True)
class Store:
    """The store of one process."""

    database: Database
    ledger: Ledger
    ids: IdGenerator
    clock: Clock


@asynccontextmanager
async def open_store(url: str, clock: Clock, *, migrate_embedded: bool = True) -> AsyncIterator[Store]:
    """The store at `url`. The embedded SQLite default brings its schema up to date by itself; for any other
    database an old schema raises SchemaOutdated, since migrating a shared one is an operator's decision.
    """
    if url.startswith("sqlite") and migrate_embedded:
        await migrate(url)
    database = Database(url, clock)
    try:
        await database.read(check_schema)
        number = await database.write(next_number, "process")
        ids = IdGenerator(number, clock)
        committer = Committer(database)
        committer.start()
        try:
            yield Store(database, Ledger(database, committer, ids), ids, clock)
        finally:
            await committer.close()
    finally:
        await database.close()

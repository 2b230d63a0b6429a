"""Opening and closing the store: database, schema check, process number, committer, ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from config.clock import Clock
from policies.spending import DEFAULT_ORDER, SpendOrder
from store.catalogue import next_number
from store.committer import Committer
from store.engine import Database
from store.ids import IdGenerator
from store.ledger import Ledger
from store.repeating import Repeater
from store.schema import check_schema, migrate


@dataclass(frozen=True, slots=True)
class Store:
    """The store of one process."""

    database: Database
    ledger: Ledger
    ids: IdGenerator
    clock: Clock
    spend_order: SpendOrder


@asynccontextmanager
async def open_store(
    url: str, clock: Clock, *, migrate_embedded: bool = True, spend_order: SpendOrder = DEFAULT_ORDER
) -> AsyncIterator[Store]:
    """The store at `url`, in which credits are spent in `spend_order`.

    The embedded SQLite default brings its schema up to date by itself; for any other database an old schema raises
    SchemaOutdated, since migrating a shared one is an operator's decision.
    """
    if url.startswith("sqlite") and migrate_embedded:
        await migrate(url)
    database = Database(url, clock)
    try:
        await database.read(check_schema)
        number = await database.write(next_number, "process")
        ids = IdGenerator(number, clock)
        committer = Committer(database, spend_order)
        committer.start()
        repeater = Repeater(committer)
        try:
            yield Store(database, Ledger(database, committer, repeater, ids), ids, clock, spend_order)
        finally:
            await repeater.close()
            await committer.close()
    finally:
        await database.close()

"""The store as its tests see it: a database that is closed again, a till on it, a whole store of one process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from config.clock import utc_now
from store.engine import Database
from store.opening import Store, open_store
from tests.store.till import Till


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, utc_now)
    yield opened
    await opened.close()


@pytest.fixture
def till(database: Database) -> Till:
    return Till(database)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, utc_now) as opened:
        yield opened

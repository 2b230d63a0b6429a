"""The store as its tests see it: a till on a database that many tests use after each other, a store of one process."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from config.clock import utc_now
from store.engine import Database
from store.opening import Store, open_store
from tests.conftest import DIALECTS
from tests.emptying import empty
from tests.store.till import Till


@pytest.fixture(scope="session", params=DIALECTS)
def shared_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql_url"))
    path = tmp_path_factory.mktemp("till") / "farebox.db"
    shutil.copyfile(request.getfixturevalue("migrated_file"), path)
    return f"sqlite+aiosqlite:///{path}"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_database(shared_url: str) -> AsyncIterator[Database]:
    """Opened once, since the first use of every statement costs more than a whole test."""
    opened = Database(shared_url, utc_now)
    yield opened
    await opened.close()


@pytest_asyncio.fixture(loop_scope="session")
async def till(shared_database: Database) -> AsyncIterator[Till]:
    """On an empty database. Its tests run in the event loop of the session, like the database."""
    await shared_database.write(empty)
    till = Till(shared_database)
    yield till
    await till.check()


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, utc_now) as opened:
        yield opened

"""A whole Farebox over real sockets: the sample backend behind it, an ordinary HTTP client in front of it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from config.clock import utc_now
from config.quantities import Address
from config.settings import LoadedSettings, load_settings
from proxy.app import farebox, listen
from seeds.load import load_demo
from store.opening import open_store
from tests import canaries
from tests.flows.house import EXAMPLES, SECRET, Backend, House, sample_backend, search_services


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    result = Backend(sample_backend().create_app(job_seconds=0.1))
    await result.start()
    yield result
    await result.stop()


@pytest.fixture
def settings(backend: Backend, tmp_path: Path) -> LoadedSettings:
    """The example's own settings, with a database of the test."""
    environment = {"FAREBOX_ADMIN_TOKEN": canaries.ADMIN_TOKEN, "JWT_SECRET": SECRET, "BACKEND_URL": backend.url}
    loaded = load_settings(EXAMPLES / "farebox.yaml", environment)
    values = loaded.values.model_copy(
        update={
            "database": f"sqlite+aiosqlite:///{tmp_path}/farebox.db",
            "listen": Address("127.0.0.1", 0),
        }
    )
    return LoadedSettings(values, loaded.source, loaded.folder)


@pytest.fixture(scope="session")
def seeded_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the demo's catalogue and users, made once and copied for every test."""
    path = tmp_path_factory.mktemp("seeded") / "farebox.db"

    async def seed() -> None:
        async with open_store(f"sqlite+aiosqlite:///{path}", utc_now) as store:
            await load_demo(store)

    asyncio.run(seed())
    return path


@pytest.fixture
async def house(
    settings: LoadedSettings, backend: Backend, seeded_database: Path, tmp_path: Path
) -> AsyncIterator[House]:
    shutil.copyfile(seeded_database, tmp_path / "farebox.db")
    public, admin = listen(Address("127.0.0.1", 0)), listen(Address("127.0.0.1", 0))
    async with farebox(settings, public, admin) as running, aiohttp.ClientSession() as client:
        house = House(f"http://{running.public}", f"http://{running.admin}", running.services, client, backend)
        yield house
        async with client.get(house.admin_url + "/metrics") as page:
            canaries.search("the page of metrics", await page.read())
        await search_services(running.services)

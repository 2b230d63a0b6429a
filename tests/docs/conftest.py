"""A Farebox for the pages to run against: the example's own settings, the demo's seeds, and a clock that stands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.quantities import Address
from config.settings import LoadedSettings, load_settings
from proxy.app import farebox, listen
from proxy.demo import token
from seeds.load import load_demo
from store.opening import open_store
from tests import canaries
from tests.docs.pages import Terminal
from tests.flows.house import EXAMPLES, SECRET, Backend, sample_backend

NOW = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)
"""The moment at which everything on the pages happens."""

Demo = Callable[..., AbstractAsyncContextManager[Terminal]]


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    """`farebox demo`, and a terminal with the variables that it prints: `async with demo() as terminal`."""

    @asynccontextmanager
    async def running(**changed: object) -> AsyncIterator[Terminal]:
        async with AsyncExitStack() as stack:
            backend = Backend(sample_backend().create_app(job_seconds=0.1))
            stack.push_async_callback(backend.stop)
            await backend.start()
            settings = _settings(backend, tmp_path, changed)
            async with open_store(settings.database_url, lambda: NOW) as store:
                await load_demo(store)
            public, admin = listen(Address("127.0.0.1", 0)), listen(Address("127.0.0.1", 0))
            served = await stack.enter_async_context(farebox(settings, public, admin, lambda: NOW))
            variables = {
                "FAREBOX": f"http://{served.public}",
                "PAYG": token("demo-payg", SECRET),
                "SUBSCRIBER": token("demo-subscriber", SECRET),
            }
            yield Terminal(tmp_path, variables, {})

    return running


def _settings(backend: Backend, folder: Path, changed: dict[str, object]) -> LoadedSettings:
    environment = {"FAREBOX_ADMIN_TOKEN": canaries.ADMIN_TOKEN, "JWT_SECRET": SECRET, "BACKEND_URL": backend.url}
    settings = load_settings(EXAMPLES / "farebox.yaml", environment)
    database = f"sqlite+aiosqlite:///{folder}/farebox.db"
    return replace(settings, values=settings.values.model_copy(update={"database": database, **changed}))

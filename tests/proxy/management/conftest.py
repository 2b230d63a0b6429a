"""The management API for tests: on SQLite with a clock that tests move, or on every database with the real one."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

from config.clock import utc_now
from tests.proxy.management.service import MovableClock, Service, running

Start = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def start(tmp_path: Path, migrated_file: Path, clock: MovableClock) -> Start:
    """A function that starts the API: `async with start(payment="immediate") as service`."""
    shutil.copyfile(migrated_file, tmp_path / "farebox.db")
    return partial(running, tmp_path, f"sqlite+aiosqlite:///{tmp_path}/farebox.db", clock)


@pytest.fixture
async def service(start: Start) -> AsyncIterator[Service]:
    async with start() as started:
        yield started


@pytest.fixture
async def service_anywhere(tmp_path: Path, database_url: str) -> AsyncIterator[Service]:
    """On SQLite and on PostgreSQL, whose clock cannot be moved."""
    async with running(tmp_path, database_url, utc_now) as started:
        yield started

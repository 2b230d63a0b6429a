"""Farebox between two ends of bare sockets, with a ledger that is verified after every test."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.flows.raw import RawBackend
from tests.flows.wire.wire import Wire, running_wire


@pytest.fixture
async def backend() -> AsyncIterator[RawBackend]:
    result = RawBackend()
    await result.start()
    yield result
    await result.stop()


@pytest.fixture
async def wire(backend: RawBackend, migrated_file: Path, tmp_path: Path) -> AsyncIterator[Wire]:
    shutil.copyfile(migrated_file, tmp_path / "farebox.db")
    async with running_wire(backend, tmp_path) as result:
        yield result
        await result.check()

"""Farebox between two ends of bare sockets. After every test no hold is left open, and after all of them the ledger
is verified.

One Farebox serves a file of tests: each test has users of its own, and starting one takes longer than most tests do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.flows.wire.wire import Wire, running_wire


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_wire(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    async with running_wire(migrated_file, tmp_path_factory.mktemp("wire")) as running:
        yield running
        await running.verify()


@pytest_asyncio.fixture(loop_scope="module")
async def wire(lasting_wire: Wire, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Wire]:
    lasting_wire.begin()
    yield lasting_wire
    await lasting_wire.end()
    assert not [record.getMessage() for record in caplog.records if record.exc_info], "nobody's fault has a stack trace"

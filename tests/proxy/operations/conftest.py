"""The desk that verbs are tested at."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.proxy.operations.desk import Clock, Counter, open_counter


@pytest.fixture
async def counter(seeded_url: str, tmp_path: Path) -> AsyncIterator[Counter]:
    async with open_counter(seeded_url, tmp_path, Clock()) as opened:
        yield opened


@pytest.fixture
async def counter_anywhere(database_url: str, tmp_path: Path) -> AsyncIterator[Counter]:
    """On SQLite and on PostgreSQL, with nothing for sale."""
    async with open_counter(database_url, tmp_path, Clock()) as opened:
        yield opened

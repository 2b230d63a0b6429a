"""A store of its own for every test, and a clock that stands still unless it is moved."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from store.opening import Store, open_store


@dataclass
class Clock:
    now: datetime = datetime(2025, 1, 15, 10, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(database_url: str, clock: Clock) -> AsyncIterator[Store]:
    async with open_store(database_url, clock) as opened:
        yield opened

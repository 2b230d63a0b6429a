"""Opening a store: its own number in its ids, and everything it started is stopped again."""

from __future__ import annotations

import asyncio
import threading

import pytest

from config.clock import utc_now
from store.opening import open_store


async def test_every_process_has_its_own_ids(database_url: str) -> None:
    """Also when many start at the same moment on a new database."""
    opened = [open_store(database_url, utc_now) for _ in range(5)]
    stores = await asyncio.gather(*(context.__aenter__() for context in opened))
    ids = [store.ids.next() for store in stores for _ in range(100)]
    assert len(set(ids)) == 500
    for context in opened:
        await context.__aexit__(None, None, None)


async def test_a_closed_store_leaves_nothing_running(database_url: str) -> None:
    """No task and no thread of the writer."""
    async with open_store(database_url, utc_now):
        assert "ledger committer" in {task.get_name() for task in asyncio.all_tasks()}
    assert "ledger committer" not in {task.get_name() for task in asyncio.all_tasks()}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sqlite writer")]


async def test_a_store_closes_after_an_error(database_url: str) -> None:
    """And hands the error on."""
    with pytest.raises(RuntimeError, match="in the middle"):
        async with open_store(database_url, utc_now):
            raise RuntimeError("in the middle")
    assert "ledger committer" not in {task.get_name() for task in asyncio.all_tasks()}

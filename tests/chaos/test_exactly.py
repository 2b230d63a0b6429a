"""Funds for K calls, and many more at the same moment: exactly K reach the backend, over any number of processes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.scene import Scene, scene
from tests.chaos.shop import BASE, DAILY, PLAN, WELCOME
from tests.flows.raw import RawClient, request

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")

PROCESSES = 4
EACH = 30
"""Connections to each process, every one with a call for the same account."""

CREDITS = WELCOME // BASE
"""Calls that a new account can pay for with credits."""

WAYS = [("sqlite", 1, PROCESSES), ("postgresql", 1, PROCESSES), ("postgresql", PROCESSES, 1)]


@pytest.mark.parametrize(
    ("database_url", "nodes", "workers"),
    WAYS,
    ids=["SQLite, four workers", "PostgreSQL, four workers", "PostgreSQL, four nodes"],
    indirect=["database_url"],
)
async def test_funds_for_k_forward_k(database_url: str, nodes: int, workers: int, tmp_path: Path) -> None:
    """By credits, of a user whom all processes meet for the first time at once; and by quota, then by credits."""
    async with scene(tmp_path, database_url, nodes=nodes, workers=workers) as running:
        clients = await running.connections(PROCESSES, EACH)
        assert await _storm(running, clients, "ann") == {200: CREDITS, 402: len(clients) - CREDITS}
        plan = json.dumps({"planId": PLAN}).encode()
        assert (
            await running.ask(request("POST /api/subscription/subscribe", running.bearer("sub"), body=plan))
        ).status == 201
        assert await _storm(running, clients, "sub") == {200: DAILY + CREDITS, 429: len(clients) - DAILY - CREDITS}
        ledger, received = await running.ledger(), running.received()
        assert Counter(receipt.user for receipt in received) == {"ann": CREDITS, "sub": DAILY + CREDITS}
        assert len({receipt.request_id for receipt in received}) == len(received)
        assert {receipt.request_id for receipt in received} == ledger.holds.keys()
        charged = Counter(f"{hold.user} {hold.funding} {hold.state} {hold.settled}" for hold in ledger.holds.values())
        assert charged == {
            f"ann credits settled {BASE}": CREDITS,
            "sub quota settled 1": DAILY,
            f"sub credits settled {BASE}": CREDITS,
        }


async def _storm(running: Scene, clients: list[RawClient], user: str) -> dict[int, int]:
    """A call of the user on every connection at once, and how many answers there were with each status."""
    await asyncio.gather(*(client.send(running.buy(user)) for client in clients))
    return Counter([(await client.answer()).status for client in clients])

"""A backend is given so much at once; who has to wait too long is told so, and pays nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.flows.raw import OK, Visit, answering
from tests.flows.wire.wire import CHEAP, SETTINGS, running_wire

LIMITED = SETTINGS.replace("raw: {", "raw: {max_connections: 1, max_waiting: 1, queue_timeout: 300ms, ")


async def test_a_busy_backend_is_503_and_free(migrated_file: Path, tmp_path: Path) -> None:
    """S10: one is served, one waits its time and one is refused at once; each hold is given back or settled."""
    go = asyncio.Event()

    async def waits(visit: Visit) -> None:
        await visit.body()
        await go.wait()
        await visit.send(OK)

    async with running_wire(migrated_file, tmp_path, LIMITED) as wire:
        wire.backend.script = waits
        served = await wire.start("POST /flat", user="ann")
        await wire.backend.arrived.wait()
        waiting = await wire.start("POST /flat", user="bob")
        # Two holds: the second has been taken, and its request goes to the line without waiting for anything else.
        await wire.until(lambda: wire.open_count(2))
        refused = await wire.ask("POST /flat", user="cem")
        assert (refused.status, refused.values(b"retry-after")) == (503, [b"1"])
        assert json.loads(refused.body)["code"] == "upstream_busy"
        assert json.loads((await waiting.answer()).body)["code"] == "upstream_busy"
        assert len(wire.backend.requests) == 1
        go.set()
        assert (await served.answer()).status == 200
        assert [await wire.spent(user) for user in ("ann", "bob", "cem")] == [CHEAP, 0, 0]
        wire.backend.script = answering(OK)
        assert (await wire.ask("POST /flat", user="cem")).status == 200


async def test_who_leaves_the_line_is_forgotten(migrated_file: Path, tmp_path: Path) -> None:
    """A client that has gone is not served in its turn, and its hold is given back at once."""
    go = asyncio.Event()

    async def waits(visit: Visit) -> None:
        await go.wait()
        await visit.send(OK)

    async with running_wire(migrated_file, tmp_path, LIMITED.replace("300ms", "20s")) as wire:
        wire.backend.script = waits
        served = await wire.start("POST /flat", user="ann")
        await wire.backend.arrived.wait()
        leaving = await wire.start("POST /flat", user="bob")
        await wire.until(lambda: wire.open_count(2))
        leaving.leave()
        await wire.until(lambda: wire.open_count(1))
        go.set()
        assert (await served.answer()).status == 200
        assert len(wire.backend.requests) == 1
        assert await wire.spent("bob") == 0

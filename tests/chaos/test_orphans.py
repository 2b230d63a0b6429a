"""What becomes of the children of a main process that is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.chaos.processes import Node
from tests.chaos.shop import Ports, write_settings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")


@asynccontextmanager
async def _serving(folder: Path, ports: Ports, workers: int) -> AsyncIterator[Node]:
    """A node whose main process serves, and whose children have just been told to start."""
    config = write_settings(folder / "node", f"sqlite+aiosqlite:///{folder}/farebox.db", ports)
    node = Node("node", config, workers, folder / "node.log")
    try:
        await node.start()
        yield node
    finally:
        await node.end()


async def _child(node: Node, command: str) -> int:
    while not (children := node.children(command)):
        await asyncio.sleep(0.001)
    return children[0]


async def test_children_end_with_their_parent_also_while_they_start(tmp_path: Path) -> None:
    """A worker that comes up when its parent is dead already must not serve alone, on a port that nobody can have."""
    async with _serving(tmp_path, Ports.free(1)[0], workers=2) as node:
        await _child(node, "serve")
        await node.kill(node.pid)
        assert await node.leftovers() == []


async def test_the_scheduler_does_not_keep_the_port(tmp_path: Path) -> None:
    """Whatever it is busy with when its parent is killed, the node can be started again at once."""
    ports = Ports.free(1)[0]
    async with _serving(tmp_path, ports, workers=1) as node:
        os.kill(await _child(node, "jobs"), signal.SIGSTOP)
        await node.kill(node.pid)
        socket.create_server(("127.0.0.1", ports.public)).close()

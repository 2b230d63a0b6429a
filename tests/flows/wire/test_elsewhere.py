"""A backend cannot send Farebox elsewhere: where it connects to is in the settings, and in nothing that it answers."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.flows.raw import answering, json_answer
from tests.flows.wire.wire import Wire

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("line", ["GET /open/x", "POST /flat", "GET /jobs/1"])
async def test_a04_redirects_of_backends_are_the_clients_to_follow(wire: Wire, line: str, status: int) -> None:
    """Passed on as they are; nothing listens to `Location`, `Refresh`, `Alt-Svc` or `Link` but the client."""
    visits: list[object] = []

    def visited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(writer.get_extra_info("peername"))
        writer.close()

    async with await asyncio.start_server(visited, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        there = f"http://{host}:{port}/"
        headers = [f"Location: {there}", f"Refresh: 0; url={there}", f'Alt-Svc: h2="{host}:{port}"', f"Link: <{there}>"]
        body = json.dumps({"id": "1", "next": there, "status_url": there}).encode()
        wire.backend.script = answering(
            json_answer(body, *(header.encode() for header in headers), status=f"{status} Elsewhere".encode())
        )
        answer = await wire.ask(line, user="ann")
        assert (answer.status, answer.values(b"location")) == (status, [there.encode()])
        assert visits == []

"""A WebSocket application that nobody has written for us, served by the `websockets` library, and its own client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from openai import AsyncOpenAI
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from tests.flows.house import token
from tests.flows.wire.wire import CHEAP, SETTINGS, TOKEN, Wire, running_wire

ROUTES = """
  - id: chat
    match: GET /chat
    upstream: raw
    app: shop
    model: {const: cheap}
    websocket: {charge: messages}
  - id: realtime
    match: GET /v1/realtime
    upstream: raw
    app: shop
    model: {query: model}
    units: {tokens: {const: 20, max: 20}}
    usage: {tokens: {json: /response/usage/total_tokens}}
    websocket: {charge: usage}
"""


async def realtime(connection: ServerConnection) -> None:
    """A model that answers whatever it is asked, in the events of the OpenAI Realtime API."""
    async for message in connection:
        if json.loads(message)["type"] == "response.create":
            for event in (
                {"type": "response.output_text.delta", "delta": "hello"},
                {"type": "response.done", "response": {"id": "r", "usage": {"total_tokens": 50}}},
                {"type": "rate_limits.updated", "rate_limits": []},
            ):
                await connection.send(json.dumps(event))


async def application(connection: ServerConnection) -> None:
    """Echo; and on demand close, crash, or say much."""
    assert connection.request is not None
    if "realtime" in connection.request.path:
        await realtime(connection)
        return
    async for message in connection:
        if message == "close":
            await connection.close(4000, "as you wish")
        elif message == "crash":
            connection.transport.abort()
        elif message == "flood":
            for number in range(100):
                await connection.send(f"{number}" * 10_000)
        elif message == "subprotocol":
            await connection.send(str(connection.subprotocol))
        else:
            await connection.send(message)


def gate(connection: ServerConnection, request: Request) -> Response | None:
    """Who asks for a locked path is told so in plain HTTP."""
    return connection.respond(418, "locked\n") if "locked" in request.path else None


def select(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return next((name for name in offered if name == "b"), None)


@dataclass
class Scene:
    wire: Wire
    server: Server

    def connect(self, path: str = "/open/x", user: str | None = None, **options: object) -> connect:
        headers = {"Authorization": f"Bearer {token(self.wire.name(user))}"} if user else {}
        url = f"ws://{self.wire.address}{path}"
        return connect(url, additional_headers=headers, proxy=None, **options)  # type: ignore[arg-type]


@asynccontextmanager
async def running(migrated_file: Path, folder: Path) -> AsyncIterator[Scene]:
    async with serve(application, "127.0.0.1", 0, process_request=gate, select_subprotocol=select) as server:
        port = server.sockets[0].getsockname()[1]
        text = (SETTINGS + ROUTES).replace("${BACKEND_URL}", f"http://127.0.0.1:{port}")
        async with running_wire(migrated_file, folder, text) as wire:
            yield Scene(wire, server)


@pytest.fixture
async def scene(migrated_file: Path, tmp_path: Path) -> AsyncIterator[Scene]:
    async with running(migrated_file, tmp_path) as scene:
        yield scene
        await scene.wire.verify()


async def test_a_conversation(scene: Scene) -> None:
    """Texts and bytes of any size, compressed on the way, in both directions, and a ping that is answered."""
    async with scene.connect(max_size=None) as connection:
        assert "permessage-deflate" in str(connection.response and connection.response.headers)
        for message in ("hi", "ä" * 70_000, b"\0\xff" * 100_000, "", b""):
            await connection.send(message)
            assert await connection.recv() == message
        await connection.send([b"in ", b"three ", b"pieces"])
        assert await connection.recv() == b"in three pieces"
        assert await (await connection.ping()) >= 0
        await connection.send("flood")
        for number in range(100):
            assert await connection.recv() == f"{number}" * 10_000
    assert (connection.close_code, connection.close_reason) == (1000, "")


async def test_without_compression(scene: Scene) -> None:
    """What the two ends agree upon is theirs."""
    async with scene.connect(compression=None, subprotocols=["a", "b"]) as connection:
        assert connection.subprotocol == "b"
        await connection.send("subprotocol")
        assert await connection.recv() == "b"


async def test_how_it_ends(scene: Scene) -> None:
    """By the server's code, by the client's, and by no code at all."""
    async with scene.connect() as connection:
        await connection.send("close")
        await connection.wait_closed()
        assert (connection.close_code, connection.close_reason) == (4000, "as you wish")
    async with scene.connect() as connection:
        await connection.send("crash")
        with pytest.raises(ConnectionClosedError):
            await connection.recv()
        assert connection.close_code == 1006
    async with scene.connect() as connection:
        await connection.close(4001, "enough")
        assert connection.close_code == 4001


async def test_a_refusal_is_plain_http(scene: Scene) -> None:
    """The application's own, body and all, and Farebox's."""
    for path, status, body in (("/open/locked", 418, b"locked\n"), ("/chat", 401, None)):
        with pytest.raises(InvalidStatus) as refused:
            async with scene.connect(path):
                """Not reached."""
        assert refused.value.response.status_code == status
        assert body is None or refused.value.response.body == body


async def test_a_paid_conversation(scene: Scene) -> None:
    """Each message of the client costs what it costs, until nothing is left."""
    connection: ClientConnection
    async with scene.connect("/chat", "ann") as connection:
        for _ in range(7):
            await connection.send("hi")
            assert await connection.recv() == "hi"
    await scene.wire.settled_at(7 * CHEAP)
    async with scene.connect("/chat", "bob") as connection:
        for _ in range(100):
            await connection.send("hi")
            await connection.recv()
        await connection.send("hi")
        with pytest.raises(ConnectionClosed):
            await connection.recv()
        assert (connection.close_code, connection.close_reason) == (1008, "insufficient_credits")
    await scene.wire.settled_at(100 * CHEAP, "bob")


async def test_the_openai_sdk_talks_unchanged(scene: Scene) -> None:
    """Only its base URL and key differ; each answer is charged by the usage in its `response.done`."""
    async with (
        AsyncOpenAI(
            api_key=token(scene.wire.name("ann")),
            base_url=f"http://{scene.wire.address}/v1",
            websocket_base_url=f"ws://{scene.wire.address}/v1",
        ) as client,
        client.realtime.connect(model="cheap") as connection,
    ):
        for turn in (1, 2):
            await connection.response.create()
            kinds = [(await connection.recv()).type for _ in range(3)]
            assert kinds == ["response.output_text.delta", "response.done", "rate_limits.updated"]
            assert await scene.wire.spent() == turn * 50 * TOKEN
    await scene.wire.settled_at(100 * TOKEN)


async def test_many_at_once(scene: Scene) -> None:
    """Fifty conversations beside each other, each its own."""

    async def talk(number: int) -> None:
        async with scene.connect() as connection:
            for turn in range(10):
                await connection.send(f"{number}:{turn}")
                assert await connection.recv() == f"{number}:{turn}"

    await asyncio.gather(*(talk(number) for number in range(50)))


async def test_farebox_stops(migrated_file: Path, tmp_path: Path) -> None:
    """Both sides are told by 1001, at once where nothing is under way."""
    async with running(migrated_file, tmp_path) as scene:
        connection = await scene.connect()
        await connection.send("hi")
        await connection.recv()
        stopping = asyncio.get_running_loop().time()
    await connection.wait_closed()
    assert connection.close_code == 1001
    assert asyncio.get_running_loop().time() - stopping < 5
    assert not scene.server.connections

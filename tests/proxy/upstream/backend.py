"""An upstream with settings of the test's own, in front of a backend that answers by script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from config.upstreams import Upstream as UpstreamSettings
from proxy.headers import HeaderList
from proxy.upstream.client import Outgoing, Upstream
from proxy.upstream.trust import context_of
from tests.flows.raw import PATIENCE_S, RawBackend, Script


@asynccontextmanager
async def backend_with(script: Script) -> AsyncIterator[RawBackend]:
    backend = RawBackend(script)
    await backend.start()
    yield backend
    await backend.stop()
    for _ in range(3):
        # Sockets that were closed a moment ago are given back by the loop, which ends with the test.
        await asyncio.sleep(0)


def upstream(*urls: str, **settings: Any) -> Upstream:
    values = UpstreamSettings.model_validate({"urls": list(urls), **settings})
    return Upstream("backend", values, context_of(values, Path()))


def outgoing(
    method: str = "GET", target: str = "/", body: Any = None, length: int | None = None, repeatable: bool = False
) -> Outgoing:
    headers: HeaderList = [("Host", "app.example.com")]
    if isinstance(body, bytes):
        length = len(body)
    return Outgoing(method, target, headers, body, length, repeatable)


async def ask(upstream: Upstream, request: Outgoing | None = None) -> bytes:
    """The body of an answer, read to its end."""
    async with asyncio.timeout(PATIENCE_S), await upstream.send(request or outgoing()) as answer:
        body = b""
        while piece := await answer.read():
            body += piece
    return body


async def until(what: Callable[[], object]) -> None:
    """Wait for something that comes about by itself."""
    async with asyncio.timeout(PATIENCE_S):
        while not what():
            await asyncio.sleep(0.005)

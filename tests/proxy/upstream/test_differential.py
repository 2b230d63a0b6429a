"""Our client and aiohttp's, at the same bytes: they agree, or the table says why they do not."""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp
import pytest

from proxy.upstream.client import Upstream, UpstreamBroken
from tests.flows.raw import Visit
from tests.proxy.upstream.backend import backend_with, outgoing, upstream
from tests.proxy.upstream.odd_answers import ODD


@dataclass(frozen=True)
class Seen:
    """What a client made of an answer."""

    status: int
    reason: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


async def ours(client: Upstream, method: str) -> Seen | None:
    try:
        async with await client.send(outgoing(method)) as answer:
            body = b""
            while piece := await answer.read():
                body += piece
    except UpstreamBroken:
        return None
    headers = tuple(
        (name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape"))
        for name, value in answer.headers
    )
    return Seen(answer.status, answer.reason, headers, body)


async def theirs(url: str, method: str) -> Seen | None:
    options = {"auto_decompress": False, "max_line_size": 2**16, "max_field_size": 2**16, "max_headers": 500}
    async with aiohttp.ClientSession(**options) as session:  # type: ignore[arg-type]
        session._retry_connection = False
        try:
            async with session.request(method, url, allow_redirects=False) as answer:
                return Seen(answer.status, answer.reason or "", answer.raw_headers, await answer.read())
        except (aiohttp.ClientError, ValueError):
            return None


@pytest.mark.parametrize("name", ODD)
async def test_the_clients_agree(name: str) -> None:
    """Status, reason, headers and body of every row, or that there is no answer; a difference has its reason."""
    odd = ODD[name]

    async def script(visit: Visit) -> None:
        await visit.body()
        await visit.send(odd.data)
        visit.writer.close()

    async with backend_with(script) as backend, upstream(backend.url) as client:
        mine, other = await ours(client, odd.method), await theirs(backend.url, odd.method)
    assert (mine == other) == (not odd.differs), (mine, other)

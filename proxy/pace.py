"""How long a client is waited for that sends a body.

There is a store of patience. Waiting for the client uses it up, and each byte that comes fills it again by the time
that the slowest tolerable client takes for one, up to what there was at first. So a pause is forgiven, and an upload
may last for days, while a byte now and then does not keep a request alive. The time in which the backend takes nothing
is not the client's, and is not counted.
"""

from __future__ import annotations

import asyncio

from aiohttp import StreamReader

from config.settings import Limits


class Pace:
    """The patience with one body."""

    def __init__(self, limits: Limits) -> None:
        self._most_s = self._left_s = limits.body_timeout.total_seconds()
        self._slowest = limits.slowest
        self._loop = asyncio.get_running_loop()

    async def piece(self, content: StreamReader) -> bytes:
        """What has come since the last one; empty at the end. Raises TimeoutError when the patience is used up."""
        began = self._loop.time()
        async with asyncio.timeout(self._left_s):
            piece = await content.readany()
        earned_s = len(piece) / self._slowest
        self._left_s = min(self._left_s - (self._loop.time() - began) + earned_s, self._most_s)
        return piece

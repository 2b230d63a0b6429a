"""Long work in small pieces: after each piece a rest, which belongs to the requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

Result = TypeVar("Result")

REST = 3
"""Times as long as a piece of work took. So a job has a quarter of the database's time at most, also on a slow disk."""

MAX_REST_S = 5
"""After a piece that had to wait for a lock: the wait was not our work."""


async def unhurried(work: Awaitable[Result]) -> Result:
    """The result of a piece of work, after the rest that follows it."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    result = await work
    await asyncio.sleep(min((loop.time() - begun) * REST, MAX_REST_S))
    return result

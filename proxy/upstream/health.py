"""Active health checks: an address that does not answer its check is left out until it does."""

from __future__ import annotations

import asyncio
import logging
from math import inf

from config.upstreams import Health
from proxy.headers import lines_bytes
from proxy.upstream.connection import Connection
from proxy.upstream.exchange import Outgoing, Patience, UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from proxy.upstream.target import Target

log = logging.getLogger(__name__)


class _Nobody:
    """Owns the connection of a check, which nobody uses again."""

    def finished(self, connection: Connection, *, reusable: bool) -> None:
        connection.abort()

    def lost(self, connection: Connection) -> None:
        pass


async def watch(target: Target, name: str, settings: Health) -> None:
    """Check an address for ever."""
    while True:
        trouble = await trouble_of(target, settings)
        if (trouble is not None) != target.standing.unhealthy:
            target.standing.unhealthy = trouble is not None
            log.warning("upstream %r at %s is %s", name, target.address, f"left out: {trouble}" if trouble else "back")
        await asyncio.sleep(settings.interval.total_seconds())


async def trouble_of(target: Target, settings: Health) -> str | None:
    """Why an address fails its check, or None."""
    timeout_s = settings.timeout.total_seconds()
    outgoing = Outgoing("GET", settings.path, [], None, None)
    head = target.addressed("GET", lines_bytes([f"{settings.path} HTTP/1.1", "", ""]))
    try:
        connection = await target.connection_for(_Nobody(), timeout_s)
        async with await connection.exchange(head, outgoing, Patience(timeout_s, timeout_s, inf)) as answer:
            return None if 200 <= answer.status < 300 else f"its check was answered with {answer.status}"
    except (UpstreamUnreachable, UpstreamTimeout, UpstreamBroken) as error:
        return str(error)

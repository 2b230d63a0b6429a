"""What /metrics says of backends."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry

from proxy.upstream.collector import UpstreamCollector
from tests.flows.raw import OK, Visit, answering
from tests.proxy.upstream.backend import ask, backend_with, outgoing, until, upstream


async def test_metrics_tell_of_upstreams() -> None:
    """Who is busy, who waits, what is kept, made, repeated and left out."""

    async def silent(visit: Visit) -> None:
        await visit.gone()

    async with backend_with(answering(OK)) as backend, upstream(backend.url, max_connections=1) as client:
        registry = CollectorRegistry()
        registry.register(UpstreamCollector([client]))
        where = {"upstream": "backend", "target": backend.url}

        def now() -> list[float | None]:
            names = ("busy", "kept", "opened_total", "ejected")
            return [registry.get_sample_value(f"farebox_upstream_{name}", where) for name in names]

        assert now() == [0, 0, 0, 0]
        await ask(client)
        assert now() == [0, 1, 1, 0]
        backend.script = silent
        tasks = [asyncio.create_task(ask(client, outgoing())) for _ in range(3)]
        await until(lambda: client.waiting == 2)
        assert now() == [1, 0, 1, 0]
        assert registry.get_sample_value("farebox_upstream_waiting", {"upstream": "backend"}) == 2
        assert registry.get_sample_value("farebox_upstream_repeated_total", {"upstream": "backend"}) == 0
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

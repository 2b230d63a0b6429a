"""For whatever watches the process: is it alive, may it be sent requests, what has it counted.

Ready means that the next request could be decided: the store answers and a policy is in force. A policy on disk that
is invalid does not make it unready, since the last good one stays in force; the page shows what is wrong with it.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from policies.refusals import Reason, iso
from proxy.errors import STATUS
from proxy.metrics import Metrics
from proxy.services import Services
from store import catalogue
from store.engine import StoreUnavailable

PATIENCE_S = 3
"""For the store's answer: less than the period of usual probes, so that they see a reason and not a time-out."""


class Probes:
    """The pages that need no token."""

    def __init__(self, services: Services, metrics: Metrics) -> None:
        self._services = services
        self._metrics = metrics

    async def alive(self, request: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def ready(self, request: web.Request) -> web.Response:
        store = await self._store_trouble()
        body = {
            "ready": store is None,
            "store": {"ok": store is None, "reason": store},
            "policy": policy_status(self._services),
        }
        return web.json_response(body, status=200 if store is None else STATUS[Reason.STORE_UNAVAILABLE])

    async def _store_trouble(self) -> str | None:
        """Why the store cannot answer, or None when it can."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._services.store.database.read(catalogue.revision)
        except TimeoutError:
            return f"no answer within {PATIENCE_S} s"
        except StoreUnavailable as error:
            return str(error)
        return None

    async def metrics(self, request: web.Request) -> web.Response:
        page = self._metrics.page(self._services.rulebooks.status)
        return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE_LATEST})


def policy_status(services: Services) -> dict[str, object]:
    """The policy in force, and what is wrong with the one on disk."""
    status = services.rulebooks.status
    return {
        "ok": not status.using_last_good,
        "revision": status.revision,
        "loaded_at": iso(status.loaded_at),
        "using_last_good": status.using_last_good,
        "rolled_back": status.rolled_back,
        "findings": [finding.as_json() for finding in status.findings],
    }

"""The admin listener: probes for anyone who reaches it, operator verbs for whoever has the token."""

from __future__ import annotations

from aiohttp import web

from proxy.admin.door import answering, refusing
from proxy.admin.verbs import AdminVerbs
from proxy.metrics import Metrics
from proxy.operations.table import OPERATIONS
from proxy.probes import Probes
from proxy.services import Services

MAX_BODY = 64 * 2**10
"""Bytes of a request: a hundred times the largest verb."""


def build_admin(services: Services, metrics: Metrics) -> web.Application:
    """The application of the admin listener, for one process."""
    app = web.Application(client_max_size=MAX_BODY, middlewares=[answering(services), refusing(services)])
    probes, verbs = Probes(services, metrics), AdminVerbs(services)
    app.router.add_get("/livez", probes.alive)
    app.router.add_get("/readyz", probes.ready)
    app.router.add_get("/metrics", probes.metrics)
    app.router.add_get("/admin", verbs.listed)
    app.router.add_get("/admin/policy", verbs.policy)
    app.router.add_post("/admin/policy/reload", verbs.reload_policy)
    for operation in OPERATIONS:
        method = "POST" if operation.changes else "GET"
        path = f"/admin/{operation.noun}/{operation.verb}"
        app.router.add_route(method, path, verbs.handler(operation))
    return app

"""The composition root: settings → store → rulebook → rooms → listeners, and the way back down.

Order of start: bind the ports, open the store, put a policy in force, resolve what an earlier process left overdue,
serve. Order of stop: refuse new connections, let requests finish, settle, close.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry

from config.clock import Clock, utc_now
from config.findings import InvalidDocument
from config.quantities import Address
from config.settings import FareboxSettings, LoadedSettings
from policies.spending import order_of
from policies.terms import Catalogue
from proxy import installation
from proxy.admin.app import build_admin
from proxy.admin.listening import AdminRunner
from proxy.candidate import Candidate
from proxy.decision_log import DecisionLog
from proxy.identity import jwks, keys
from proxy.identity.identifier import Identifier
from proxy.identity.jwt import Issuer
from proxy.limiting import Limiter, OwnLimiter, SharedLimiter
from proxy.listening import PublicServer
from proxy.management.api import Management
from proxy.management.endpoints import findings_of
from proxy.metrics import Metrics
from proxy.pipeline.recording import Recorder
from proxy.pipeline.routing import Routes
from proxy.pipeline.serve import Pipeline
from proxy.policy_reading import metered_routes
from proxy.rulebooks import Rulebooks
from proxy.services import Services
from proxy.upstream import trust
from proxy.upstream.client import Upstream
from proxy.upstream.collector import UpstreamCollector
from proxy.watching import keep_first, watch
from store import catalogue, policy_history
from store.opening import Store, open_store

log = logging.getLogger(__name__)

BACKLOG = 1024
"""Connections that the system may queue while the loop is busy."""

KEEPALIVE_S = 75
"""An idle client connection: longer than the usual load balancer keeps its own."""

READ_AHEAD = 2**17
"""Bytes of an upload that may wait for the backend, twice: with less, reading stops and goes on with every piece."""

DRAIN_S = 30
"""How long running requests may take after the stop signal."""


class CannotStart(Exception):
    """Something outside stands in the way; the message says what, and what to do."""


@dataclass(frozen=True, slots=True)
class Farebox:
    """A serving process, with the addresses it was given by the system."""

    services: Services
    public: Address
    admin: Address | None


def listen(address: Address) -> socket.socket:
    """A listening socket, so that a port in use is told before anything else has happened."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        listener = socket.create_server((address.host, address.port), family=family, backlog=BACKLOG)
    except OSError as error:
        # The system's own words: asyncio and socket add the address to theirs once more.
        known = error.errno is not None and error.errno > 0
        reason = os.strerror(error.errno or 0) if known else error.strerror or str(error)
        hint = "stop what listens there, or change `listen`"
        raise CannotStart(f"cannot listen on {address}: {reason}; {hint}") from None
    listener.setblocking(False)
    return listener


def check_installation(settings: FareboxSettings) -> None:
    """Raises CannotStart with everything that is too old, or not what it should be."""
    found = installation.troubles(settings.http_parser)
    if found:
        raise CannotStart("; and ".join(found))
    if not installation.is_compiled():
        log.warning("requests are parsed by aiohttp's parser in Python, as `http_parser: any` accepts")


@asynccontextmanager
async def farebox(
    settings: LoadedSettings, public: socket.socket, admin: socket.socket | None, clock: Clock = utc_now
) -> AsyncIterator[Farebox]:
    """Everything running, until the block is left. `admin` is None in further workers of one node."""
    check_installation(settings.values)
    findings = [*findings_of(settings), *trust.findings_of(settings), *keys.findings_of(settings)]
    findings += jwks.findings_of(settings)
    if findings:
        raise InvalidDocument(findings)
    async with AsyncExitStack() as stack:
        order = order_of(settings.values.credits.spend_order)
        store = await stack.enter_async_context(open_store(settings.database_url, clock, spend_order=order))
        issuers = await stack.enter_async_context(jwks.open_issuers(settings, clock))
        services = await _services(settings, store, issuers, clock)
        stack.push_async_callback(services.limiter.close)
        registry = CollectorRegistry()
        metrics = Metrics(registry)
        upstreams = {
            name: await stack.enter_async_context(Upstream(name, upstream, trust.context_of(upstream, settings.folder)))
            for name, upstream in settings.values.upstreams.items()
        }
        registry.register(UpstreamCollector(upstreams.values()))
        management = Management(services)
        candidate = Candidate(settings.candidate_folder, metered_routes(settings.values.routes), metrics)
        candidate.look(services.rulebooks.current.catalogue)
        decisions = DecisionLog(settings, store, metrics, candidate)
        await stack.enter_async_context(decisions.writing())
        routes = Routes(settings.values.routes, upstreams)
        pipeline = Pipeline(services, routes, management, Recorder(metrics), decisions)
        stack.push_async_callback(pipeline.close)
        await store.ledger.expire_overdue(await store.database.read(store.database.now))
        await stack.enter_async_context(_serving(pipeline, settings.values, public))
        if admin is not None:
            await stack.enter_async_context(
                _serving_admin(AdminRunner(build_admin(services, metrics), services), admin)
            )
        watcher = asyncio.create_task(watch(services, candidate), name="watcher")
        stack.callback(watcher.cancel)
        yield Farebox(services, _address(public), _address(admin) if admin is not None else None)


async def _services(settings: LoadedSettings, store: Store, issuers: Sequence[Issuer], clock: Clock) -> Services:
    for_sale: Catalogue = await store.database.read(catalogue.load)
    routes = metered_routes(settings.values.routes)
    stored = await store.database.read(policy_history.latest)
    rulebooks = Rulebooks(settings.policies_folder, for_sale, clock(), routes, stored)
    limiter: Limiter = SharedLimiter(store.database) if settings.values.counters == "database" else OwnLimiter()
    identifier = Identifier(settings.values, issuers, store, clock)
    services = Services(settings, store, rulebooks, identifier, clock, limiter)
    await keep_first(services, stored)
    return services


@asynccontextmanager
async def _serving(pipeline: Pipeline, settings: FareboxSettings, listener: socket.socket) -> AsyncIterator[None]:
    server = PublicServer(
        pipeline,
        # Noticing at once that a client has left: a quiet stream would find out at its next write.
        handler_cancellation=True,
        auto_decompress=False,
        access_log=None,
        keepalive_timeout=KEEPALIVE_S,
        lingering_time=2,
        read_bufsize=READ_AHEAD,
        max_line_size=settings.limits.header,
        max_field_size=settings.limits.header,
    )
    runner = web.ServerRunner(server, shutdown_timeout=DRAIN_S)
    await runner.setup()
    await web.SockSite(runner, listener, backlog=BACKLOG).start()
    try:
        yield
    finally:
        pipeline.leave()
        await runner.cleanup()


@asynccontextmanager
async def _serving_admin(runner: AdminRunner, listener: socket.socket) -> AsyncIterator[None]:
    await runner.setup()
    await web.SockSite(runner, listener).start()
    try:
        yield
    finally:
        await runner.cleanup()


def _address(listener: socket.socket) -> Address:
    name: Sequence[object] = listener.getsockname()
    return Address(str(name[0]), int(str(name[1])))

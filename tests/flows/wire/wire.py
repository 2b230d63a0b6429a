"""A Farebox whose backend is a script and whose clients are sockets, as the tests of the wire see it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from config.clock import utc_now
from config.quantities import Address
from config.settings import load_settings
from policies.terms import MICRO
from proxy.app import farebox, listen
from proxy.services import Services
from store import accounts, catalogue, reports
from store.opening import open_store
from store.verify import verify
from tests.flows.house import SECRET, token
from tests.flows.raw import Message, RawBackend, RawClient, request

SETTINGS = """
identity: {jwt: [{name: app, algorithms: [HS256], secret: "${JWT_SECRET}", user: userId}]}
upstreams:
  raw:
    url: "${BACKEND_URL}"
    connect_timeout: 1s
    response_timeout: 600ms
    idle_timeout: 600ms
    headers: {X-Backend-Key: from-settings}
  down: {url: "http://127.0.0.1:9", connect_timeout: 500ms}
limits: {peek: 64KiB, body_timeout: 400ms}
routes:
  - {id: open, match: "* /open/**", upstream: raw, access: open}
  - {id: down, match: "* /down", upstream: down, access: open}
  - {id: mine, match: "* /mine/**", upstream: raw, access: account}
  - {id: flat, match: ["GET /flat", POST /flat, PUT /flat], upstream: raw, app: shop, model: {const: cheap}}
  - {id: paid-down, match: POST /paid-down, upstream: down, app: shop, model: {const: cheap}}
  - id: buy
    match: POST /buy
    upstream: raw
    app: shop
    model: {json: /model}
    units: {tokens: {json: /max_tokens, max: 100, default: 10}}
    usage: {tokens: {json: /usage/tokens}}
  - {id: by-header, match: POST /by-header, upstream: raw, app: shop, model: {header: X-Model}}
  - {id: free-abort, match: POST /free-abort, upstream: raw, app: shop, model: {const: cheap}, on_abort: release}
  - id: quote-abort
    match: POST /quote-abort
    upstream: raw
    app: shop
    model: {json: /model}
    units: {tokens: {json: /max_tokens, max: 100, default: 10}}
    usage: {tokens: {json: /usage/tokens}}
    on_abort: quote
  - id: start
    match: POST /jobs
    upstream: raw
    app: shop
    model: {const: cheap}
    job: {id: {json: /id}, deadline: 1h}
  - id: job
    match: "GET /jobs/{id}"
    upstream: raw
    access: account
    poll: {of: start, id: {path: id}, status: {json: /status}, completed: done, failed: failed}
  - id: jobs
    match: GET /jobs
    upstream: raw
    access: account
    poll: {of: start, items: {json: /jobs}, id: {json: /id}, status: {json: /status}, completed: done, failed: failed}
"""

WELCOME = 100 * MICRO
CHEAP = 1 * MICRO
"""A call of `shop:cheap`; of `shop:dear` it is ten times as much. Each token costs a tenth of a credit."""
TOKEN = MICRO // 10

APP = {"name": "Shop", "description": "", "icon": "", "version": "1", "route_prefix": "", "enabled": True}
APP |= {"beta": False, "coming_soon": False, "position": 1, "color": ""}
MODEL = {"app_id": "shop", "name": "", "description": "", "provider": "", "tier": "free", "enabled": True}
MODEL |= {"beta": False, "capabilities": {}, "price_step": 1, "quota_cost": 1}


def _stock(connection: Connection) -> None:
    catalogue.put_app(connection, "shop", APP)
    for name, base, rates in (("cheap", CHEAP, {"tokens": str(TOKEN)}), ("dear", 10 * CHEAP, {})):
        catalogue.put_model(connection, f"shop:{name}", {**MODEL, "price_base": base, "price_rates": rates})
    catalogue.changed(connection)


@dataclass
class Wire:
    """A running Farebox and its backend."""

    backend: RawBackend
    services: Services
    address: Address
    may_stay_open: int = 0
    """Holds that a test leaves open on purpose, such as those of unfinished jobs."""
    _clients: list[RawClient] = field(default_factory=list)

    async def connect(self) -> RawClient:
        client = await RawClient.connect(self.address.host, self.address.port)
        self._clients.append(client)
        return client

    async def ask(self, line: str, *headers: str, body: bytes = b"", user: str | None = None) -> Message:
        """One request on a connection of its own, and its answer."""
        client = await self.connect()
        await client.send(request(line, *([bearer(user)] if user else []), *headers, body=body))
        return await client.answer(line.partition(" ")[0])

    async def raw(self, data: bytes) -> bytes:
        """Everything that comes back for these bytes until Farebox closes the connection."""
        client = await self.connect()
        await client.send(data)
        return await client.rest()

    async def spent(self, user: str = "ann") -> int:
        """Micro-credits that are charged or held of a user who began with the welcome credits."""
        database = self.services.store.database
        found = await database.read(accounts.find_user, user)
        if found is None:
            return 0
        balance = await database.read(reports.balance, found.account.account_id, self.services.now())
        return WELCOME - balance.available

    async def settled_at(self, amount: int, user: str = "ann") -> None:
        """Until nothing is held any more; then what was spent is `amount`."""
        for _ in range(500):
            if not await self.open_holds():
                break
            await asyncio.sleep(0.01)
        assert await self.open_holds() == []
        assert await self.spent(user) == amount

    async def open_holds(self) -> list[dict[str, Any]]:
        return await self.services.store.database.read(reports.open_holds, 1000)

    async def usage(self) -> list[dict[str, Any]]:
        return await self.services.store.database.read(reports.usage, None, None, 1000)

    async def check(self) -> None:
        """The ledger obeys its laws, and no hold was forgotten."""
        for client in self._clients:
            await client.close()
        for _ in range(200):
            if len(await self.open_holds()) <= self.may_stay_open:
                break
            await asyncio.sleep(0.01)
        assert len(await self.open_holds()) == self.may_stay_open
        breaches = {check.name: check.breaches for check in await self.services.store.database.read(verify)}
        assert not any(breaches.values()), breaches


def bearer(user: str) -> str:
    return f"Authorization: Bearer {token(user)}"


def order(model: str = "cheap", **more: object) -> bytes:
    """The body of a purchase."""
    return json.dumps({"model": model, **more}).encode()


@asynccontextmanager
async def running_wire(backend: RawBackend, folder: Path) -> AsyncIterator[Wire]:
    """Farebox on a migrated database in `folder`, with something to sell."""
    (folder / "farebox.yaml").write_text(SETTINGS)
    settings = load_settings(folder / "farebox.yaml", {"JWT_SECRET": SECRET, "BACKEND_URL": backend.url})
    async with open_store(settings.database_url, utc_now) as store:
        await store.database.write(_stock)
    public = listen(Address("127.0.0.1", 0))
    async with farebox(settings, public, None) as running:
        yield Wire(backend, running.services, running.public)

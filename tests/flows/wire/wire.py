"""A Farebox whose backend is a script and whose clients are sockets, as the tests of the wire see it."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from config.clock import utc_now
from config.quantities import Address
from config.settings import load_settings
from policies.terms import MICRO, AccountId
from proxy.app import farebox, listen
from proxy.clients import Clients
from proxy.services import Services
from store import accounts, catalogue, reports
from store.opening import open_store
from store.verify import verify
from tests import canaries
from tests.flows.house import SECRET, search_services, token
from tests.flows.raw import PATIENCE_S, Message, RawBackend, RawClient, event, request

SETTINGS = """
identity: {jwt: [{name: app, algorithms: [HS256], secret: "${JWT_SECRET}", user: userId}]}
upstreams:
  raw: {url: "${BACKEND_URL}", response_timeout: 20s, idle_timeout: 20s, headers: {X-Backend-Key: "${BACKEND_KEY}"}}
  quick: {url: "${BACKEND_URL}/base/", response_timeout: 800ms, idle_timeout: 800ms, host: upstream}
  down: {url: "http://127.0.0.1:9", connect_timeout: 500ms}
limits: {peek: 64KiB, body_timeout: 1s, slowest: 1}
routes:
  - {id: open, match: "* /open/**", upstream: raw, access: open}
  - {id: mine, match: "* /mine/**", upstream: raw, access: account}
  - {id: quick, match: "* /quick/**", upstream: quick, access: open}
  - {id: down, match: "* /down", upstream: down, access: open}

  - {id: flat, match: [GET /flat, POST /flat, PUT /flat], upstream: raw, app: shop, model: {const: cheap}}
  - {id: quick-flat, match: POST /quick-flat, upstream: quick, app: shop, model: {const: cheap}}
  - {id: paid-down, match: POST /paid-down, upstream: down, app: shop, model: {const: cheap}}
  - {id: by-header, match: POST /by-header, upstream: raw, app: shop, model: {header: X-Model}}
  - {id: forgiving, match: POST /forgiving, upstream: raw, app: shop, model: {const: cheap}, on_abort: release}

  - id: buy
    match: POST /buy
    upstream: raw
    app: shop
    model: {json: /model}
    units: {tokens: {json: /max_tokens, max: 100, default: 20}}
    usage: {tokens: {json: /usage/tokens}}
  - id: buy-strictly
    match: POST /buy-strictly
    upstream: raw
    app: shop
    model: {json: /model}
    units: {tokens: {json: /max_tokens, max: 100, default: 20}}
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

NOWHERE = Address("", 0)

WELCOME = 100 * MICRO
CHEAP = 1 * MICRO
"""The base of `shop:cheap`; that of `shop:dear` is ten times as much."""
TOKEN = MICRO // 10
"""What a token costs; twenty of them, which a request that says nothing is quoted for, cost two credits."""
QUOTE = 20 * TOKEN

APP = {"name": "Shop", "description": "", "icon": "", "version": "1", "route_prefix": "", "enabled": True}
APP |= {"beta": False, "coming_soon": False, "position": 1, "color": ""}
MODEL = {"app_id": "shop", "name": "", "description": "", "provider": "", "tier": "free", "enabled": True}
MODEL |= {"beta": False, "capabilities": {}, "price_step": 1, "quota_cost": 1, "price_rates": {"tokens": str(TOKEN)}}


def stock(connection: Connection) -> None:
    catalogue.put_app(connection, "shop", APP)
    for name, base in (("cheap", CHEAP), ("dear", 10 * CHEAP)):
        catalogue.put_model(connection, f"shop:{name}", {**MODEL, "price_base": base})
    catalogue.changed(connection)


@dataclass
class Wire:
    """A running Farebox and its backend, with users of the test's own."""

    backend: RawBackend
    services: Services
    clients: Clients
    address: Address
    admin: Address = NOWHERE
    """Of the admin API, where there is one."""
    may_stay_open: int = 0
    """Holds that a test leaves open on purpose, such as those of unfinished jobs."""
    number: int = 0
    """Which test of its file this is."""
    claims: dict[str, object] = field(default_factory=dict)
    """What tokens say beside who their user is."""
    _tokens: dict[str, str] = field(default_factory=dict)
    _clients: list[RawClient] = field(default_factory=list)

    def begin(self) -> None:
        """For the next test: an untouched backend, and users who have spent nothing."""
        self.number += 1
        self.may_stay_open = 0
        self.backend.reset()

    def name(self, user: str) -> str:
        """The id of a user of this test."""
        return f"{user}-{self.number}"

    def bearer(self, user: str = "ann") -> str:
        """The user's credential, the same one for the whole test, as an ordinary client sends it."""
        name = self.name(user)
        return f"Authorization: Bearer {self._tokens.setdefault(name, token(name, **self.claims))}"

    async def connect(self, source: str | None = None) -> RawClient:
        client = await RawClient.connect(self.address.host, self.address.port, source)
        self._clients.append(client)
        return client

    async def start(
        self, line: str, *headers: str, body: bytes = b"", user: str | None = None, source: str | None = None
    ) -> RawClient:
        """A request on a connection of its own, whose answer nobody has read yet."""
        client = await self.connect(source)
        await client.send(request(line, *([self.bearer(user)] if user else []), *headers, body=body))
        return client

    async def ask(
        self, line: str, *headers: str, body: bytes = b"", user: str | None = None, source: str | None = None
    ) -> Message:
        """A request and its answer."""
        client = await self.start(line, *headers, body=body, user=user, source=source)
        return await client.answer(line.partition(" ")[0])

    async def raw(self, data: bytes, source: str | None = None) -> bytes:
        """Everything that comes back for these bytes until Farebox closes the connection."""
        client = await self.connect(source)
        await client.send(data)
        return await client.rest()

    async def account(self, user: str = "ann") -> AccountId | None:
        found = await self.services.store.database.read(accounts.find_user, self.name(user))
        return found.account.account_id if found is not None else None

    async def spent(self, user: str = "ann") -> int:
        """Micro-credits that are charged or held of a user who began with the welcome credits."""
        account_id = await self.account(user)
        if account_id is None:
            return 0
        return WELCOME - (await self._read(reports.balance, account_id, self.services.now())).available

    async def settled_at(self, amount: int, user: str = "ann") -> None:
        """Wait until nothing is held any more; then what was spent is `amount`."""
        await self.until(lambda: self.open_count(0))
        assert await self.spent(user) == amount

    async def open_holds(self) -> list[dict[str, Any]]:
        """Of this test's users."""
        return self._ours(await self._read(reports.open_holds, 1000))

    async def usage(self) -> list[dict[str, Any]]:
        """Usage events of this test's users, newest first."""
        return self._ours(await self._read(reports.usage, None, None, 1000))

    def _ours(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row for row in rows if row["user_id"].endswith(f"-{self.number}")]

    async def end(self) -> None:
        """After a test: every client leaves, and no hold was forgotten."""
        await self.hang_up()
        await self.until(lambda: self.open_count(self.may_stay_open))

    async def verify(self) -> None:
        """The ledger obeys its laws."""
        breaches = {check.name: check.breaches for check in await self._read(verify)}
        assert not any(breaches.values()), breaches

    async def hang_up(self) -> None:
        for client in self._clients:
            await client.close()
        self._clients.clear()

    async def until(self, what: Callable[[], bool | Awaitable[bool]]) -> None:
        """Wait for something that comes about by itself."""
        for _ in range(PATIENCE_S * 100):
            found = what()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it did not come about")

    async def open_count(self, count: int) -> bool:
        return len(await self.open_holds()) == count

    async def _read(self, query: Any, *args: Any) -> Any:
        return await self.services.store.database.read(query, *args)


def order(model: str = "cheap", **more: object) -> bytes:
    """The body of a purchase."""
    return json.dumps({"model": model, **more}).encode()


def stating(tokens: object) -> bytes:
    """An event that states what was used."""
    return event({"usage": {"tokens": tokens}})


@asynccontextmanager
async def running_wire(
    database: Path, folder: Path, text: str = SETTINGS, admin: socket.socket | None = None
) -> AsyncIterator[Wire]:
    """Farebox on a copy of a migrated database in `folder`, with something to sell, and its backend.

    `admin` is a socket for the admin API, which is not served without one. `${SELF_URL}` is Farebox's own address.
    """
    backend, public = RawBackend(), listen(Address("127.0.0.1", 0))
    await backend.start()
    shutil.copyfile(database, folder / "farebox.db")
    (folder / "farebox.yaml").write_text(text)
    own = "http://{}:{}".format(*public.getsockname())
    environment = {
        "JWT_SECRET": SECRET,
        "BACKEND_URL": backend.url,
        "SELF_URL": own,
        "BACKEND_KEY": canaries.BACKEND_KEY,
    }
    settings = load_settings(folder / "farebox.yaml", environment)
    async with open_store(settings.database_url, utc_now) as store:
        await store.database.write(stock)
    async with farebox(settings, public, admin) as running:
        wire = Wire(backend, running.services, running.clients, running.public, running.admin or NOWHERE)
        yield wire
        await wire.hang_up()
        await search_services(running.services)
    await backend.stop()

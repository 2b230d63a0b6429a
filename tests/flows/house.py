"""A running Farebox and a backend that counts, as tests see them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import jwt
from aiohttp import web
from multidict import CIMultiDictProxy
from sqlalchemy import Connection

from proxy.services import Services
from store import accounts, reports
from store.engine import Database
from tests import canaries

EXAMPLES = Path(__file__).parents[2] / "examples"
SECRET = canaries.JWT_SECRET


def token(user_id: str, **claims: object) -> str:
    """A token as the app behind Farebox hands out."""
    expires = datetime.now(UTC) + timedelta(hours=1)
    return jwt.encode({"userId": user_id, "email": canaries.email(user_id), "exp": expires} | claims, SECRET)


@dataclass
class House:
    """A running Farebox, and ways to look into it."""

    url: str
    admin_url: str
    services: Services
    client: aiohttp.ClientSession
    backend: Backend

    def headers(self, user_id: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token(user_id)}"}

    async def call(
        self, method: str, path: str, user: str | None = None, **options: Any
    ) -> tuple[int, Any, CIMultiDictProxy[str]]:
        """Status, JSON body (or text), headers."""
        headers = {**(self.headers(user) if user else {}), **options.pop("headers", {})}
        async with self.client.request(method, self.url + path, headers=headers, **options) as response:
            is_json = "json" in response.content_type
            if b'"request_id"' in await response.read():
                canaries.search("a refusal", str(response.headers), await response.read())
            return response.status, await (response.json() if is_json else response.text()), response.headers

    async def balance(self, user_id: str) -> int:
        """Available micro-credits."""
        database = self.services.store.database
        user = await database.read(accounts.find_user, user_id)
        assert user is not None, "the user exists"
        found = await database.read(reports.balance, user.account.account_id, self.services.now())
        return found.available


async def search_services(services: Services) -> None:
    """Nothing that a running Farebox remembers for people, or says of itself, has a secret in it."""
    await search_rows(services.store.database)
    canaries.search("a representation", repr(services), str(services), repr(services.settings), str(services.settings))
    canaries.search("the settings", repr(services.settings.values), services.settings.values.model_dump_json())


async def search_rows(database: Database) -> None:
    """What is written down beside the ledger, for people to read."""
    for table in ("decisions", "audit_entries", "audit_outcomes"):
        canaries.search(f"the table {table}", *map(str, await database.read(_rows, table)))


def _rows(connection: Connection, table: str) -> Sequence[Any]:
    return connection.exec_driver_sql(f"SELECT * FROM {table}").all()


class Backend:
    """The sample backend, counting what reaches it."""

    def __init__(self, app: web.Application) -> None:
        self.requests: list[web.BaseRequest] = []
        app.middlewares.insert(0, self._count)
        self.url = ""
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def start(self) -> None:
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self.runner.cleanup()

    @web.middleware
    async def _count(self, request: web.Request, handler: Callable[..., Awaitable[web.StreamResponse]]) -> Any:
        self.requests.append(request)
        return await handler(request)

    def reached(self, path: str) -> int:
        return sum(request.path == path for request in self.requests)


def sample_backend() -> ModuleType:
    """The module of the sample backend, which is no part of the installed packages."""
    folder = str(EXAMPLES / "backend")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location("sample_backend_app", EXAMPLES / "backend" / "app.py")
    assert spec is not None, "the file is there"
    assert spec.loader is not None, "a Python file has a loader"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

"""Farebox between clients and backends that the differential test owns: one route, user and backend for each client."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from config.clock import utc_now
from config.quantities import Address
from config.settings import load_settings
from proxy.app import farebox, listen
from proxy.services import Services
from store import accounts, reports
from store.opening import open_store
from tests.differential.recorder import Answerer, Recorder
from tests.flows.house import SECRET, token
from tests.flows.wire.wire import CHEAP, WELCOME, stock

CLIENTS = 8
"""At a time, each with a backend of its own, so that what arrives has one sender."""

BODY_S = 0.15
"""How long Farebox waits for a body that does not come: many odd requests promise more than they have."""

QUIET_S = 0.4
"""How long a client waits for Farebox to say something; longer than Farebox waits for the client."""

PAUSE_S = 0.002
"""Between two pieces: Farebox has read the one before the next one comes, and has passed it on where it can."""

_COMMON = f"""
identity: {{jwt: [{{name: app, algorithms: [HS256], secret: "{SECRET}", user: userId}}], failures: {{limit: 1000000}}}}
limits: {{body_timeout: {round(BODY_S * 1000)}ms}}
log: {{level: error}}
"""
_UPSTREAM = "  {name}: {{url: {url}, response_timeout: 2s, idle_timeout: 200ms, headers: {{X-Backend-Key: ours}}}}\n"
_ROUTES = """
  - {{id: {name}-open, match: "* /{name}/{{case}}/open/**", upstream: {name}, access: open}}
  - {{id: {name}-flat, match: "POST /{name}/{{case}}/flat", upstream: {name}, app: shop, model: {{const: cheap}}}}
"""


@dataclass
class Field:
    """Everything running, with what each client needs."""

    services: Services
    address: Address
    recorders: list[Recorder]
    answerers: list[Answerer]

    async def say(self, pieces: Sequence[bytes], quiet_s: float = QUIET_S) -> tuple[bytes, bool]:
        """What Farebox answers to these bytes, and whether it has closed the connection afterwards, without being quiet
        for longer than `quiet_s`.
        """
        reader, writer = await asyncio.open_connection(self.address.host, self.address.port)
        # It listens while it speaks: a reset that answers its last words would take away what it has not heard yet.
        hearing = asyncio.create_task(_hear(reader, quiet_s))
        try:
            for piece in pieces:
                writer.write(piece)
                if piece is not pieces[-1]:
                    await asyncio.sleep(PAUSE_S)
            return await hearing
        finally:
            writer.close()

    async def taken(self, user: str) -> int:
        """How many calls a user has paid for, or has held."""
        found = await self.services.store.database.read(accounts.find_user, user)
        if found is None:
            return 0
        account_id, now = found.account.account_id, self.services.now()
        balance = await self.services.store.database.read(reports.balance, account_id, now)
        return (WELCOME - balance.available) // CHEAP


async def _hear(reader: asyncio.StreamReader, quiet_s: float) -> tuple[bytes, bool]:
    """Until the connection ends, or nothing more is said."""
    answer = b""
    try:
        while True:
            async with asyncio.timeout(quiet_s):
                piece = await reader.read(2**16)
            if not piece:
                return answer, True
            answer += piece
    except ConnectionError:
        return answer, True
    except TimeoutError:
        return answer, False


def user_of(client: int, number: int) -> str:
    """A client's user for a case: a few cases each, since a case makes some calls and every user has credits for a
    hundred.
    """
    return f"client-{client}-{number // CLIENTS // 10}"


def credential(user: str) -> bytes:
    return b"Authorization: Bearer " + token(user).encode()


@asynccontextmanager
async def running_field(database: Path, folder: Path) -> AsyncIterator[Field]:
    """On a copy of a migrated database, in `folder`."""
    async with AsyncExitStack() as stack:
        recorders, answerers = [Recorder() for _ in range(CLIENTS)], [Answerer() for _ in range(CLIENTS)]
        backends: list[Recorder | Answerer] = [*recorders, *answerers]
        for backend in backends:
            await backend.start()
            stack.push_async_callback(backend.stop)
        named = {f"w{at}": backend.url for at, backend in enumerate(recorders)}
        named |= {f"a{at}": backend.url for at, backend in enumerate(answerers)}
        text = _COMMON + "upstreams:\n" + "".join(_UPSTREAM.format(name=name, url=url) for name, url in named.items())
        (folder / "farebox.yaml").write_text(text + "routes:" + "".join(_ROUTES.format(name=name) for name in named))
        shutil.copyfile(database, folder / "farebox.db")
        settings = load_settings(folder / "farebox.yaml", {})
        async with open_store(settings.database_url, utc_now) as store:
            await store.database.write(stock)
        serving = await stack.enter_async_context(farebox(settings, listen(Address("127.0.0.1", 0)), None))
        yield Field(serving.services, serving.public, recorders, answerers)

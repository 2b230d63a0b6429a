"""Threat A03: every secret is sent by every wrong way, to a Farebox that tells as much as it can, and none is told."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import Connection, text

from config.clock import utc_now
from config.log import set_up_log
from config.settings import Log
from store.engine import Database
from store.opening import open_store
from tests import canaries
from tests.flows.house import search_rows, token
from tests.flows.raw import RawBackend, RawClient, closing, request
from tests.flows.wire.wire import SETTINGS, order, stock

CONFIG = """
listen: 127.0.0.1:0
admin: {listen: 127.0.0.1:0, token: "${ADMIN_TOKEN}"}
log: {level: debug, format: json}
limits: {body_timeout: 1s, header: 8KiB}
callbacks: {url: "http://farebox", secret: "${CALLBACK_SECRET}"}
decisions: {users: plain, file: decisions.jsonl}
identity:
  jwt: [{name: app, algorithms: [HS256], secret: "${JWT_SECRET}", user: userId, email: email}]
  trusted_header: {name: X-User-Id, peers: [127.0.0.0/8], secret: "${PROXY_SECRET}", email: X-User-Email}
  cookie: {name: session}
  failures: {limit: 100000, per: 1s}
"""
ENVIRONMENT = {
    "ADMIN_TOKEN": canaries.ADMIN_TOKEN,
    "JWT_SECRET": canaries.JWT_SECRET,
    "CALLBACK_SECRET": canaries.CALLBACK_SECRET,
    "PROXY_SECRET": canaries.PROXY_SECRET,
    "BACKEND_KEY": canaries.BACKEND_KEY,
}
SECRETS = {
    "token": token("ann"),
    "API key": "fbx_" + "0123456789abcdefghij" * 2,
    "admin token": canaries.ADMIN_TOKEN,
    "all others": "-".join(
        (canaries.PROXY_SECRET, canaries.COOKIE, canaries.email("ann"), canaries.BODY, canaries.QUERY)
    ),
}
"""What has a form that something might look for, and what has none."""
PATIENCE_S = 60


def wrong_ways(secret: str) -> Iterator[bytes]:
    """Requests that are malformed or refused, each with the secret where one might stand."""
    for line in (
        f"GET /{secret}",
        f"GET /open/{secret}%zz",
        f"GET /open/x?token={secret}#",
        f"GET /open/../{secret}",
        f"GET /none?key={secret}",
        f"GET http://h/{secret}",
        f"{secret} /open/x",
        f"BREW /{secret}",
        f"TRACE /open/{secret}",
        f"GET / {secret} HTTP/1.1",
        f"GET /mine/{secret} HTTP/9.9",
    ):
        yield request(line)
    for header in (
        f"Authorization Bearer {secret}",
        f"Authorization : Bearer {secret}",
        f"Authorization: Bearer {secret}\0",
        f"Authorization: Bearer {secret}\udcff",
        f"Authorization: Bearer a\r\n {secret}",
        f"Authorization: Basic {secret}",
        f"Authorization: {secret}",
        f"Authorization: Bearer {secret}x",
        f"Authorization: Bearer {secret}x\r\nX-Api-Key: {secret}x",
        f"X-Api-Key: {secret}x",
        f"Cookie: session={secret}x; a={secret}",
        f"X-User-Id: {secret}\r\nX-Proxy-Secret: {secret}x",
        f"X_User_Id: {secret}",
        f"Host: {secret}@",
        f"Content-Length: {secret}",
        f"Transfer-Encoding: {secret}",
        f"Expect: {secret}",
        f"Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Key: {secret}",
        f"X-Long: {secret * 300}",
        f"{secret}: x",
        f"{secret}",
    ):
        yield request("POST /flat", header)
        yield request("GET /admin/accounts/list", header)
    bearer = f"Authorization: Bearer {token('ann')}"
    quoted = json.dumps(secret)
    for body in (
        f'{{"model": {quoted}',
        f'{{"model": [{quoted}]}}',
        f'{{"model": "cheap", {quoted}: 1, {quoted}: 2}}',
        f'{{"model": "cheap", "max_tokens": {quoted}}}',
        f'{{"model": "cheap"}} {secret}',
    ):
        yield request("POST /buy", bearer, "Content-Type: application/json", body=body.encode())
    yield request("POST /buy", bearer, f"Content-Type: {secret}", body=order())
    yield request("POST /buy", bearer, f"Content-Encoding: {secret}", body=order())
    yield request("POST /buy", bearer, "Transfer-Encoding: chunked", body=f"{secret}\r\n".encode())
    yield request("POST /buy", bearer, f"Idempotency-Key: {secret} x", body=order())
    yield request("POST /flat", bearer, f"Idempotency-Key: {secret}", f"Content-Type: {secret}\udcff", body=b"x")
    yield request("POST /paid-down", bearer, f"X-Key: {secret}", body=secret.encode())
    yield request(f"POST /callbacks/start/{secret}", f"Authorization: Bearer {secret}x", body=secret.encode())
    for path in (f"/admin/credits/grant?account={secret}", f"/admin/{secret}", "/admin/credits/grant"):
        body = json.dumps({"credits": secret, "reason": secret}).encode()
        yield request(f"POST {path}", f"Authorization: Bearer {canaries.ADMIN_TOKEN}", body=body)


@dataclass
class Node:
    """A process that serves, and where."""

    public: tuple[str, int]
    admin: tuple[str, int]
    folder: Path

    async def ask(self, data: bytes) -> tuple[int, bytes]:
        """The status of the answer to these bytes, and all of it. What asks for `/admin` goes there."""
        client = await RawClient.connect(*(self.admin if b" /admin" in data[:20] else self.public))
        await client.send(data)
        answer = await client.answer()
        await client.close()
        return answer.status, answer.first + repr(answer.headers).encode() + answer.body


@pytest.fixture
async def backend() -> AsyncIterator[RawBackend]:
    result = RawBackend()
    await result.start()
    yield result
    await result.stop()


@asynccontextmanager
async def running(database: Path, folder: Path, backend: RawBackend) -> AsyncIterator[Node]:
    """`farebox serve` as its developers would run it: with every line of the log and Python's own warnings."""
    shutil.copyfile(database, folder / "farebox.db")
    lines = [line for line in SETTINGS.strip().split("\n") if not line.startswith(("identity:", "limits:"))]
    (folder / "farebox.yaml").write_text(CONFIG + "\n".join(lines))
    async with open_store(f"sqlite+aiosqlite:///{folder}/farebox.db", utc_now) as store:
        await store.database.write(stock)
    command = [sys.executable, "-X", "dev", "-m", "proxy.cli", "serve", "--no-jobs", "--json"]
    environment = {**os.environ, **ENVIRONMENT, "BACKEND_URL": backend.url}
    with (folder / "stderr").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *command, "--config", str(folder / "farebox.yaml"), stdout=PIPE, stderr=errors, env=environment
        )
    try:
        async with asyncio.timeout(PATIENCE_S):
            assert process.stdout is not None
            told = json.loads(await process.stdout.readline())
            yield Node(_address(told["listen"]), _address(told["admin"]), folder)
            process.terminate()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        output, _ = await process.communicate()
        canaries.search("standard output", output)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


async def test_no_secret_is_told(migrated_file: Path, tmp_path: Path, backend: RawBackend) -> None:
    """Not in an answer, the log, a metric, a decision or an entry of the audit log; and nothing is a fault."""
    async with running(migrated_file, tmp_path, backend) as node:
        for name, secret in SECRETS.items():
            for data in wrong_ways(secret):
                status, answer = await node.ask(data)
                canaries.search(f"an answer to {name} in {data[:300]!r}", answer)
                assert 400 <= status < 500 or status == 502, (status, data[:300])
        await _through_the_backend(node, backend)
        operator = f"Authorization: Bearer {canaries.ADMIN_TOKEN}"
        for path in ("/admin/audit/list", "/admin/holds/list", "/admin/policy/show", "/admin/nothing"):
            canaries.search(path, (await node.ask(request(f"GET {path}", operator)))[1])
        async with aiohttp.ClientSession() as client, client.get("http://{}:{}/metrics".format(*node.admin)) as page:
            canaries.search("the page of metrics", await page.read())
    canaries.search("the log", (tmp_path / "stderr").read_text("utf-8"))
    canaries.search("the file of decisions", (tmp_path / "decisions.jsonl").read_text("utf-8"))
    async with open_store(f"sqlite+aiosqlite:///{tmp_path}/farebox.db", utc_now) as store:
        await search_rows(store.database)


async def _through_the_backend(node: Node, backend: RawBackend) -> None:
    """Good requests full of secrets, which a backend answers badly."""
    for answer in (b"", b"HTTP/1.1 200 OK\r\n%s\r\n\r\n", b"%s", b"HTTP/1.1 200 OK\r\nX: %s\0\r\n\r\n"):
        said = canaries.BACKEND_KEY.encode()
        backend.script = closing(answer.replace(b"%s", said))
        headers = (f"Authorization: Bearer {token('ann')}", f"X-Note: {canaries.BODY}")
        asked = request(f"POST /buy?q={canaries.QUERY}", *headers, body=order(note=canaries.BODY))
        status, came = await node.ask(asked)
        assert status == 502
        canaries.search("an answer", came)


# What is written where something goes wrong within.


async def test_a_fault_of_the_database_tells_no_values(database_url: str) -> None:
    """A statement that fails is named, with its trace, and not the values that it was given."""
    database = Database(database_url, utc_now)

    def fail(connection: Connection) -> None:
        connection.execute(text("INSERT INTO no_such_table VALUES (:secret)"), {"secret": canaries.BODY})

    for run in (database.read, database.write):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - which one depends on the database
            await run(fail)
        shown = logging.Formatter().formatException((caught.type, caught.value, caught.tb))
        assert "no_such_table" in shown
        canaries.search("a trace", shown)
    await database.close()


def test_libraries_say_nothing_at_debug_that_holds_values(capsys: pytest.CaptureFixture[str]) -> None:
    """Their statements and packets may have anything in them; only warnings come through."""
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        set_up_log(Log(level="debug"))
        for name in ("aiosqlite", "sqlalchemy.engine", "alembic", "casbin"):
            assert not logging.getLogger(name).isEnabledFor(logging.INFO), name
    finally:
        logging.getLogger().handlers[:], level = before
        logging.getLogger().setLevel(level)


# That it would be seen.


@pytest.mark.parametrize("told", [canaries.JWT_SECRET, token("ann"), "fbx_" + "a1" * 12, canaries.email("ann")])
def test_a_canary_is_found(told: str) -> None:
    """In a text, in what pytest has captured, and in bytes."""
    assert canaries.told_in([("Captured log call", f"before {told} after")])
    with pytest.raises(AssertionError, match="tells a secret"):
        canaries.search("a page", f"before {told} after".encode())


def test_names_of_secrets_are_no_secrets() -> None:
    """What is said about them may be said."""
    assert not canaries.told_in([("stderr", "JWT_SECRET is not set; fbx_… is no key; eyJ.eyJ is no token")])

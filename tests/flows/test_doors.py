"""Between the doors: nothing of the admin listener is behind the public one, and no secret comes out of either."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from tests.canaries import ADMIN_TOKEN
from tests.flows.house import SECRET, House
from tests.flows.raw import RawClient, request

ADMIN = ADMIN_TOKEN
BEARER = f"Authorization: Bearer {ADMIN}"
ADMINS = (b'"operations"', b'"next"', b'"alive"', b'"ready"', b"farebox_requests_total", b'"policy_revision"')
"""What only answers of the admin listener have in them."""

TARGETS = [
    "/admin", "/admin/", "/admin/accounts/list", "//admin/accounts/list", "/..;/admin/accounts/list",
    "/api/..;/admin/accounts/list", "/api/../admin/accounts/list", "/api/%2e%2e/admin/accounts/list",
    "/api/..%2fadmin/accounts/list", "/%61dmin/accounts/list", "/./admin/accounts/list", "/admin;x=1/accounts/list",
    "/api/admin/accounts/list", "/livez", "/readyz", "/metrics", "http://{admin}/admin/accounts/list",
    "http://{admin}/livez", "http://localhost:8081/metrics",
]  # fmt: skip


async def test_a01_the_admin_api_is_behind_no_path_of_the_proxy(house: House) -> None:
    """Whatever the target is spelled like, whatever `Host` and its relatives say, and also with the right token."""
    address = house.admin_url.removeprefix("http://")
    host, _, port = house.url.removeprefix("http://").rpartition(":")
    for target in TARGETS:
        for headers in (
            (),
            (f"Host: {address}",),
            (f"X-Forwarded-Host: {address}", "X-Forwarded-Port: 8081"),
            ("X-Original-URL: /admin/accounts/list", "X-Rewrite-URL: /admin/accounts/list"),
            ("X-HTTP-Method-Override: GET", f"Forwarded: host={address}"),
        ):
            client = await RawClient.connect(host, int(port))
            await client.send(request(f"GET {target.format(admin=address)}", BEARER, *headers))
            answer = await client.answer()
            assert not any(mark in answer.body for mark in ADMINS), (target, headers, answer.body)
            await client.close()
    log = json.loads((await _ask(house, "GET", "/admin/audit/list")).partition("\n")[2])
    assert not [row for row in log["entries"] if row["actor"] == "admin"]


async def test_a01_nothing_of_the_proxy_is_behind_the_admin_listener(house: House) -> None:
    """Neither the management API nor a backend; and a caller's token opens nothing there."""
    for path in ("/api/credits/balance", "/v1/models", "/health", "/"):
        for headers in (house.headers("ana"), {"Authorization": f"Bearer {ADMIN}"}):
            async with house.client.get(house.admin_url + path, headers=headers) as answer:
                assert answer.status == (404 if ADMIN in headers["Authorization"] else 401)
    assert house.backend.requests == []


async def _ask(house: House, method: str, path: str, **given: Any) -> str:
    """The answer of the admin API, whatever it is, with its headers."""
    options = {"json": given} if method == "POST" else {"params": given}
    async with house.client.request(
        method, house.admin_url + path, headers={"Authorization": f"Bearer {ADMIN}"}, **options
    ) as answer:
        return f"{answer.headers}\n{await answer.text()}"


async def test_a03_a_key_is_shown_once(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """By the answer that makes it: by no list, no audit log, no decision, no error, no metric, no line of the log."""
    caplog.set_level(logging.DEBUG)
    await house.call("GET", "/api/credits/balance", "ana")
    made = json.loads((await _ask(house, "POST", "/admin/keys/create", user="ana")).partition("\n")[2])
    rotated = json.loads((await _ask(house, "POST", "/admin/keys/rotate", id=made["id"])).partition("\n")[2])
    keys = [made["key"], rotated["key"]]
    secrets = [*keys, *(key.removeprefix(made["id"]) for key in keys[:1]), ADMIN, SECRET]
    for key in keys:
        status, _, _ = await house.call("GET", "/v1/models", headers={"X-Api-Key": key})
        assert status == 200
        chat = {"model": "gpt-4o-mini", "messages": []}
        await house.call("POST", "/v1/chat/completions", headers={"X-Api-Key": key}, json=chat)
    shown = [
        await _ask(house, "GET", path)
        for path in ("/admin/keys/list", "/admin/audit/list", "/admin/decisions/tail", "/admin/accounts/list",
                     "/admin/usage/list", "/admin/policy/history", "/admin", "/metrics", "/readyz", "/livez")
    ]  # fmt: skip
    shown.append(await _ask(house, "GET", "/admin/accounts/show", account="ana"))
    async with house.client.get(f"{house.admin_url}/admin", headers={"Authorization": f"Bearer {ADMIN}x"}) as refused:
        shown.append(f"{refused.headers}\n{await refused.text()}")
    shown += [record.getMessage() for record in caplog.records]
    shown += [repr(house.services.settings), repr(house.services), str(house.services.settings.values)]
    for secret in secrets:
        assert not [text for text in shown if secret in text], secret


@pytest.mark.parametrize(
    "bad",
    [
        f"GET /admin HTTP/1.1\r\nHost: a\r\n{BEARER}\0\r\n\r\n",
        f"GET /admin HTTP/1.1\r\nHost: a\r\nAuthorization : Bearer {ADMIN}\r\n\r\n",
        f"GET /{ADMIN} HTTP/9.1\r\nHost: a\r\n\r\n",
        f"GET /admin HTTP/1.1\r\nHost: a\r\n{BEARER}{'x' * 20_000}\r\n\r\n",
    ],
    ids=["nul", "space", "version", "long"],
)
async def test_a03_what_is_no_request_is_not_repeated(house: House, bad: str, caplog: pytest.LogCaptureFixture) -> None:
    """The bad line may be the one with a token: it is in neither the answer of the admin listener nor the log."""
    caplog.set_level(logging.DEBUG)
    host, _, port = house.admin_url.removeprefix("http://").rpartition(":")
    client = await RawClient.connect(host, int(port))
    await client.send(bad.encode())
    answer = await client.answer()
    assert answer.status in (400, 431)
    assert set(json.loads(answer.body)) >= {"error", "code", "request_id"}
    assert ADMIN.encode() not in answer.body + b"".join(value for _, value in answer.headers)
    assert ADMIN not in caplog.text
    assert not [record for record in caplog.records if record.exc_info]
    await client.close()


async def _elsewhere() -> tuple[asyncio.Server, str, list[str]]:
    """A listener that nobody has configured, and who came there."""
    visits: list[str] = []

    def visited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(str(writer.get_extra_info("peername")))
        writer.close()

    server = await asyncio.start_server(visited, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    return server, f"{host}:{port}", visits


async def test_a04_where_requests_go_is_for_the_settings_to_say(house: House) -> None:
    """No target, `Host` or header of a client makes Farebox connect to anything else."""
    server, elsewhere, visits = await _elsewhere()
    host, _, port = house.url.removeprefix("http://").rpartition(":")
    bearer = f"Authorization: {house.headers('ana')['Authorization']}"
    said = (
        f"Host: {elsewhere}",
        f"X-Forwarded-Host: {elsewhere}",
        f"X-Original-URL: http://{elsewhere}/",
        f"X-Farebox-Callback: http://{elsewhere}/",
        f"Forwarded: for=1.2.3.4;host={elsewhere};proto=http",
        f"X-Farebox-Upstream: http://{elsewhere}",
        f"Referer: http://{elsewhere}/",
    )
    for line in ("GET /health", f"GET http://{elsewhere}/health", "GET /v1/models"):
        for header in said:
            client = await RawClient.connect(host, int(port))
            await client.send(request(line, bearer, header))
            await client.answer()
            await client.close()
    assert visits == []
    server.close()
    await server.wait_closed()

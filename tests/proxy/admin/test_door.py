"""The door of the admin API."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from pytest_aiohttp import AiohttpClient

from proxy.admin.app import build_admin
from proxy.errors import PROTECTING
from proxy.metrics import Metrics
from proxy.operations.table import OPERATIONS
from tests.proxy.admin.conftest import OLGA, OTTO, TOKEN, VERA, Admin

CLOSED = ["/admin", "/admin/accounts/list", "/admin/policy", "/admin/nothing", "/nothing", "/", "/ADMIN", "/admin/"]


@pytest.mark.parametrize("path", CLOSED)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
async def test_without_the_token_nothing_is_answered(admin: Admin, method: str, path: str) -> None:
    """Whatever exists and whatever does not: 401 alike, so that nothing can be found out by asking."""
    async with admin.client.request(method, path) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert (await answer.json())["code"] == "unauthorized"


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: f"{operation.noun}-{operation.verb}")
async def test_no_verb_is_done_without_the_token(admin: Admin, operation: object) -> None:
    """Every single one of the table."""
    from proxy.operations.operation import Operation

    assert isinstance(operation, Operation)
    method = "POST" if operation.changes else "GET"
    async with admin.client.request(method, f"/admin/{operation.noun}/{operation.verb}") as answer:
        assert answer.status == 401


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN}, Bearer {TOKEN}",
        "Bearer \N{LATIN SMALL LETTER E WITH ACUTE}",
    ],
)
async def test_only_the_exact_token_opens(admin: Admin, authorization: str) -> None:
    """A prefix, a suffix, another scheme, two at once, or characters that no token has."""
    async with admin.client.get("/admin", headers={"Authorization": authorization}) as answer:
        assert answer.status == 401


async def test_two_credentials_do_not_open(admin: Admin) -> None:
    """Not even when one of them is right."""
    headers = [("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer wrong")]
    async with admin.client.get("/admin", headers=headers) as answer:
        assert answer.status == 401


async def test_without_a_configured_token_the_api_is_closed(admin: Admin, aiohttp_client: AiohttpClient) -> None:
    """403 with how to open it, whatever is sent; the probes answer."""
    settings = admin.services.settings
    closed = settings.values.admin.model_copy(update={"token": None, "operators": []})
    values = settings.values.model_copy(update={"admin": closed})
    services = replace(admin.services, settings=replace(settings, values=values))
    client = await aiohttp_client(build_admin(services, Metrics(CollectorRegistry())))
    for token in ("", "None", TOKEN):
        async with client.get("/admin", headers={"Authorization": f"Bearer {token}"}) as answer:
            assert answer.status == 403
            body = await answer.json()
            assert (body["code"], "admin: {token:" in body["hint"]) == ("forbidden", True)
    async with client.get("/livez") as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8081", "127.0.0.1", "[::1]:8081", "10.1.2.3:8081", "Farebox.Internal"]
)
async def test_addresses_and_known_names_are_answered(admin: Admin, host: str) -> None:
    """Nobody can make an address point elsewhere; names are those of `admin.hosts`."""
    await admin.ask("GET", "/admin", headers={"Host": host})


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8081", "127.0.0.1.evil.example", "localhost.evil.example", "farebox.internal.", "",
     "127.0.0.1@evil.example", "evil.example:80:127.0.0.1", "0x7f.1", "[::1", "localhost:8081@evil.example"],
)  # fmt: skip
async def test_a02_a_name_that_was_made_to_point_here_is_refused(admin: Admin, host: str) -> None:
    """DNS rebinding: a page of that name may read what it is answered, so it is answered nothing, token or not."""
    for path in ("/admin", "/admin/nothing", "/metrics", "/livez"):
        async with admin.client.get(path, headers={"Host": host, "Authorization": f"Bearer {TOKEN}"}) as answer:
            body = await answer.json()
            assert (answer.status, body["code"]) == (403, "forbidden")
            assert "admin.hosts" in body["hint"]


async def test_a02_the_target_of_a_request_is_a_name_as_well(admin: Admin) -> None:
    """RFC 9112 §3.2.2: an absolute target counts instead of `Host`; here both have to be known."""
    reader, writer = await asyncio.open_connection("127.0.0.1", admin.client.port)
    for target, host, status in (
        ("http://evil.example/livez", "localhost", 403),
        ("http://localhost/livez", "evil.example", 403),
        ("http://localhost/livez", "localhost", 200),
    ):
        writer.write(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith(f"HTTP/1.1 {status} "), (target, host, head)
        length = next(line for line in head.splitlines() if line.startswith("Content-Length"))
        await reader.readexactly(int(length.partition(":")[2]))
    writer.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Origin": "http://admin.test"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({}, 200),
    ],
)
async def test_a02_a_page_of_another_site_is_refused(admin: Admin, headers: dict[str, str], status: int) -> None:
    """Also with the right token, and for what needs none; programs that are no browsers say nothing, and may enter."""
    headers = {name: value.replace("admin.test", f"127.0.0.1:{admin.client.port}") for name, value in headers.items()}
    await admin.ask("GET", "/admin", status, headers=headers)
    await admin.ask("POST", "/admin/policy/reload", status, headers=headers)
    await admin.ask("GET", "/livez", status, headers=headers)


async def test_a02_answers_are_data_and_nothing_else(admin: Admin) -> None:
    """Answers, refusals, faults and probes alike: not framed, not run, not guessed at, not kept."""
    for path in ("/admin", "/admin/nothing", "/admin/policy/reload", "/livez", "/metrics"):
        async with admin.client.get(path, headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
            assert dict(PROTECTING).items() <= answer.headers.items(), path
            assert "aiohttp" not in answer.headers["Server"]
    assert dict(PROTECTING)["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"


async def test_who_guesses_tokens_is_slowed_down_and_locks_nobody_out(admin: Admin) -> None:
    """429 for what fails beyond the limit; the right token opens from the same address meanwhile."""
    wrong = {"Authorization": f"Bearer {TOKEN}x"}
    for number in range(8):
        async with admin.client.get("/admin", headers=wrong) as answer:
            assert answer.status == (401 if number < 6 else 429)
            if answer.status == 429:
                assert int(answer.headers["Retry-After"]) > 0
    for token in (TOKEN, VERA, OTTO, OLGA):
        await admin.ask("GET", "/admin", by=token)
    async with admin.client.get("/admin", headers=wrong) as answer:
        assert answer.status == 429
    async with admin.client.get("/admin") as answer:
        assert answer.status == 401


async def test_the_scheme_may_be_spelled_in_any_case(admin: Admin) -> None:
    """RFC 9110 §11.1: schemes are compared without regard to case."""
    async with admin.client.get("/admin", headers={"Authorization": f"bearer {TOKEN}"}) as answer:
        assert answer.status == 200


async def test_answers_are_kept_by_nobody(admin: Admin) -> None:
    """Neither an answer nor a refusal may stay in a cache."""
    for path in ("/admin", "/admin/nothing", "/livez"):
        async with admin.client.get(path, headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
            assert answer.headers["Cache-Control"] == "no-store"


async def test_mistakes_with_the_token_are_told(admin: Admin) -> None:
    """A path that is none, a method that does not fit, a body that is too large: each with its code."""
    assert (await admin.ask("GET", "/admin/nothing", 404))["code"] == "not_found"
    body = await admin.ask("GET", "/admin/credits/grant", 405)
    assert (body["code"], body["hint"]) == ("method_not_allowed", "Use POST.")
    assert (await admin.ask("POST", "/admin/credits/grant", 413, data=b" " * 70_000))["code"] == "request_too_large"

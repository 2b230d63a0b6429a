"""The door of the admin API."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from pytest_aiohttp import AiohttpClient

from proxy.admin.app import build_admin
from proxy.metrics import Metrics
from proxy.operations.table import OPERATIONS
from tests.proxy.admin.conftest import TOKEN, Admin

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
    values = settings.values.model_copy(update={"admin": settings.values.admin.model_copy(update={"token": None})})
    services = replace(admin.services, settings=replace(settings, values=values))
    client = await aiohttp_client(build_admin(services, Metrics(CollectorRegistry())))
    for token in ("", "None", TOKEN):
        async with client.get("/admin", headers={"Authorization": f"Bearer {token}"}) as answer:
            assert answer.status == 403
            body = await answer.json()
            assert (body["code"], "admin: {token:" in body["hint"]) == ("forbidden", True)
    async with client.get("/livez") as answer:
        assert answer.status == 200


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

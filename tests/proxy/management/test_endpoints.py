"""The table of endpoints: what is served, where, and what the settings switch off."""

from __future__ import annotations

import pytest

from config.settings import Management as Settings
from policies.terms import Scope
from proxy.errors import STATUS
from proxy.management.endpoints import all_endpoints, problems_of, served
from proxy.management.openapi import reasons
from tests.proxy.management.conftest import Start
from tests.proxy.management.service import Service

PROMISED = {
    "GET /subscription/plans",
    "GET /subscription/status",
    "POST /subscription/subscribe",
    "POST /subscription/cancel",
    "POST /subscription/resume",
    "POST /subscription/preview-change",
    "POST /subscription/change-plan",
    "GET /subscription/payments",
    "GET /quota/status",
    "GET /quota/history",
    "GET /credits/balance",
    "GET /credits/history",
    "GET /models/usage",
    "GET /models/popular",
    "GET /models/available",
    "GET /apps",
    "GET /apps/{appId}/models",
    "POST /quote",
    "GET /openapi.json",
}

PUBLIC = {"GET /subscription/plans", "GET /subscriptions/plans", "GET /models/popular", "GET /openapi.json"}


def test_every_promised_endpoint_is_in_the_table_once() -> None:
    """The contract's table; further endpoints are sums, and other names from the origin's documents."""
    names = [endpoint.name for endpoint in served(Settings())]
    assert len(names) == len(set(names))
    assert set(names) >= PROMISED
    assert set(names) - PROMISED == {
        "GET /models/usage/summary",
        "GET /subscriptions/plans",
        "GET /subscriptions/current",
        "POST /subscriptions/cancel",
        "GET /quotas/usage",
        "POST /quotas/check",
    }


def test_only_what_is_the_same_for_everyone_is_public() -> None:
    """The price list, the popular models, and the document."""
    assert {endpoint.name for endpoint in served(Settings()) if endpoint.public} == PUBLIC


def test_an_endpoint_has_one_reason_for_each_status() -> None:
    """The document describes refusals by status, so two reasons of one status would hide each other."""
    for endpoint in served(Settings()):
        statuses = [STATUS[reason] for reason in reasons(endpoint)]
        assert len(statuses) == len(set(statuses)), endpoint.name


@pytest.mark.parametrize("name", [endpoint.name for endpoint in all_endpoints() if not endpoint.public])
async def test_without_a_credential_nothing_of_an_account_is_told(service: Service, name: str) -> None:
    """Every endpoint that is not public answers 401 with the origin's sentence and a challenge."""
    method, path = name.replace("{appId}", "video").split()
    answer = await service.ask(method, path, user=None, status=401)
    assert (answer["error"], answer["code"]) == ("Unauthorized - No token provided", "unauthorized")


async def test_other_paths_and_methods_fall_through(service: Service) -> None:
    """What is not exactly an endpoint belongs to the proxy's routes."""
    for method, path in (
        ("POST", "/api/credits/balance"),
        ("DELETE", "/api/subscription/cancel"),
        ("OPTIONS", "/api/quote"),
        ("GET", "/api/credits/balance/"),
        ("GET", "/api/credits"),
        ("GET", "/credits/balance"),
        ("GET", "/api/Credits/balance"),
        ("GET", "/api/apps/video/models/alpha"),
    ):
        async with service.client.request(method, path) as answer:
            assert answer.status == 418, (method, path)


async def test_another_spelling_of_the_same_path_is_the_same_endpoint(service: Service) -> None:
    """Percent encodings that mean the same segments are no way around it."""
    async with service.client.get("/api/%63redits/balance") as answer:
        assert answer.status == 401


async def test_head_is_answered_like_get(service: Service) -> None:
    """The same headers, and no body."""
    async with service.client.head("/api/subscription/plans") as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert await answer.read() == b""


@pytest.mark.parametrize("mount", ["", "/farebox/v1"])
async def test_the_mount_can_be_moved(start: Start, mount: str) -> None:
    """The endpoints move with it, and the document says where they are."""
    async with start(management={"mount": mount}) as service:
        assert (await service.get("/credits/balance"))["balance"] == 100
        assert service.document["servers"] == [{"url": mount or "/"}]
        async with service.client.get("/api/credits/balance") as answer:
            assert answer.status == 418


async def test_endpoints_can_be_switched_off(start: Start) -> None:
    """They fall through to the backend that has its own, and are not in the document; the others stay."""
    async with start(management={"off": ["GET /credits/balance", "GET /apps/{appId}/models"]}) as service:
        for path in ("/api/credits/balance", "/api/apps/video/models"):
            async with service.client.get(path) as answer:
                assert answer.status == 418
        assert "/credits/balance" not in service.document["paths"]
        assert (await service.get("/apps"))["apps"]
        assert (await service.get("/credits/history"))["transactions"]


async def test_the_document_can_be_switched_off(start: Start) -> None:
    """Like every other endpoint."""
    async with start(management={"off": ["GET /openapi.json"]}) as service:
        async with service.client.get("/api/openapi.json") as answer:
            assert answer.status == 418
        async with service.client.get("/api/subscription/plans") as answer:
            assert answer.status == 200


def test_a_mistake_in_what_is_switched_off_is_found() -> None:
    """With what was probably meant; correct entries are no problem."""
    assert problems_of(["GET /credits/balance", "GET /openapi.json", "GET /apps/{appId}/models"]) == []
    problems = problems_of(["GET /credit/balance", "get /apps", "nonsense"])
    assert len(problems) == 3
    assert "did you mean 'GET /credits/balance'?" in problems[0]


def test_what_changes_something_needs_the_scope_to_manage() -> None:
    """Every POST, but for those that only ask; and nothing else."""
    asking = {"/subscription/preview-change", "/quote", "/quotas/check"}
    for endpoint in all_endpoints():
        is_change = endpoint.method == "POST" and endpoint.path not in asking
        assert endpoint.scope is (Scope.MANAGE if is_change else Scope.READ), endpoint.name

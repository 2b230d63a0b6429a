"""The admin listener for tests: on a real socket, over a seeded database and a policy folder that tests may edit."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from prometheus_client import CollectorRegistry
from pytest_aiohttp import AiohttpClient

from config.settings import load_settings
from proxy.admin.app import build_admin
from proxy.identity.identifier import Identifier
from proxy.metrics import Metrics
from proxy.rulebooks import Rulebooks
from proxy.services import Services
from store import catalogue
from store.opening import open_store
from tests import canaries
from tests.proxy.operations.desk import SETTINGS, Clock

TOKEN = canaries.ADMIN_TOKEN
VERA, OTTO, OLGA = (f"what only {name} has {canaries.MARK}" for name in ("Vera", "Otto", "Olga"))
OPERATORS = f"""\
admin:
  listen: 127.0.0.1:0
  token: {TOKEN}
  operators:
    - {{name: vera, role: viewer, token: {VERA}}}
    - {{name: otto, role: operator, token: {OTTO}}}
    - {{name: olga, role: owner, token: {OLGA}}}
  limits: {{credits: 100, credits_per_day: 250, quota: 10, payment: 100000}}
  hosts: [farebox.internal]
  failures: {{limit: 5, per: 1m}}
"""
POLICY = "version: 1\nrules:\n  - {id: ladder, allow: use, who: {tier: at-least-model}}\n"


SETTINGS_HERE = re.sub("admin: .*\n", OPERATORS, SETTINGS)


@dataclass
class Admin:
    """The API with its client, and its insides."""

    client: TestClient[web.Request, web.Application]
    services: Services
    metrics: Metrics
    policy: Path

    async def ask(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        """The JSON of an answer that must have this status, asked with the token, or as who has the token `by`."""
        headers = {"Authorization": f"Bearer {options.pop('by', TOKEN)}", **options.pop("headers", {})}
        async with self.client.request(method, path, headers=headers, **options) as answer:
            assert answer.status == status, await answer.text()
            assert answer.headers["X-Request-Id"]
            return await answer.json()


@pytest.fixture
async def admin(seeded_url: str, tmp_path: Path, aiohttp_client: AiohttpClient) -> AsyncIterator[Admin]:
    (tmp_path / "policies").mkdir()
    policy = tmp_path / "policies" / "main.yaml"
    policy.write_text(POLICY)
    (tmp_path / "farebox.yaml").write_text(SETTINGS_HERE % seeded_url + "policies: policies/\n")
    settings, clock = load_settings(tmp_path / "farebox.yaml", {}), Clock()
    async with open_store(seeded_url, clock) as store:
        for_sale = await store.database.read(catalogue.load)
        rulebooks = Rulebooks(settings.policies_folder, for_sale, clock())
        services = Services(settings, store, rulebooks, Identifier(settings.values, [], store, clock), clock)
        metrics = Metrics(CollectorRegistry())
        client = await aiohttp_client(build_admin(services, metrics))
        yield Admin(client, services, metrics, policy)

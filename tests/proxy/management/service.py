"""A running management API with a small catalogue, and the ways in which tests ask it.

Whatever is asked through `Service`, its answer is validated against the OpenAPI document that the same server gives.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import jwt
from aiohttp import web
from aiohttp.test_utils import RawTestServer, TestClient
from jsonschema import Draft202012Validator

from config.clock import Clock
from config.settings import load_settings
from policies.callers import Caller
from policies.evaluate import Ask, evaluate
from policies.refusals import Refusal
from policies.subscription import Event, Subscription
from policies.subscription_acts import cancel
from policies.terms import AccountId, Credential, OnDeadline, Plan
from proxy.identity.identifier import Identifier
from proxy.identity.jwt import Fixed, Issuer
from proxy.identity.keys import static_keys
from proxy.management.api import Management
from proxy.paths import parse_target
from proxy.rulebooks import Rulebooks
from proxy.services import Services
from store import accounts, catalogue, subscriptions
from store.accounts import User
from store.opening import open_store
from store.users import ensure_user
from store.verbs import Hold, LacksCredits, LacksQuota, Refused, Request, Reserve, Settle, Usage
from tests import canaries

SECRET = canaries.JWT_SECRET
MICRO = 1_000_000
NOW = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)

APPS = {"image": 2, "video": 1, "hidden": 3, "soon": 4}
MODELS: dict[str, dict[str, Any]] = {
    "video:alpha": {"tier": "free", "price_base": 5 * MICRO, "price_rates": {"duration_seconds": "1000000"}},
    "video:beta": {"tier": "basic", "price_base": 10 * MICRO, "price_rates": {"duration_seconds": "2500000"}},
    "video:gamma": {"tier": "pro", "price_base": 20 * MICRO, "quota_cost": 2, "beta": True},
    "image:delta": {"tier": "enterprise", "price_base": 50 * MICRO, "quota_cost": 5},
    "image:dots": {"tier": "free", "price_base": 3 * MICRO, "price_rates": {"pixels": "1"}, "price_step": 1},
    "image:off": {"tier": "free", "price_base": 1 * MICRO, "enabled": False},
    "hidden:only": {"tier": "enterprise", "price_base": 1 * MICRO},
}
PLANS: dict[str, dict[str, Any]] = {
    "free": {"tier": "free", "price": 0, "daily_quota": 10, "monthly_quota": None},
    "basic": {"tier": "basic", "price": 99_000, "daily_quota": 50, "monthly_quota": 60},
    "pro": {"tier": "pro", "price": 299_000, "daily_quota": 100, "monthly_quota": 3000},
    "pro-yearly": {"tier": "pro", "price": 2_870_000, "daily_quota": 100, "monthly_quota": 3000, "cycle": "yearly"},
    "enterprise": {"tier": "enterprise", "price": 999_000, "daily_quota": 500, "monthly_quota": 15_000},
    "jakarta": {"tier": "free", "price": 0, "daily_quota": 10, "monthly_quota": 300, "quota_timezone": "Asia/Jakarta"},
    "saver": {"tier": "free", "price": 0, "daily_quota": 10, "monthly_quota": None, "daily_rollover": 15},
    "retired": {"tier": "basic", "price": 1, "daily_quota": 1, "monthly_quota": None},
}


def furnish(connection: Any, now: datetime) -> None:
    """Put the catalogue above into an empty database."""
    for app_id, order in APPS.items():
        app: dict[str, Any] = {
            "name": app_id.title(),
            "description": "",
            "icon": "film",
            "version": "1.0.0",
            "color": "blue",
        }
        app |= {"route_prefix": f"/api/apps/{app_id}", "beta": False, "coming_soon": False}
        catalogue.put_app(connection, app_id, app | {"position": order, "enabled": app_id != "hidden"})
    for key, values in MODELS.items():
        model: dict[str, Any] = {
            "app_id": key.partition(":")[0],
            "name": f"Model {key}",
            "description": "",
            "provider": "local",
        }
        model |= {"enabled": True, "beta": False, "price_rates": {}, "price_step": MICRO, "quota_cost": 1}
        catalogue.put_model(connection, key, model | {"capabilities": {"maxDuration": 6}} | values)
    for position, (plan_id, values) in enumerate(PLANS.items()):
        # Put on sale in the opposite order, so that the display order is not the order of arrival by accident.
        catalogue.put_plan(connection, plan_id, _terms(plan_id, values), 100 - position, plan_id != "retired", now)
    catalogue.changed(connection)


def _terms(plan_id: str, values: Mapping[str, Any]) -> dict[str, Any]:
    terms = {"name": plan_id.title(), "description": "", "currency": "IDR", "cycle": "monthly"}
    return terms | {"max_model_tier": values["tier"], "features": {"emailSupport": True}} | values


class MovableClock:
    """A clock that stands until a test moves it."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **time: float) -> None:
        self.now += timedelta(**time)


class Service:
    """The API on a real socket, and its insides."""

    def __init__(self, services: Services, client: TestClient[Any, Any]) -> None:
        self.services = services
        self.client = client
        self.mount = services.settings.values.management.mount
        self.document: dict[str, Any] = {}

    # Asking.

    async def get(self, path: str, user: str | None = "ana", status: int = 200) -> Any:
        return await self.ask("GET", path, user=user, status=status)

    async def post(self, path: str, body: object = None, user: str | None = "ana", status: int = 200) -> Any:
        raw = b"" if body is None else json.dumps(body).encode()
        return await self.ask("POST", path, user=user, status=status, raw=raw)

    async def pages(self, path: str, rows: str, limit: int) -> AsyncIterator[list[Any]]:
        """The rows of every page, following nextCursor to the end."""
        page = await self.get(f"{path}?limit={limit}")
        yield page[rows]
        while page["nextCursor"] is not None:
            page = await self.get(f"{path}?limit={limit}&cursor={page['nextCursor']}")
            yield page[rows]

    async def ask(
        self,
        method: str,
        path: str,
        *,
        user: str | None = "ana",
        status: int,
        raw: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The answer of an endpoint, `path` being below the mount, insisting on a status and on the document."""
        sent = dict(headers or {})
        if user is not None:
            sent["Authorization"] = f"Bearer {token(user)}"
        async with self.client.request(method, self.mount + path, data=raw, headers=sent) as answer:
            text = await answer.text()
            assert answer.status == status, text
            assert answer.content_type == "application/json"
            content = json.loads(text)
            validate(self.document, method, path.partition("?")[0], status, content, answer.headers)
            return content

    # Acting behind its back, as the gate, an operator or a second process would.

    def now(self) -> datetime:
        return self.services.now()

    async def user(self, user_id: str = "ana") -> User:
        """The user, with the welcome credits if they are new."""
        return (await ensure_user(self.services.store, user_id, None, 100 * MICRO))[0]

    async def caller(self, user_id: str = "ana") -> Caller:
        user = await self.user(user_id)
        return Caller(user.user_id, user.account, Credential.JWT)

    async def subscribed(self, plan_id: str, user_id: str = "ana") -> Subscription:
        """A paid subscription of the user, made by an operator."""
        account_id = (await self.user(user_id)).account.account_id
        plan = self.plan(plan_id)
        write, grace = self.services.store.database.write, timedelta(days=7)
        row = await write(subscriptions.subscribe, account_id, plan, grace, "operator", self.now())
        return await self.paid(account_id) if row.amount_due else row

    async def paid(self, account_id: AccountId) -> Subscription:
        """An operator confirms what is due."""
        key = f"invoice-{self.services.store.ids.next()}"
        arguments = (account_id, key, None, "operator", self.now())
        return (await self.services.store.database.write(subscriptions.confirm, *arguments)).row

    def plan(self, plan_id: str) -> Plan:
        plan = self.services.rulebooks.current.catalogue.plan(plan_id)
        assert plan is not None
        return plan

    async def reserve(
        self, model_key: str, user_id: str = "ana", **units: int
    ) -> Hold | LacksCredits | LacksQuota | Refused | Refusal:
        """What the gate would do with a request: decide, then take."""
        caller, numbers = await self.caller(user_id), {name: Decimal(number) for name, number in units.items()}
        allow = evaluate(caller, Ask(model_key, numbers), self.services.rulebooks.current, self.now())
        if isinstance(allow, Refusal):
            return allow
        verb = Reserve(
            hold_id=self.services.store.ids.next(),
            account_id=allow.account.account_id,
            revision=allow.account.revision,
            fundings=allow.quote.fundings,
            credits=allow.quote.credits,
            quota=allow.quote.quota,
            quota_terms=allow.account.quota_terms,
            request=Request(user_id, None, model_key, "generate", "route", allow.revision, allow.rule, 1, {}),
            lasts=timedelta(hours=1),
            on_deadline=OnDeadline.RELEASE,
        )
        return await self.services.store.ledger.reserve(verb)

    async def use(self, model_key: str, user_id: str = "ana", **units: int) -> Hold:
        """A request that ended well and was charged its quote."""
        hold = await self.reserve(model_key, user_id, **units)
        assert isinstance(hold, Hold), hold
        usage = Usage({name: str(number) for name, number in units.items()}, upstream_status=200, latency_ms=5)
        await self.services.store.ledger.settle(Settle(hold.hold_id, hold.account_id, None, usage, "measured"))
        return hold

    async def canceled(self, user_id: str = "ana") -> None:
        """The end of the user's subscription, now."""
        account_id = (await self.user(user_id)).account.account_id
        now = self.now()

        def ended(row: Subscription) -> tuple[Subscription, Event]:
            return cancel(row, now, True, None)

        await self.services.store.database.write(subscriptions.change, account_id, ended, "operator", now)

    async def disable(self, model_key: str) -> None:
        """Switch a model off, and put the changed catalogue in force."""
        database = self.services.store.database
        await database.write(catalogue.put_model, model_key, {"enabled": False})
        await database.write(catalogue.changed)
        self.services.rulebooks.reload(await database.read(catalogue.load), self.now())

    async def edit_plan(self, plan_id: str, terms: Mapping[str, Any]) -> None:
        """Put another version of a plan on sale, in force at once."""
        database, values = self.services.store.database, _terms(plan_id, PLANS[plan_id]) | terms
        await database.write(catalogue.put_plan, plan_id, values, 1, True, self.now())
        await database.write(catalogue.changed)
        self.services.rulebooks.reload(await database.read(catalogue.load), self.now())

    async def offer_trial(self, plan_id: str, days: int) -> None:
        await self.edit_plan(plan_id, {"trial_days": days})

    async def freeze(self, user_id: str = "ana") -> None:
        account_id = (await self.user(user_id)).account.account_id
        await self.services.store.database.write(accounts.set_frozen, account_id, self.now())


def token(user_id: str) -> str:
    return jwt.encode({"sub": user_id}, SECRET, "HS256")


@asynccontextmanager
async def running(
    folder: Path,
    database_url: str,
    clock: Clock,
    *,
    policy: str | None = None,
    management: Mapping[str, object] | None = None,
    payment: str = "operator",
    unused_time: str = "forfeit",
    cookie: str | None = None,
) -> AsyncIterator[Service]:
    """The API over a database that is migrated and otherwise empty."""
    settings = {
        "database": database_url,
        "identity": {
            "jwt": [{"name": "app", "algorithms": ["HS256"], "secret": SECRET}],
            **({"cookie": {"name": cookie}} if cookie is not None else {}),
        },
        "upstreams": {"app": {"url": "http://127.0.0.1:9"}},
        "routes": [{"id": "site", "match": "GET /**", "upstream": "app", "access": "open"}],
        "management": dict(management or {}),
        "subscriptions": {"payment": payment, "unused_time": unused_time},
        "limits": {"body_timeout": "300ms"},
    }
    (folder / "farebox.yaml").write_text(json.dumps(settings))
    policies: Path | None = None
    if policy is not None:
        policies = folder / "policies"
        policies.mkdir()
        (policies / "main.yaml").write_text(policy)
    loaded = load_settings(folder / "farebox.yaml", {})
    async with open_store(database_url, clock, migrate_embedded=False) as store:
        await store.database.write(furnish, clock())
        issuers = [Issuer(issuer, Fixed(static_keys(issuer, folder))) for issuer in loaded.values.identity.jwt]
        rulebooks = Rulebooks(policies, await store.database.read(catalogue.load), clock())
        services = Services(loaded, store, rulebooks, Identifier(loaded.values, issuers, store, clock), clock)
        server = RawTestServer(_handler(Management(services)))
        # As the proxy's listener does, which passes compressed bodies on as they are.
        await server.start_server(auto_decompress=False)
        client: TestClient[Any, Any] = TestClient(server)
        async with client:
            service = Service(services, client)
            async with client.get(f"{service.mount}/openapi.json") as answer:
                service.document = await answer.json() if answer.status == 200 else {}
            yield service


def _handler(management: Management) -> Any:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        target = parse_target(request.raw_path)
        assert not isinstance(target, Refusal), "tests send paths that can be read"
        found = management.find(request.method, target)
        if found is None:
            return web.Response(status=418, text="falls through to the routes")
        answer = await management.serve(found, request, target, "0123456789ABC")
        return web.Response(status=answer.status, headers=list(answer.headers), body=answer.body)

    return handle


# The document as judge.


def validate(
    document: dict[str, Any], method: str, path: str, status: int, content: object, headers: Mapping[str, str]
) -> None:
    """Raises when an answer is not what the document says of it."""
    described = resolve(document, operation(document, method, path)["responses"][str(status)])
    schema = described["content"]["application/json"]["schema"]
    checker = Draft202012Validator(schema | {"components": document["components"]})
    checker.validate(content)
    for name in described["headers"]:
        assert name in headers or name == "X-Request-Id", f"{name} is missing"


def operation(document: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    """The operation of a path, exact ones first."""
    for template in sorted(document["paths"], key=lambda template: "{" in template):
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", re.escape(template).replace(r"\{", "{").replace(r"\}", "}")), path):
            return dict(document["paths"][template][method.lower()])
    raise AssertionError(f"{method} {path} is not in the document")


def resolve(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """The node, or what it refers to."""
    while "$ref" in node:
        node = look_up(document, node["$ref"])
    return node


def look_up(document: Any, reference: str) -> Any:
    """The target of a reference inside the document; KeyError when there is none."""
    assert reference.startswith("#/"), reference
    for part in reference[2:].split("/"):
        document = document[part]
    return document

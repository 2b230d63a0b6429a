"""What is for sale under chaos, and what it must cost: written from the promises, not from the code.

Read by every other file here. Funds are small and deadlines short, so that everybody runs out of funds and every hold
that a killed process leaves behind is resolved while the run still watches.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from policies.terms import Cycle
from store import catalogue
from tests.chaos.processes import free_ports
from tests.flows.house import SECRET

MICRO = 1_000_000
"""Micro-credits of a credit."""

WELCOME = 2 * MICRO
"""Of each new account: twenty cheap calls, and nobody is content with twenty."""

DAILY = 20
"""Quota units of a subscriber's day. Every call takes one; what is over is paid with credits."""

BASE, TOKEN = 100_000, 10_000
"""A call costs the base, or what its tokens cost if that is more."""

JOB = 200_000
"""What a job costs, however it is done."""

DEADLINE_S = 4
"""Of a request, and of a job from its acceptance: longer than any answer here takes on a machine that is busy."""

PLAN = "plenty"


def price(tokens: int) -> int:
    """Micro-credits of a call that uses `tokens`."""
    return max(BASE, TOKEN * tokens)


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a node listens, and the backend behind all of them."""

    public: int
    admin: int
    backend: int

    @classmethod
    def free(cls, nodes: int) -> list[Ports]:
        """Ports that nobody listens on, for so many nodes before one backend."""
        backend, *others = free_ports(2 * nodes + 1)
        return [cls(public, admin, backend) for public, admin in zip(others[::2], others[1::2], strict=True)]


_SETTINGS = """
listen: 127.0.0.1:{ports.public}
admin: {{listen: "127.0.0.1:{ports.admin}", token: "{secret}"}}
database: "{database}"
policies: policies/
log: {{level: warning}}
identity: {{jwt: [{{name: app, algorithms: [HS256], secret: "{secret}", user: userId}}]}}
accounts: {{welcome_credits: {welcome}}}
limits: {{request_deadline: {deadline}s, body_timeout: 2s}}
upstreams:
  shop:
    url: "http://127.0.0.1:{ports.backend}"
    connect_timeout: {patience}ms
    response_timeout: {patience}ms
    idle_timeout: {patience}ms
routes:
  - {{id: open, match: GET /open, upstream: shop, access: open}}
  - {{id: dear, match: POST /dear, upstream: shop, app: shop, model: {{const: dear}}}}
  - id: buy
    match: POST /buy
    upstream: shop
    app: shop
    model: {{const: call}}
    units: {{tokens: {{json: /max_tokens, min: 1, max: 1000}}}}
    usage: {{tokens: {{json: /usage/tokens}}}}
  - id: buy-strictly
    match: POST /buy-strictly
    upstream: shop
    app: shop
    model: {{const: call}}
    units: {{tokens: {{json: /max_tokens, min: 1, max: 1000}}}}
    usage: {{tokens: {{json: /usage/tokens}}}}
    on_abort: quote
    on_crash: quote
  - id: start
    match: POST /start
    upstream: shop
    app: shop
    model: {{const: job}}
    job: {{id: {{json: /id}}, deadline: {deadline}s}}
  - id: start-strictly
    match: POST /start-strictly
    upstream: shop
    app: shop
    model: {{const: job}}
    job: {{id: {{json: /id}}, deadline: {deadline}s, on_deadline: quote}}
    on_crash: quote
  - id: job
    match: "GET /jobs/{{id}}"
    upstream: shop
    access: account
    poll:
      of: [start, start-strictly]
      id: {{path: id}}
      status: {{json: /status}}
      completed: done
      failed: failed
"""

_POLICY = """
version: 1
subscription: {overflow: credits}
rules: [{id: ladder, allow: use, who: {tier: at-least-model}}]
"""


def write_settings(folder: Path, database: str, ports: Ports, deadline_s: int = DEADLINE_S) -> Path:
    """The files of one node, in a folder of its own. Returns its farebox.yaml. Backends are given up before holds."""
    (folder / "policies").mkdir(parents=True)
    (folder / "policies" / "main.yaml").write_text(_POLICY)
    numbers = {"welcome": WELCOME // MICRO, "deadline": deadline_s, "patience": deadline_s * 1000 // 3}
    text = _SETTINGS.format(ports=ports, secret=SECRET, database=database, **numbers)
    (folder / "farebox.yaml").write_text(text)
    return folder / "farebox.yaml"


_APP = {"name": "Shop", "description": "", "icon": "", "version": "1", "route_prefix": "", "enabled": True}
_APP |= {"beta": False, "coming_soon": False, "position": 1, "color": ""}
_MODEL = {"app_id": "shop", "name": "", "description": "", "provider": "", "enabled": True, "beta": False}
_MODEL |= {"capabilities": {}, "price_step": 1, "quota_cost": 1}
_FREE = {"tier": "free", "name": "Plenty", "description": "", "price": 0, "currency": "IDR", "cycle": Cycle.MONTHLY}
_FREE |= {"daily_quota": DAILY, "monthly_quota": None, "max_model_tier": "free", "features": {}}


def stock(connection: Connection, now: datetime) -> None:
    """Everything that is for sale: an app with three models, of which one is beyond everybody, and a free plan."""
    catalogue.put_app(connection, "shop", _APP)
    rates = {"tokens": str(TOKEN)}
    for name, tier, base, rate in (("call", "free", BASE, rates), ("job", "free", JOB, {}), ("dear", "pro", BASE, {})):
        catalogue.put_model(
            connection, f"shop:{name}", {**_MODEL, "tier": tier, "price_base": base, "price_rates": rate}
        )
    catalogue.put_plan(connection, PLAN, _FREE, 1, True, now)
    catalogue.changed(connection)

"""Jobs whose status states what they have used: charged by that, once, whoever sees the end first."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from config.clock import utc_now
from jobs.turns import Turn
from jobs.watch_jobs import watch_jobs
from policies.subscription import GRACE_DEFAULT
from proxy.asking import asking
from store import catalogue, subscriptions
from store.opening import open_store
from tests.conftest import DIALECTS, emptied_postgresql
from tests.flows.raw import Script, answering, json_answer
from tests.flows.wire.wire import CHEAP, MODEL, QUOTE, TOKEN, Wire, running_wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

SETTINGS = """
identity: {jwt: [{name: app, algorithms: [HS256], secret: "${JWT_SECRET}", user: userId}]}
upstreams: {raw: {url: "${BACKEND_URL}"}}
callbacks: {url: "http://farebox", secret: "${JWT_SECRET}"}
routes:
  - id: start
    match: POST /jobs
    upstream: raw
    app: shop
    model: {const: cheap}
    units: {tokens: {const: 20, max: 20}}
    job:
      id: {json: /id}
      deadline: 1h
      watch: {route: job, first: 10ms, longest: 10ms}
      callback: {status: {json: /status}, completed: done, failed: failed, usage: {tokens: {json: /tokens, max: 500}}}
  - id: job
    match: "GET /jobs/{id}"
    upstream: raw
    access: account
    poll:
      of: start
      id: {path: id}
      status: {json: /status}
      completed: done
      failed: failed
      usage: {tokens: {json: /tokens, max: 500}}
  - id: start-listed
    match: POST /listed
    upstream: raw
    app: shop
    model: {const: cheap}
    units: {tokens: {const: 20, max: 20}}
    job: {id: {json: /id}, deadline: 300ms}
    on_late: charge
  - id: listed
    match: GET /listed
    upstream: raw
    access: account
    poll:
      of: start-listed
      items: {json: /jobs}
      id: {json: /id}
      status: {json: /status}
      completed: done
      usage: {tokens: {json: /images, length: true, default: 15}}
"""


@pytest.fixture(scope="module", params=DIALECTS)
def text(request: pytest.FixtureRequest) -> str:
    """The settings, with each of the databases."""
    more = f"database: {emptied_postgresql(request)}\n" if request.param == "postgresql" else ""
    return SETTINGS + more


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_wire(text: str, migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    async with running_wire(migrated_file, tmp_path_factory.mktemp("job-usage"), text) as running:
        yield running
        await running.verify()


def saying(document: Any) -> Script:
    return answering(json_answer(json.dumps(document).encode()))


async def started(wire: Wire, path: str = "/jobs") -> None:
    wire.backend.script = saying({"id": f"j-{wire.number}"})
    answer = await wire.ask(f"POST {path}", user="ann")
    assert answer.values(b"x-farebox-reserved") + answer.values(b"x-farebox-charged") == [b"2"]


async def polled(wire: Wire, tokens: object, status: str = "done") -> None:
    wire.backend.script = saying({"status": status, "tokens": tokens})
    await wire.ask(f"GET /jobs/j-{wire.number}", user="ann")


async def called(wire: Wire, path: str, tokens: object) -> None:
    body = json.dumps({"status": "done", "tokens": tokens}).encode()
    assert (await wire.ask(f"POST {path}", "Content-Type: application/json", body=body)).status == 200


def address(wire: Wire) -> str:
    (value,) = wire.backend.requests[0].values(b"x-farebox-callback")
    return value.decode().removeprefix("http://farebox")


async def asked(wire: Wire) -> None:
    """A turn of the scheduler, for which every open job is due."""
    settings = wire.services.settings
    async with open_store(settings.database_url, utc_now) as store, asking(settings, store, utc_now) as ask:
        turn = Turn(store, utc_now, asyncio.Event(), "watch_jobs", "the test")
        assert await turn.begin()
        await watch_jobs(store, turn, ask)
        await turn.end(True)


@pytest.mark.parametrize(
    ("tokens", "spent"),
    [
        (15, 15 * TOKEN),
        (0, CHEAP),
        (50, 50 * TOKEN),
        (500, 500 * TOKEN),
        (15.5, 15 * TOKEN + TOKEN // 2),
        (501, QUOTE),
        (-5, QUOTE),
        (None, QUOTE),
        ("15", QUOTE),
        (True, QUOTE),
        ([15], QUOTE),
        (10**40, QUOTE),
    ],
)
async def test_a_finished_job_costs_what_it_has_used(wire: Wire, tokens: object, spent: int) -> None:
    """Above the quote as well; what nobody can believe, or is not there, is charged by the quote, as an estimate."""
    await started(wire)
    await polled(wire, tokens)
    await wire.settled_at(spent)
    (row,) = await wire.usage()
    assert (row["charged"], row["estimated"]) == (spent, spent == QUOTE)
    await polled(wire, 1)
    await wire.settled_at(spent)


async def test_a_failed_job_is_free_whatever_it_has_used(wire: Wire) -> None:
    await started(wire)
    await polled(wire, 500, "failed")
    await wire.settled_at(0)


@pytest.mark.parametrize("teller", ["callback", "scheduler"])
async def test_whoever_tells_the_end_tells_the_usage(wire: Wire, teller: str) -> None:
    """The backend's call, and the answer to Farebox's own question."""
    await started(wire)
    if teller == "callback":
        await called(wire, address(wire), 15)
    else:
        wire.backend.script = saying({"status": "done", "tokens": 15})
        while await wire.open_holds():
            await asked(wire)
    await wire.settled_at(15 * TOKEN)
    await polled(wire, 50)
    await wire.settled_at(15 * TOKEN)


async def test_all_at_once_charge_once(wire: Wire) -> None:
    """Each states another usage, and one of them counts, in the balance as in the record."""
    await started(wire)
    path = address(wire)
    wire.backend.script = saying({"status": "done", "tokens": 30})
    await asyncio.gather(
        *(wire.ask(f"GET /jobs/j-{wire.number}", user="ann") for _ in range(5)),
        *(called(wire, path, tokens) for tokens in (40, 50, 60)),
        asked(wire),
    )
    await wire.until(lambda: wire.open_count(0))
    (row,) = await wire.usage()
    assert row["charged"] == await wire.spent()
    assert row["charged"] in {tokens * TOKEN for tokens in (30, 40, 50, 60)}


@pytest.mark.parametrize(
    ("more", "spent"), [({"images": [1] * 25}, 25 * TOKEN), ({}, 15 * TOKEN), ({"images": 25}, QUOTE)]
)
async def test_jobs_in_a_list_state_it_each(wire: Wire, more: dict[str, Any], spent: int) -> None:
    """The usage stands in the item; it may be counted, and have a default. Another kind of value is not believed."""
    await started(wire, "/listed")
    jobs = [{"id": "other", "status": "done", "images": [1] * 99}, {"id": f"j-{wire.number}", "status": "done", **more}]
    wire.backend.script = saying({"jobs": jobs})
    await wire.ask("GET /listed", user="ann")
    await wire.settled_at(spent)


async def test_an_end_behind_the_deadline_is_charged_by_its_usage(wire: Wire) -> None:
    """Where the route charges late: the deadline gave everything back, and what was used is taken then, once."""
    await started(wire, "/listed")
    ledger = wire.services.store.ledger

    async def expired() -> bool:
        await ledger.expire_overdue(utc_now())
        return await wire.open_count(0)

    await wire.until(expired)
    assert await wire.spent() == 0
    wire.backend.script = saying({"jobs": [{"id": f"j-{wire.number}", "status": "done", "images": [1] * 25}]})
    for _ in range(2):
        await wire.ask("GET /listed", user="ann")
        await wire.settled_at(25 * TOKEN)


@pytest.mark.parametrize(("rate", "spent"), [(10 * TOKEN, QUOTE), (TOKEN * 4 // 5, 12 * TOKEN)])
async def test_a_price_that_changes_while_a_job_runs_costs_nobody_more(wire: Wire, rate: int, spent: int) -> None:
    """The price of the quote is not known any more: the new one counts, up to the quote, and is an estimate."""
    await started(wire)
    database = wire.services.store.database
    model = {**MODEL, "price_base": CHEAP}
    await database.write(catalogue.put_model, "shop:cheap", {**model, "price_rates": {"tokens": str(rate)}})
    await polled(wire, 15)
    await wire.settled_at(spent)
    assert [row["estimated"] for row in await wire.usage()] == [True]
    await database.write(catalogue.put_model, "shop:cheap", model)
    for_sale = await database.read(catalogue.load)
    assert not wire.services.rulebooks.reload(for_sale, utc_now())


async def test_quota_pays_for_what_was_used(wire: Wire) -> None:
    """Where a model takes of a quota by units: never more than was taken aside, since there is no more of it."""
    await wire.ask("GET /listed", user="ann")
    account, database = await wire.account(), wire.services.store.database
    assert account is not None
    plan = {"tier": "basic", "name": "Basic", "description": "", "price": 0, "currency": "USD", "cycle": "monthly"}
    plan |= {"daily_quota": 1000, "monthly_quota": None, "max_model_tier": "basic", "features": {}}
    await database.write(catalogue.put_plan, "many", plan, 1, True, utc_now())
    priced = {**MODEL, "price_base": CHEAP, "quota_cost": 0, "quota_terms": {"rates": {"tokens": "1"}}}
    await database.write(catalogue.put_model, "shop:cheap", priced)
    await database.write(catalogue.changed)
    for_sale = await database.read(catalogue.load)
    assert not wire.services.rulebooks.reload(for_sale, utc_now())
    bought = next(plan for plan in for_sale.plans if plan.plan_id == "many")
    await database.write(subscriptions.subscribe, account, bought, GRACE_DEFAULT, "ann", utc_now())
    used = 0
    for job, (tokens, units) in enumerate(((15, 15), (50, 20)), start=1):
        wire.backend.script = saying({"id": f"q{job}-{wire.number}"})
        answer = await wire.ask("POST /jobs", user="ann")
        assert answer.values(b"x-farebox-funding") == [b"quota"]
        wire.backend.script = saying({"status": "done", "tokens": tokens})
        await wire.ask(f"GET /jobs/q{job}-{wire.number}", user="ann")
        used += units
        assert sum(row["charged"] for row in await wire.usage()) == used

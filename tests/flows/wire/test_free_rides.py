"""Ways to ride for free, to be charged twice or to bring Farebox down, each of which leads nowhere."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime

import pytest
from sqlalchemy import Connection

from policies.subscription import GRACE_DEFAULT
from policies.subscription_acts import cancel
from policies.terms import AccountId, Plan
from proxy.watching import reload
from store import accounts, api_keys, catalogue, subscriptions
from store.subscriptions import bump_revision
from tests.flows.raw import Visit, answering, json_answer
from tests.flows.wire.wire import CHEAP, QUOTE, WELCOME, Wire, order

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def change(wire: Wire, what: object, *args: object) -> object:
    """Something that an operator or another process does to the store."""
    return await wire.services.store.database.write(what, *args)  # type: ignore[arg-type]


async def account_of(wire: Wire, user: str = "ann") -> AccountId:
    """The account of a user whom Farebox has just identified, and remembers."""
    assert (await wire.ask("GET /mine/x", user=user)).status == 200
    account_id = await wire.account(user)
    assert account_id is not None
    return account_id


async def basic_plan(wire: Wire) -> Plan:
    """A plan that costs nothing and entitles to the basic tier."""
    terms = {"tier": "basic", "name": "Basic", "description": "", "price": 0, "currency": "USD", "cycle": "monthly"}
    terms |= {"daily_quota": 5, "monthly_quota": None, "max_model_tier": "basic", "features": {}}
    await change(wire, catalogue.put_plan, "basic", terms, 1, True, wire.services.now())
    plan = (await wire.services.store.database.read(catalogue.load)).plan("basic")
    assert plan is not None
    return plan


def code(body: bytes) -> str:
    return str(json.loads(body)["code"])


# What is judged is what arrives.


@pytest.mark.parametrize(
    "path", ["/flat/", "/FLAT", "/flat;x=1", "/%2566lat", "/flat.", "//flat", "/./flat", "/x/../flat", "/flat%2f"]
)
async def test_another_spelling_of_a_priced_path_is_no_way_in(wire: Wire, path: str) -> None:
    """P01 to P03: refused or not found, with or without a credential, and nothing arrives."""
    for user in (None, "ann"):
        assert (await wire.ask(f"POST {path}", user=user)).status in (400, 404)
    assert not wire.backend.requests


async def test_a_header_cannot_swap_the_request(wire: Wire) -> None:
    """H04, P06: overrides of path and method stay behind, in any spelling."""
    overrides = ["X-Original-URL: /flat", "X-Rewrite-URL: /flat", "X-HTTP-Method-Override: POST", "x_http_method: PUT"]
    await wire.ask("GET /open/x", *overrides)
    assert not [name for name, _ in wire.backend.requests[0].headers if b"over" in name.lower() or b"URL" in name]


async def test_a_model_that_was_judged_cannot_be_nominated_away(wire: Wire) -> None:
    """H02: the header that names the model reaches the backend, or it does not count here either."""
    answer = await wire.ask("POST /by-header", "X-Model: cheap", "Connection: X-Model", user="ann")
    assert (answer.status, code(answer.body)) == (400, "invalid_request")
    for extra in ("X_Model: dear", "X-Model: dear", "x.model: dear"):
        assert (await wire.ask("POST /by-header", "X-Model: cheap", extra, user="ann")).status == 400
    assert not wire.backend.requests
    assert (await wire.ask("POST /by-header", "X-Model: cheap", user="ann")).status == 200
    assert wire.backend.requests[0].values(b"x-model") == [b"cheap"]


async def test_identity_comes_from_farebox_alone(wire: Wire) -> None:
    """H03: on free routes too; a nominated or doubled name changes nothing."""
    spoofed = ["X-Farebox-User: root", "x_farebox_user: root", "X.FAREBOX.Tier: enterprise", "X-Farebox-Account: 1"]
    spoofed += ["Connection: X-Farebox-User, X-Farebox-Model, X-Request-Id, Authorization"]
    await wire.ask("GET /open/x", *spoofed)
    await wire.ask("POST /flat", *spoofed, user="ann")
    names = [[name for name, _ in message.headers if b"box" in name.lower()] for message in wire.backend.requests]
    assert names[0] == []
    assert names[1] == [b"X-Farebox-User", b"X-Farebox-Account", b"X-Farebox-Tier", b"X-Farebox-Model"]
    assert wire.backend.requests[1].values(b"x-farebox-user") == [wire.name("ann").encode()]
    assert wire.backend.requests[1].values(b"authorization") == [wire.bearer().partition(": ")[2].encode()]


async def test_head_costs_what_get_costs(wire: Wire) -> None:
    """The backend works for the one as for the other."""
    answer = await wire.ask("HEAD /flat", user="ann")
    assert (answer.status, answer.values(b"x-farebox-charged")) == (200, [b"1"])
    assert await wire.spent() == CHEAP
    assert (await wire.ask("HEAD /flat")).status == 401


async def test_a_price_is_that_of_the_model_that_arrives(wire: Wire) -> None:
    """M01: whoever finds two models in a body finds them refused."""
    for body in (
        b'{"model": "cheap", "model": "dear"}',
        b'{"model": "cheap", "Model": "dear"}',
        b'{"model": "cheap", "mod\\u0065l": "dear"}',
        b'{"model": "cheap"}{"model": "dear"}',
        b'\xef\xbb\xbf{"model": "cheap"}',
        '{"model": "cheap"}'.encode("utf-16"),
        b'{"model": "cheap", "max_tokens": 1, "Max_Tokens": 100}',
        b'{"model": "cheap", "max_tokens": 1e-99999999999999999999}',
        b'{"model": "cheap", "max_tokens": 1.' + b"1" * 5000 + b"}",
        b'{"model": "cheap", "max_tokens": -1}',
    ):
        answer = await wire.ask("POST /buy", body=body, user="ann")
        assert (answer.status, code(answer.body)) == (400, "invalid_request")
    assert (await wire.ask("POST /buy", "Content-Type: text/plain", body=order(), user="ann")).status == 400
    assert not wire.backend.requests
    assert (await wire.ask("POST /buy", body=order("dear"), user="ann")).values(b"x-farebox-charged") == [b"10"]


async def test_a_model_is_named_in_one_place(wire: Wire) -> None:
    """M06: where the route says; what stands elsewhere decides nothing, and the backend is told what was judged."""
    answer = await wire.ask("POST /buy?model=dear", "X-Model: dear", body=order("cheap", Model2="dear"), user="ann")
    cheap = await wire.ask("POST /buy", body=order("cheap"), user="ann")
    assert answer.values(b"x-farebox-charged") == cheap.values(b"x-farebox-charged")
    assert [arrived.values(b"x-farebox-model") for arrived in wire.backend.requests] == [[b"shop:cheap"]] * 2


@pytest.mark.parametrize(
    "name", ["Cheap", "cheap ", " cheap", "cheap-2026", "shop/cheap", "other:cheap", "che\u200bap"]
)
async def test_a_model_has_one_name(wire: Wire, name: str) -> None:
    """M09: what a backend might take for a cheap model, or for another one, is none that can be bought."""
    answer = await wire.ask("POST /buy", body=order(name), user="ann")
    assert (answer.status, code(answer.body)) in [(400, "invalid_request"), (403, "model_denied")]
    assert not wire.backend.requests
    assert await wire.spent() == 0


async def test_two_credentials_are_none(wire: Wire) -> None:
    """K02: the backend might follow the one that Farebox does not."""
    for extra in (wire.bearer("bob"), "X-Api-Key: fbx_x", "authorization: Basic abc", "Authorization: "):
        answer = await wire.ask("POST /flat", extra, user="ann")
        assert (answer.status, code(answer.body)) == (400, "invalid_request")
    assert not wire.backend.requests


async def test_a_partial_answer_does_not_choose_its_usage(wire: Wire) -> None:
    """S04: of a range that the client has cut out of an answer, nothing is read; the quote is charged."""
    answer = json_answer(b'{"usage": {"tokens": 0}}', b"Content-Range: bytes 9-33/99", status=b"206 Partial Content")
    wire.backend.script = answering(answer)
    await wire.ask("POST /buy", "Range: bytes=9-33", body=order(), user="ann")
    assert await wire.spent() == QUOTE


# Entitlements that change while they are remembered.


async def test_a_frozen_account_stops_at_once(wire: Wire) -> None:
    """Where it would cost something, the next request is refused, though the caller was seen a moment ago."""
    account_id = await account_of(wire)
    await change(wire, accounts.set_frozen, account_id, wire.services.now())
    answer = await wire.ask("POST /flat", user="ann")
    assert (answer.status, code(answer.body)) == (403, "account_frozen")
    assert [message.first for message in wire.backend.requests] == [b"GET /mine/x HTTP/1.1"]
    assert code((await wire.ask("GET /mine/x", user="ann")).body) == "account_frozen"
    await change(wire, accounts.set_frozen, account_id, None)
    assert (await wire.ask("POST /flat", user="ann")).status == 200


async def test_what_runs_while_an_account_is_frozen_is_paid(wire: Wire) -> None:
    """Freezing refuses what comes next; what was admitted is delivered and settled."""
    account_id = await account_of(wire)
    go = asyncio.Event()

    async def waits(visit: Visit) -> None:
        await go.wait()
        await visit.send(json_answer(b"{}"))

    wire.backend.script = waits
    client = await wire.start("POST /flat", user="ann")
    await wire.until(lambda: len(wire.backend.requests) == 2)
    await change(wire, accounts.set_frozen, account_id, wire.services.now())
    go.set()
    assert (await client.answer()).values(b"x-farebox-charged") == [b"1"]
    await wire.settled_at(CHEAP)


async def test_a_revoked_key_stops_at_once(wire: Wire) -> None:
    """401 for the next priced request with it, within the seconds for which it is remembered."""
    account_id = await account_of(wire)
    details = (wire.name("ann"), account_id, "test", (), None, wire.services.now())
    key_id, key = await change(wire, api_keys.create, *details)  # type: ignore[misc]
    assert (await wire.ask("POST /flat", f"X-Api-Key: {key}")).status == 200
    assert not wire.backend.requests[-1].values(b"x-api-key")
    await change(wire, api_keys.revoke, key_id, wire.services.now())
    answer = await wire.ask("POST /flat", f"X-Api-Key: {key}")
    assert (answer.status, code(answer.body)) == (401, "unauthorized")
    assert await wire.spent() == CHEAP


async def test_a_subscription_counts_at_once(wire: Wire) -> None:
    """Quota from the moment it begins, credits from the moment it ends, without waiting for a memory to fade."""
    plan, account_id = await basic_plan(wire), await account_of(wire)
    fundings = [(await wire.ask("POST /flat", user="ann")).values(b"x-farebox-funding")]
    await change(wire, subscriptions.subscribe, account_id, plan, GRACE_DEFAULT, "test", wire.services.now())
    fundings.append((await wire.ask("POST /flat", user="ann")).values(b"x-farebox-funding"))
    await change(wire, cancel_now, account_id, wire.services.now())
    fundings.append((await wire.ask("POST /flat", user="ann")).values(b"x-farebox-funding"))
    assert fundings == [[b"credits"], [b"quota"], [b"credits"]]
    assert await wire.spent() == 2 * CHEAP


def cancel_now(connection: Connection, account_id: AccountId, now: datetime) -> None:
    subscriptions.change(connection, account_id, lambda row: cancel(row, now, True, None), "test", now)


async def test_an_upgrade_counts_at_once(wire: Wire) -> None:
    """Who was refused for their tier a moment ago, and has subscribed in another process, is served."""
    dear = {"tier": "basic", "price_base": CHEAP}
    account_id = await account_of(wire)
    await change(wire, catalogue.put_model, "shop:dear", dear)
    await change(wire, catalogue.changed)
    await reload(wire.services)
    plan = await basic_plan(wire)
    assert (await wire.ask("POST /buy", body=order("dear"), user="ann")).status == 403
    await change(wire, subscriptions.subscribe, account_id, plan, GRACE_DEFAULT, "test", wire.services.now())
    assert (await wire.ask("POST /buy", body=order("dear"), user="ann")).status == 200
    assert await wire.spent() == 0


async def test_an_account_that_changes_all_the_time_is_decided_on_fresh_facts(wire: Wire) -> None:
    """Requests race with changes: each is paid and forwarded, or neither, and none on a stale decision."""
    account_id = await account_of(wire)
    running = True

    async def churn() -> None:
        while running:
            await change(wire, bump_revision, account_id)
            await asyncio.sleep(0)

    churning = asyncio.create_task(churn())
    answers = await asyncio.gather(*(wire.ask("POST /flat", user="ann") for _ in range(30)))
    running = False
    await churning
    statuses = [answer.status for answer in answers]
    assert set(statuses) <= {200, 503}
    assert len(wire.backend.requests) - 1 == statuses.count(200)
    await wire.settled_at(statuses.count(200) * CHEAP)


async def test_a_balance_is_spent_once(wire: Wire) -> None:
    """A hundred calls' worth, and a hundred and fifty calls at once from many connections."""
    answers = await asyncio.gather(*(wire.ask("POST /flat", user="ann") for _ in range(150)))
    statuses = [answer.status for answer in answers]
    assert (statuses.count(200), statuses.count(402)) == (100, 50)
    assert len(wire.backend.requests) == 100
    await wire.settled_at(WELCOME)

"""Policies at the gate: conditions on units, exemptions, limits and modes, as clients meet them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from policies.terms import Metric
from policies.windows import UTC_CALENDAR, window_at
from store import accounts
from store.quota_reports import windows
from tests.flows.raw import Visit
from tests.flows.wire.wire import CHEAP, SETTINGS, TOKEN, Wire, order, running_wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

POLICY = """
version: 1
rules:
  - {id: ladder, allow: use, who: {tier: at-least-model}}
  - id: long-answers
    deny: use
    who: {account_type: payg}
    route: buy
    when: units.tokens > 50
    because: Answers over 50 tokens need a subscription
  - {id: no-strict, deny: use, action: buy-strictly}
  - {id: soon, deny: use, who: {tag: newcomer}, because: Newcomers will have to wait, mode: warn}
  - {id: watched, deny: use, who: {tag: newcomer}, mode: audit}
  - {id: lines, deny: use, who: {tag: newcomer}, because: "One line\\nX-Another: line", mode: warn}
exemptions:
  - {id: house, who: {tag: house}, fair_use: 2/day}
limits:
  - {id: slow, who: {tag: slow}, requests: 2/hour, because: Slow accounts are slow}
  - {id: one-at-a-time, who: {tag: slow}, concurrent: 1, route: flat}
  - {id: soft, who: {tag: newcomer}, requests: 1/day, mode: warn}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["memory", "database"])
async def lasting_wire(
    migrated_file: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[Wire]:
    """Limits count in the process, and in the database."""
    folder = tmp_path_factory.mktemp("wire")
    (folder / "policies").mkdir()
    (folder / "policies" / "main.yaml").write_text(POLICY)
    more = f"policies: policies/\ncounters: {request.param}\n"
    async with running_wire(migrated_file, folder, SETTINGS + more) as running:
        yield running
        await running.verify()


async def tagged(wire: Wire, tag: str, user: str = "ann") -> None:
    """Give a user a tag, while what is remembered of it still says that it has none."""
    await wire.ask("GET /mine/x", user=user)
    account = await wire.account(user)
    assert account is not None
    await wire.services.store.database.write(accounts.set_tags, account, [tag])


async def test_a_condition_on_units_decides(wire: Wire) -> None:
    """Fifty tokens pass, one more is refused with the rule's sentence, and costs nothing; other routes do not care."""
    assert (await wire.ask("POST /buy", body=order(max_tokens=50), user="ann")).status == 200
    refused = await wire.ask("POST /buy", body=order(max_tokens=51), user="ann")
    body = json.loads(refused.body)
    assert (refused.status, body["rule"], body["reason"]) == (
        403,
        "long-answers",
        "Answers over 50 tokens need a subscription",
    )
    await wire.settled_at(50 * TOKEN)


async def test_a_rule_may_be_about_an_action(wire: Wire) -> None:
    """The same model is refused on the route of that action alone."""
    refused = await wire.ask("POST /buy-strictly", body=order(), user="ann")
    assert (refused.status, json.loads(refused.body)["rule"]) == (403, "no-strict")
    assert (await wire.ask("POST /buy", body=order(), user="ann")).status == 200


async def test_exempt_calls_are_free_until_fair_use_is_over(wire: Wire) -> None:
    """Two calls of the day are exempt and say so; the third is charged."""
    await tagged(wire, "house")
    answers = [await wire.ask("GET /flat", user="ann") for _ in range(3)]
    assert [answer.values(b"x-farebox-funding") for answer in answers] == [[b"exempt"], [b"exempt"], [b"credits"]]
    assert answers[0].values(b"x-farebox-charged") == [b"0"]
    await wire.settled_at(CHEAP)
    account, today = await wire.account(), window_at(Metric.DAILY, UTC_CALENDAR, wire.services.now())
    found = await wire.services.store.database.read(windows, account, today.start)
    assert [(row["metric"], row["used"], row["held"]) for row in found] == [("exempt:house", 2, 0)]


async def test_a_failed_call_is_not_counted_as_exempt(wire: Wire) -> None:
    """What the backend did not do leaves its count in the fair use."""
    await tagged(wire, "house")

    async def failing(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")

    wire.backend.script = failing
    for _ in range(3):
        assert (await wire.ask("GET /flat", user="ann")).values(b"x-farebox-funding") == [b"exempt"]


async def test_a_rate_is_kept_and_told(wire: Wire) -> None:
    """Two in an hour; the third is refused before anything is taken, with the headers of the current draft."""
    await tagged(wire, "slow")
    for _ in range(2):
        assert (await wire.ask("GET /flat", user="ann")).status == 200
    refused = await wire.ask("GET /flat", user="ann")
    body = json.loads(refused.body)
    assert (refused.status, body["code"], body["message"]) == (429, "rate_limited", "Slow accounts are slow")
    (wait,) = refused.values(b"retry-after")
    assert 1700 < int(wait) == body["retryAfter"] <= 1800
    assert refused.values(b"ratelimit-policy") == [b'"slow";q=2;w=3600']
    assert refused.values(b"ratelimit") == [b'"slow";r=0;t=%d' % int(wait)]
    await wire.settled_at(2 * CHEAP)


async def test_places_are_free_again_when_a_call_ends(wire: Wire) -> None:
    """One at a time: a second is refused while the first runs, and let through when that has its answer."""
    await tagged(wire, "slow")
    entered, gate = asyncio.Event(), asyncio.Event()

    async def waiting(visit: Visit) -> None:
        entered.set()
        await gate.wait()
        await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    wire.backend.script = waiting
    first = await wire.start("GET /flat", user="ann")
    await entered.wait()
    refused = await wire.ask("GET /flat", user="ann")
    assert (refused.status, json.loads(refused.body)["limit"]) == (429, "one-at-a-time")
    assert refused.values(b"ratelimit-policy") == [b'"one-at-a-time";q=1;qu="concurrent-requests"']
    gate.set()
    await first.answer()

    async def let_through() -> bool:
        return (await wire.ask("GET /flat", user="ann")).status == 200

    await wire.until(let_through)


async def test_a_call_that_goes_on_without_its_client_keeps_its_place(wire: Wire) -> None:
    """With an idempotency key the backend works on: leaving and coming with another key is no way around a limit."""
    await tagged(wire, "slow")
    entered, gate = asyncio.Event(), asyncio.Event()

    async def waiting(visit: Visit) -> None:
        entered.set()
        await gate.wait()
        await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    wire.backend.script = waiting
    first = await wire.start("GET /flat", "Idempotency-Key: one", user="ann")
    await entered.wait()
    first.leave()
    await asyncio.sleep(0.05)
    refused = await wire.ask("GET /flat", "Idempotency-Key: other", user="ann")
    assert (refused.status, json.loads(refused.body)["limit"]) == (429, "one-at-a-time")
    gate.set()

    async def let_through() -> bool:
        return (await wire.ask("GET /flat", "Idempotency-Key: other", user="ann")).status == 200

    await wire.until(let_through)
    assert sum(visit.first.startswith(b"GET /flat") for visit in wire.backend.requests) == 2


async def test_what_is_not_enforced_is_told(wire: Wire) -> None:
    """`warn` is a header on the answer, `audit` is not, and the call passes; a sentence of two lines would be two."""
    await tagged(wire, "newcomer")
    first, second = [await wire.ask("GET /flat", user="ann") for _ in range(2)]
    assert (first.status, second.status) == (200, 200)
    assert not first.values(b"x-another")
    assert first.values(b"x-farebox-warning") == [b"soon: Newcomers will have to wait"]
    assert second.values(b"x-farebox-warning") == [
        b"soon: Newcomers will have to wait",
        b"soft: This limit is exceeded",
    ]


async def test_a_fault_in_the_policy_lets_nobody_through(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error while evaluating is a refusal, and nothing is forwarded."""
    rulebook = wire.services.rulebooks.current
    broken: Any = None
    monkeypatch.setattr(wire.services.rulebooks, "current", replace(rulebook, rules=broken))
    refused = await wire.ask("GET /flat", user="ann")
    assert (refused.status, json.loads(refused.body)["code"]) == (403, "policy_error")
    assert "could not be evaluated" in caplog.text
    caplog.clear()
    monkeypatch.setattr(wire.services.rulebooks, "current", rulebook)
    assert (await wire.ask("GET /flat", user="ann")).status == 200

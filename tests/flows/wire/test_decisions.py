"""The decision log: behind every metered request, asked by operators, replayed against other policies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from config.roles import Role
from policies.recorded import digest
from policies.rulebook import Rulebook
from proxy import decision_log
from proxy.decision_log import DecisionLog
from proxy.operations.operation import Desk
from proxy.operations.policy_replay import replay
from proxy.operations.table import OPERATIONS
from proxy.policy_reading import compiled, kept_policy
from store import accounts, decisions
from store.engine import StoreUnavailable
from tests.flows.wire.wire import SETTINGS, Wire, order, running_wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

POLICY = """version: 1
rules:
  - {id: open, allow: use}
  - {id: long, deny: use, route: buy, when: units.tokens > 50, because: Too long}
"""
NEXT = """version: 1
rules:
  - {id: open, allow: use}
  - {id: longer, deny: use, route: buy, when: units.tokens > 80}
  - {id: no-flat, deny: use, route: flat}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_wire(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    folder = tmp_path_factory.mktemp("wire")
    for name, text in (("policies", POLICY), ("next", NEXT)):
        (folder / name).mkdir()
        (folder / name / "main.yaml").write_text(text)
    more = "policies: policies/\ncandidate: next/\ndecisions: {file: decisions.jsonl, users: masked}\n"
    async with running_wire(migrated_file, folder, SETTINGS + more) as running:
        yield running
        await running.verify()


async def do(wire: Wire, verb: str, **given: object) -> dict[str, Any]:
    operation = next(found for found in OPERATIONS if f"{found.noun} {found.verb}" == verb)

    async def rulebook() -> Rulebook:
        return wire.services.rulebooks.current

    answer = await operation.perform(
        Desk(wire.services.store, wire.services.settings.values, rulebook, "tester", Role.OWNER), operation.read(given)
    )
    assert isinstance(answer, dict), answer
    return answer


async def recorded(wire: Wire, request_id: str) -> dict[str, Any]:
    """The record of a request, when it has been written."""

    async def there() -> bool:
        found = await do(wire, "decisions tail", limit=500)
        return any(row["request_id"] == request_id for row in found["decisions"])

    await wire.until(there)
    return await do(wire, "decisions show", request=request_id)


async def test_each_decision_is_recorded_with_what_it_was_made_of(wire: Wire) -> None:
    """Allowed and refused, with rule, revision, units and price; the user as a digest, and no credential anywhere."""
    allowed = await wire.ask("POST /buy", body=order(max_tokens=50), user="ann")
    refused = await wire.ask("POST /buy", body=order(max_tokens=60), user="ann")
    one = await recorded(wire, allowed.values(b"x-request-id")[0].decode())
    other = await recorded(wire, refused.values(b"x-request-id")[0].decode())
    assert (one["allowed"], one["rule"], one["code"], one["units"]) == (True, "open", None, {"tokens": "50"})
    assert one["quote"] == {"credits": 5, "quota": 1, "fundings": ["credits"]}
    assert one["held"] == {"funding": "credits", "amount": 5, "left": 95}
    assert "held" not in other
    assert (other["allowed"], other["rule"], other["code"]) == (False, "long", "model_denied")
    assert one["revision"] == other["revision"] == wire.services.rulebooks.current.revision
    assert one["caller"]["user"] == digest(wire.name("ann"))
    text = json.dumps([one, other])
    assert wire.name("ann") not in text
    assert wire.bearer("ann").split()[-1] not in text
    account = await wire.account("ann")
    found = await do(wire, "decisions tail", account=str(account), rule="long")
    assert [row["request_id"] for row in found["decisions"]] == [other["request_id"]]
    (told,) = found["decisions"]
    assert (told["policy_us"], told["reserved_us"]) == (other["policy_us"], other["reserved_us"])
    assert 0 < one["policy_us"] < one["reserved_us"] < 60_000_000
    only = await do(wire, "decisions tail", account=str(account), refused=True)
    assert [row["allowed"] for row in only["decisions"]] == [False]


async def test_the_records_are_json_lines_too(wire: Wire) -> None:
    """In the file that the settings name, one object on each line."""
    answer = await wire.ask("GET /flat", user="ann")
    request_id = answer.values(b"x-request-id")[0].decode()
    await recorded(wire, request_id)
    file = wire.services.settings.folder / "decisions.jsonl"
    await wire.until(lambda: request_id in file.read_text("utf-8"))
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert request_id in [line["request_id"] for line in lines]


async def test_a_refusal_of_the_past_is_explained(wire: Wire) -> None:
    """By the policy that was in force then, entry by entry."""
    refused = await wire.ask("POST /buy", body=order(max_tokens=60), user="ben")
    request_id = refused.values(b"x-request-id")[0].decode()
    await recorded(wire, request_id)
    answer = await do(wire, "decisions explain", request=request_id)
    assert (answer["decided_again"], answer["reason"]) == ("deny", "Too long")
    assert (answer["type"], answer["tier"]) == ("payg", "free")
    assert answer["tier_because"].startswith("no subscription: ")
    assert answer["changed_since"] == []
    rules = {row["rule"]: (row["fits"], row["why"]) for row in answer["rules"]}
    assert rules["open"][0] is True
    assert rules["long"] == (
        True,
        "tier any; caller: anyone; model: any model; request: route=buy; when units.tokens > 50",
    )


async def test_what_has_changed_since_a_decision_is_told_with_it(wire: Wire) -> None:
    """The decision was made on the account as it was; whoever reads it later learns in what it is another one now."""
    answer = await wire.ask("GET /flat", user="dot")
    request_id = answer.values(b"x-request-id")[0].decode()
    await recorded(wire, request_id)
    account = await wire.account("dot")
    await wire.services.store.database.write(accounts.set_tags, account, ["staff"])
    await wire.services.store.database.write(accounts.set_frozen, account, wire.services.now())
    told = await do(wire, "decisions explain", request=request_id)
    assert (told["tier"], told["decided_again"]) == ("free", "allow")
    assert told["changed_since"] == ["tags: none then, staff now", "frozen: no then, yes now"]


async def test_a_candidate_is_asked_and_decides_nothing(wire: Wire) -> None:
    """What it would have done otherwise is counted and recorded; the request goes on as if it were not there."""
    answer = await wire.ask("GET /flat", user="cid")
    assert answer.status == 200
    one = await recorded(wire, answer.values(b"x-request-id")[0].decode())
    assert one["candidate"] == "would deny"
    refused = await wire.ask("POST /buy", body=order(max_tokens=60), user="cid")
    assert refused.status == 403
    other = await recorded(wire, refused.values(b"x-request-id")[0].decode())
    assert other["candidate"] == "would allow"
    await recorded(
        wire, (await wire.ask("POST /buy", body=order(max_tokens=5), user="cid")).values(b"x-request-id")[0].decode()
    )
    listed = await do(wire, "decisions tail", account=str(await wire.account("cid")), differs=True)
    told = [(row["request_id"], row["candidate"]) for row in listed["decisions"]]
    assert told == [(one["request_id"], "would deny"), (other["request_id"], "would allow")]


async def test_recorded_decisions_are_decided_again_by_another_policy(wire: Wire) -> None:
    """Each flip is found, with its account and what it would cost; decisions by the same policy do not flip."""
    for tokens in (50, 60, 90):
        answer = await wire.ask("POST /buy", body=order(max_tokens=tokens), user="dan")
        await recorded(wire, answer.values(b"x-request-id")[0].decode())
    account = await wire.account("dan")
    rows = await wire.services.store.database.read(lambda c: decisions.page(c, account_id=account, limit=10))
    live = wire.services.rulebooks.current
    same = replay(rows, live).as_json()
    assert (same["decided_again"], same["would_be_denied"], same["would_be_allowed"], same["requests"]) == (3, 0, 0, [])
    other = compiled(kept_policy((("main.yaml", NEXT),)), live.catalogue, live.routes)
    found = replay(rows, other).as_json()
    assert (found["would_be_allowed"], found["would_be_denied"], found["accounts"]) == (1, 0, 1)
    assert (found["credits_before"], found["credits_after"]) == (5, 11)
    (flip,) = found["requests"]
    assert (flip["would"], flip["rule_before"], flip["rule_after"]) == ("allow", "long", "open")


async def test_a_store_that_cannot_answer_costs_records_and_no_request(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records are dropped, and counted; requests are answered all the same."""

    def unavailable(*_: object) -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(decision_log.decisions, "write", unavailable)
    assert (await wire.ask("GET /flat", user="eve")).status == 200
    monkeypatch.setattr(decision_log, "MAX_WAITING", 0)
    assert (await wire.ask("GET /flat", user="eve")).status == 200
    monkeypatch.setattr(DecisionLog, "add", unavailable)
    assert (await wire.ask("GET /flat", user="eve")).status == 200

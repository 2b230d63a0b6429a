"""A change of a policy, as an operator makes it with the command line alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from config.clock import utc_now
from policies.evaluate import Ask
from policies.recorded import kept_ask, kept_caller
from store import decisions, policy_history
from store.engine import Database
from store.ids import first_id_at
from tests.policies.samples import caller
from tests.proxy.cli.console import Console

OPEN = "version: 1\nrules:\n  - {id: all, allow: use}\n"
SHUT = OPEN + "  - {id: shut, deny: use, who: {user: ana}, because: Not today}\n"
TIMED = OPEN + "  - {id: nights, deny: use, when: time.hour < 6}\nlimits:\n  - {id: slow, requests: 5/minute}\n"
NOW = datetime.now(UTC)


def write(console: Console, function: Callable[..., Any], *arguments: object) -> Any:
    async def written() -> Any:
        database = Database(f"sqlite+aiosqlite:///{console.folder}/farebox.db", utc_now)
        try:
            return await database.write(function, *arguments)
        finally:
            await database.close()

    return asyncio.run(written())


@pytest.fixture
def shop(console: Console) -> Console:
    """A console whose policy is open to all, with another one beside it."""
    console.config.write_text(console.config.read_text() + "policies: policies/\n")
    for folder in ("policies", "next"):
        (console.folder / folder).mkdir()
        save(console, folder, OPEN)
    return console


def save(console: Console, folder: str, text: str) -> None:
    (console.folder / folder / "main.yaml").write_text(text)


def test_the_next_policy_is_checked_and_tested_where_it_is(shop: Console) -> None:
    """On the routes and the catalogue of the settings, without touching what is in force."""
    save(shop, "next", "version: 1\nrules:\n  - {id: all, allow: use, route: nowhere}\n")
    (finding,) = shop.json("check", "--policies", str(shop.folder / "next"), code=1)["findings"]
    assert (finding["code"], finding["line"]) == ("unknown-route", 3)
    assert shop.json("check")["ok"] is True
    save(shop, "next", SHUT)
    cases = shop.folder / "cases.yaml"
    cases.write_text(
        'version: 1\nnow: "2026-01-15T12:00:00Z"\ncallers: {ana: {user: ana}}\ncases: [{caller: ana, deny: "*"}]\n'
    )
    tried = ("policy", "test", str(cases))
    assert shop.json(*tried, "--policies", str(shop.folder / "next"))["ok"] is True
    assert shop.json(*tried, code=1)["ok"] is False


def test_what_cannot_be_compared_is_named(shop: Console) -> None:
    """Conditions and limits depend on the request: no difference of theirs is found, and that is said."""
    save(shop, "next", TIMED)
    told = shop.json("policy", "diff", str(shop.folder / "next"))
    assert (told["differences"], told["not_compared"]) == (0, ["nights", "slow"])
    assert "--recorded" in shop.out("policy", "diff", str(shop.folder / "next"))
    save(shop, "policies", TIMED)
    assert shop.json("policy", "diff", str(shop.folder / "next"))["not_compared"] == []


def test_yesterday_is_decided_again(shop: Console) -> None:
    """Of the recorded requests those since a moment, the latest of them, or all; masked users flip like plain ones."""
    for days, user in ((3, "ana"), (1, "ana"), (1, "ben")):
        at = NOW - timedelta(days=days)
        ask = kept_ask(Ask("video-generator:wan2.2", {}, "any", "any"))
        quote = {"credits": 1_000_000, "quota": 1, "fundings": ["credits"]}
        kept = kept_caller(caller(user=user), at, masked=True)
        row = {
            "account_id": 1,
            "at": at,
            "allowed": True,
            "code": None,
            "rule": "all",
            "revision": "r",
            "route_id": "any",
        }
        details = {"caller": kept, "ask": ask, "quote": quote}
        numbered = {"id": first_id_at(at) + (user == "ben"), "model_key": ask["model"], "details": details}
        write(shop, decisions.write, [row | numbered])
    save(shop, "next", SHUT)
    next_folder = str(shop.folder / "next")

    def found(*options: str) -> tuple[int, int]:
        told = shop.json("policy", "diff", next_folder, *options)
        return told["decided_again"], told["would_be_denied"]

    yesterday = f"{NOW - timedelta(days=2):%Y-%m-%dT%H:%M}"
    assert found("--recorded", "100") == (3, 2)
    assert found("--since", yesterday) == (2, 1)
    assert found("--since", yesterday, "--recorded", "1") == (1, 0)
    wrong = shop.run("policy", "diff", next_folder, "--since", "tomorrow")
    assert (wrong.exit_code, "expected a date or a moment" in wrong.stderr) == (2, True)


def test_an_explanation_is_by_the_policy_in_force(shop: Console) -> None:
    """After a rollback that is the earlier one, whatever is on disk; after the next save what is on disk again."""
    shop.out("accounts", "create", "ana", "--credits", "9")
    source = (("main.yaml", OPEN),)
    write(shop, policy_history.record, "0123456789ab", source, "files", None, NOW)
    save(shop, "policies", SHUT)
    ask = ("policy", "explain", "ana", "video-generator:wan2.2")
    assert shop.json(*ask, code=1)["rule"] == "shut"
    rolled = shop.json("policy", "rollback", "0123456789ab")
    told = shop.json(*ask)
    assert (told["rule"], told["policy_revision"]) == ("all", rolled["revision"])
    (entry,) = shop.json("audit", "list", "--operation", "policy")["entries"]
    assert (entry["actor"], entry["arguments"]) == ("operator", {"revision": "0123456789ab"})
    assert (entry["revision_before"], entry["revision_after"]) == ("0123456789ab", rolled["revision"])
    save(shop, "policies", SHUT + "# saved again\n")
    assert shop.json(*ask, code=1)["rule"] == "shut"


def test_commands_that_are_no_verbs_are_audited(console: Console) -> None:
    """Seeds with the catalogue's revision before and after, and jobs on demand."""
    console.out("seed")
    console.out("jobs", "--once", "sweep_holds")
    job, seed = console.json("audit", "list")["entries"]
    assert (job["operation"], job["arguments"], job["outcome"]) == ("jobs once", {"job": "sweep_holds"}, "done")
    assert (seed["operation"], seed["actor"], "@" in seed["from"]) == ("seed", "operator", True)
    assert (seed["revision_before"], seed["revision_after"]) == ("catalogue 1", "catalogue 1")

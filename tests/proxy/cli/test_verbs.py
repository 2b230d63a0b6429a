"""The operator verbs on the command line."""

from __future__ import annotations

import json

import pytest

from proxy.cli.output import cell
from proxy.operations.table import OPERATIONS
from tests.proxy.cli.console import Console

ARGUMENTS: dict[str, list[str]] = {
    "accounts list": [],
    "accounts show": ["ana"],
    "accounts create": ["dewi"],
    "accounts tag": ["ana", "vip"],
    "accounts untag": ["ana", "vip"],
    "accounts freeze": ["ana"],
    "accounts unfreeze": ["ana"],
    "accounts quota": ["ana"],
    "credits grant": ["ana", "1.5"],
    "credits deduct": ["ana", "1.5"],
    "credits balance": ["ana"],
    "credits history": ["ana"],
    "keys create": ["ana"],
    "keys list": [],
    "keys rotate": ["fbx_unknown"],
    "keys revoke": ["fbx_unknown"],
    "subscriptions show": ["ana"],
    "subscriptions subscribe": ["ana", "free-forever"],
    "subscriptions confirm": ["ana"],
    "subscriptions payments": ["ana"],
    "subscriptions cancel": ["ana"],
    "subscriptions resume": ["ana"],
    "subscriptions preview": ["ana", "pro-monthly"],
    "subscriptions change": ["ana", "pro-monthly"],
    "subscriptions migrate": ["ana"],
    "subscriptions history": ["ana"],
    "holds list": [],
    "holds show": ["0000000000001"],
    "holds release": ["0000000000001"],
    "holds settle": ["0000000000001"],
    "holds refund": ["0000000000001"],
    "usage list": [],
    "usage summary": [],
    "usage archives": [],
    "usage recount": [],
    "ledger verify": [],
    "jobs list": [],
    "policy explain": ["ana", "video-generator:wan2.2"],
    "policy history": [],
    "policy show": ["0123456789ab"],
    "policy rollback": ["0123456789ab"],
    "policy nodes": [],
    "decisions tail": [],
    "decisions show": ["0000000000001"],
    "decisions explain": ["0000000000001"],
    "audit list": [],
    "audit verify": [],
}


def test_every_verb_is_tried_below() -> None:
    """A new verb is added to the table above."""
    assert {f"{operation.noun} {operation.verb}" for operation in OPERATIONS} == set(ARGUMENTS)


@pytest.mark.parametrize("verb", ARGUMENTS)
def test_every_verb_answers_people_and_machines(console: Console, verb: str) -> None:
    """With --json one JSON object on standard output, an answer or a refusal; without it something to read."""
    console.out("accounts", "create", "ana")
    command = [*verb.split(), *ARGUMENTS[verb]]
    result = console.run(*command, "--json")
    assert result.exit_code in (0, 1), result.output
    answer = json.loads(result.stdout)
    assert isinstance(answer, dict)
    assert ("error" in answer) == (result.exit_code == 1)
    assert result.stderr == ""
    readable = console.run(*command)
    assert readable.output.strip()
    assert "Traceback" not in readable.output


def test_credits_are_written_in_credits(console: Console) -> None:
    """Decimals up to the sixth place, in and out."""
    console.out("accounts", "create", "ana", "--credits", "0")
    assert console.json("credits", "grant", "ana", "25.5")["balance"] == 25.5
    assert console.json("credits", "deduct", "ana", "0.000001")["balance"] == 25.499999
    assert "25.499999" in console.out("credits", "balance", "ana")


def test_a_refusal_ends_with_one_and_says_what_to_do(console: Console) -> None:
    """The sentence goes to standard error for people; for machines the object has the code."""
    result = console.run("credits", "grant", "nobody", "5")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "There is no account 'nobody'. Name an account by its number" in result.stderr
    assert console.json("credits", "grant", "nobody", "5", code=1)["code"] == "not_found"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["credits", "grant", "ana", "lots"], "credits: expected a number of credits"),
        (["credits", "grant", "ana", "5", "--source", "theft"], "'theft' is not one of 'purchase'"),
        (["credits", "grant", "ana"], "Missing argument 'CREDITS'"),
        (["holds", "show", "abc"], "id: expected the id of a request"),
        (["accounts", "list", "--limit", "0"], "limit: "),
        (["accounts", "tag", "ana"], "Missing argument 'TAGS...'"),
        (["keys", "create", "ana", "--expires", "soon"], "expires: expected a date"),
    ],
)
def test_a_wrong_command_line_ends_with_two(console: Console, words: list[str], says: str) -> None:
    """Nothing is done; the sentence names the argument and what was expected."""
    result = console.run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


@pytest.mark.parametrize("verb", ["grant", "deduct"])
def test_what_is_no_amount_moves_nothing(console: Console, verb: str) -> None:
    """Each of them is refused with a sentence about credits; no account has changed."""
    console.out("accounts", "create", "ana", "--credits", "10")
    for amount in ("0", "0.0000001", "1e3", "1e30", "NaN", "inf", "１２", "1_0", "1,5", "", " 5", "5.", "½"):
        result = console.run("credits", verb, "ana", amount)
        assert (result.exit_code, result.stdout) == (2, ""), amount
        assert "credits: " in result.stderr
    assert console.run("credits", verb, "ana", "-1").exit_code == 2
    assert console.run("credits", verb, "nobody", "1").exit_code == 1
    assert console.json("credits", "balance", "ana")["posted"] == 10


def test_a_grant_may_have_a_priority_and_an_end(console: Console) -> None:
    """Both are shown where the grants are listed in the order in which they are spent."""
    console.out("accounts", "create", "ana", "--credits", "10")
    console.out("credits", "grant", "ana", "5", "--priority", "7", "--expires", "2999-01-01", "--source", "promo")
    first, second = console.json("credits", "balance", "ana")["grants"]
    assert (first["priority"], first["expires_at"], first["source"]) == (7, "2999-01-01T00:00:00.000Z", "promo")
    assert (second["priority"], second["expires_at"]) == (100, None)
    late = console.run("credits", "grant", "ana", "5", "--expires", "2020-01-01")
    assert late.exit_code == 1
    assert "2020-01-01T00:00:00.000Z has passed; credits cannot lapse in the past" in late.stderr


def test_several_values_and_flags_arrive(console: Console) -> None:
    """Tags by their place, models as a repeated option, --paid as a flag."""
    console.out("accounts", "create", "ana")
    assert console.json("accounts", "tag", "ana", "b", "a")["tags"] == ["a", "b"]
    key = console.json("keys", "create", "ana", "--models", "video-generator:*", "--models", "chat:*")
    assert key["models"] == ["video-generator:*", "chat:*"]
    subscribed = console.json("subscriptions", "subscribe", "ana", "basic-monthly", "--paid")
    assert subscribed["subscription"]["status"] == "active"


def test_a_page_says_how_to_go_on(console: Console) -> None:
    """The line below a full page is the option for the next one; the last page has none."""
    for name in ("ana", "budi", "citra"):
        console.out("accounts", "create", name)
    page = console.out("accounts", "list", "--limit", "2")
    assert page.splitlines()[-1] == "There is more: add --after 2"
    rest = console.out("accounts", "list", "--limit", "2", "--after", "2")
    assert "citra" in rest
    assert "There is more" not in rest


def test_an_explanation_of_a_refusal_ends_with_one(console: Console) -> None:
    """So that a script can ask; the reason is on standard output, because telling it has succeeded."""
    console.out("accounts", "create", "ana")
    assert console.json("policy", "explain", "ana", "video-generator:wan2.2")["passes"] is True
    told = console.json("policy", "explain", "ana", "video-generator:veo3", code=1)
    assert told["reason"] == "This model requires enterprise tier or higher"


def test_texts_of_strangers_cannot_write_to_the_terminal(console: Console) -> None:
    """Markup is shown as it is; control characters, which could hide a line, are refused, and replaced where they are
    there all the same.
    """
    console.out("accounts", "create", "ana", "--email", "[red]x")
    assert "[red]x" in console.out("accounts", "show", "ana")
    assert console.run("accounts", "create", "ben", "--email", "x\x1b[2K\rhidden").exit_code == 2
    assert cell("x\x1b[2K\rhidden") == "x\N{REPLACEMENT CHARACTER}[2K\N{REPLACEMENT CHARACTER}hidden"


def test_a_table_in_a_pipe_is_not_cut(console: Console) -> None:
    """What no terminal shows is wide enough to be searched."""
    name = "a-user-with-a-very-long-name-" + "x" * 60
    console.out("accounts", "create", name, "--email", "someone.with.a.long.name@a-long-domain.example.com")
    line = next(line for line in console.out("accounts", "list").splitlines() if name in line)
    assert "someone.with.a.long.name@a-long-domain.example.com" in line

"""`farebox seed`, `migrate`, `jobs --once`, and `policy test` and `schema`."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.proxy.cli.console import Console

RULES = Path(__file__).parents[3] / "policies" / "rules"
LADDER = RULES / "tests" / "ladder.yaml"


def test_seeding_twice_changes_nothing(bare: Console) -> None:
    """The first run makes everything, the second reports every entry as unchanged."""
    first = bare.json("seed")
    assert (first["created"], first["changed"]) == (29, 0)
    second = bare.json("seed")
    assert (second["created"], second["changed"], second["unchanged"]) == (0, 0, 29)


def test_a_changed_seed_is_shown_field_by_field(console: Console) -> None:
    """For people: what was, and what is now."""
    plans = (Path(__file__).parents[3] / "seeds" / "plans.yaml").read_text()
    (console.folder / "plans.yaml").write_text(plans.replace("amount: 99000,", "amount: 105000,"))
    shown = console.out("seed", str(console.folder / "plans.yaml"))
    (line,) = [line for line in shown.splitlines() if "basic-monthly" in line]
    assert line.split() == ["plan", "basic-monthly", "changed", "price.amount", "99000", "105000"]


def test_users_are_imported_once(bare: Console) -> None:
    """From CSV, alone; a second import creates nobody and grants nothing."""
    (bare.folder / "users.csv").write_text("id,email,credits\nana,ana@example.com,12.5\nbudi,,0\n")
    first = bare.json("seed", "--users", str(bare.folder / "users.csv"))
    assert first == {"users": {"in_file": 2, "created": 2, "granted": 1, "credits": 12.5}}
    second = bare.json("seed", "--users", str(bare.folder / "users.csv"))
    assert second == {"users": {"in_file": 2, "created": 0, "granted": 0, "credits": 0}}
    assert bare.json("credits", "balance", "ana")["available"] == 12.5


def test_a_wrong_seed_changes_nothing(console: Console) -> None:
    """Findings with their lines, the code 1, and neither the files nor the users are loaded."""
    (console.folder / "users.csv").write_text("id,email,credits\nana,,many\n")
    (console.folder / "seed.yaml").write_text("apps: [{id: x, nme: y}]\n")
    for words in (["seed", str(console.folder / "seed.yaml")], ["seed", "--users", str(console.folder / "users.csv")]):
        answer = console.json(*words, code=1)
        assert answer["findings"]
    assert console.json("accounts", "list")["accounts"] == []


def test_migrating_says_what_it_did(bare: Console) -> None:
    """From nothing to the schema of this version; a second time changes nothing."""
    first = bare.json("migrate")
    assert (first["before"], first["changed"]) == (None, True)
    second = bare.json("migrate")
    assert (second["before"], second["changed"]) == (first["after"], False)


def test_a_job_is_run_now(console: Console) -> None:
    """It reports what it did, and is listed with its success."""
    assert console.json("jobs", "list") == {"jobs": []}
    assert console.json("jobs", "--once", "sweep_holds") == {"job": "sweep_holds", "outcome": "done", "holds_ended": 0}
    (row,) = console.json("jobs", "list")["jobs"]
    assert row["job"] == "sweep_holds"
    assert row["last_success"]


def test_the_packaged_cases_pass(console: Console) -> None:
    """On the settings' policy, and on the packaged default policy without any settings."""
    answer = console.json("policy", "test", str(LADDER))
    assert (answer["ok"], answer["failed"], answer["rules_without_a_case"]) == (True, 0, [])
    result = console.run(
        "policy", "test", "--policies", str(RULES), str(LADDER), config=console.folder / "missing.yaml"
    )
    assert result.exit_code == 0, result.output


def test_failed_cases_end_with_one(console: Console) -> None:
    """The map marks them, and each is told with its file and line."""
    (console.folder / "cases.yaml").write_text(
        'version: 1\nnow: "2026-01-15T12:00:00Z"\ncallers: {payg: {}}\ncases:\n'
        "  - {caller: payg, allow: 'video-generator:veo3'}\n"
    )
    result = console.run("policy", "test", str(console.folder / "cases.yaml"))
    assert result.exit_code == 1
    assert "cases.yaml:5: payg on video-generator:veo3: expected allow; refused: This model requires" in result.stdout
    assert "cases.yaml:3: payg on carousel-mix:canvas-standard: expected deny; allowed, and no case" in result.stdout
    line = next(line for line in result.stdout.splitlines() if line.strip().startswith("video-generator:veo3"))
    assert line.split() == ["video-generator:veo3", "–", "FAILED"]
    answer = console.json("policy", "test", str(console.folder / "cases.yaml"), code=1)
    assert answer["ok"] is False
    assert answer["failed"] == sum(not outcome["passed"] for outcome in answer["outcomes"]) > 1


@pytest.mark.parametrize(
    ("document", "file"),
    [("policy", RULES / "default.yaml"), ("cases", LADDER)],
)
def test_the_schema_accepts_the_packaged_files(bare: Console, document: str, file: Path) -> None:
    """What an editor is told about a file agrees with what Farebox accepts, and refuses an unknown key."""
    schema = json.loads(bare.run("policy", "schema", "--of", document).stdout)
    data = yaml.safe_load(file.read_text())
    jsonschema.validate(data, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**data, "unknown": 1}, schema)


def test_a_candidate_policy_is_compared_with_the_one_in_force(console: Console) -> None:
    """Who would be refused or let through, by caller and model; the same policy has no differences."""
    (console.folder / "new").mkdir()
    (console.folder / "new" / "main.yaml").write_text((RULES / "default.yaml").read_text())
    assert console.json("policy", "diff", str(console.folder / "new"))["decisions"] == []
    (console.folder / "new" / "main.yaml").write_text("version: 1\npayg: {tier: basic}\n")
    answer = console.json("policy", "diff", str(console.folder / "new"))
    assert answer["differences"] == len(answer["decisions"]) == 3
    assert answer["decisions"][1] == {
        "caller": "payg",
        "model": "avatar-generator:controlnet-openpose-sdxl",
        "before": "deny",
        "after": "allow, by credits",
        "rule_before": None,
        "rule_after": "tier-models",
    }
    assert "video-generator:veo2" in console.out("policy", "diff", str(console.folder / "new"))
    (console.folder / "new" / "main.yaml").write_text("version: 1\npayg: {tier: gold}\n")
    assert console.json("policy", "diff", str(console.folder / "new"), code=1)["findings"]

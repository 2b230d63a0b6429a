"""`farebox check`: everything at once, and nothing changed."""

from __future__ import annotations

from pathlib import Path

from tests.proxy.cli.console import Console
from tests.proxy.operations.desk import SETTINGS

POLICY = "version: 1\nrules:\n  - {id: all, allow: use, who: {tier: at-least-model}}\n"


def _policy(console: Console, text: str) -> None:
    (console.folder / "policies").mkdir(exist_ok=True)
    (console.folder / "policies" / "main.yaml").write_text(text)
    if "policies:" not in console.config.read_text():
        console.config.write_text(console.config.read_text() + "policies: policies/\n")


def _codes(answer: dict[str, list[dict[str, object]]]) -> list[object]:
    return [finding["code"] for finding in answer["findings"]]


def test_all_well_before_the_first_start(bare: Console) -> None:
    """Without a database the seeds that come with Farebox stand in for it, and none is made."""
    answer = bare.json("check")
    assert (answer["ok"], answer["findings"]) == (True, [])
    results = {row["what"]: row["result"] for row in answer["checked"]}
    assert list(results) == ["settings", "schema", "policies", "seeds"]
    assert "the seeds that come with Farebox" in results["policies"]
    assert not (bare.folder / "farebox.db").exists()


def test_all_well_on_a_database(console: Console) -> None:
    """With one, its catalogue counts."""
    results = {row["what"]: row["result"] for row in console.json("check")["checked"]}
    assert results["schema"] == "up to date"
    assert results["policies"].endswith("checked against the database")


def test_findings_of_every_kind_come_together(bare: Console) -> None:
    """Settings, policies and seeds are all wrong, and all of it is told in one run."""
    bare.config.write_text(bare.config.read_text() + "policies: policies/\nlisen: here\n")
    _policy(bare, POLICY.replace("at-least-model", "gold") + "  - {id: all, deny: use, model: 'nothing:*'}\n")
    (bare.folder / "seed.yaml").write_text("plans: [{id: x}]\n")
    result = bare.run("check", str(bare.folder / "seed.yaml"))
    assert result.exit_code == 1
    for told in ("farebox.yaml:9:1: unknown-key", "main.yaml:3:", "unknown-tier", "main.yaml:4:", "duplicate-rule",
                 "unknown-model", "seed.yaml:1:"):  # fmt: skip
        assert told in result.stderr
    answer = bare.json("check", str(bare.folder / "seed.yaml"), code=1)
    assert answer["ok"] is False
    assert {"unknown-key", "unknown-tier", "duplicate-rule", "unknown-model"} <= set(_codes(answer))


def test_policies_are_checked_against_what_is_for_sale(console: Console) -> None:
    """A model that the database has and the packaged seeds have not is known, and the other way round unknown."""
    import sqlite3

    with sqlite3.connect(console.folder / "farebox.db") as connection:
        connection.execute("UPDATE models SET key = 'video-generator:new' WHERE key = 'video-generator:veo3'")
    connection.close()
    _policy(console, POLICY + "  - {id: new, deny: use, model: 'video-generator:new'}\n")
    assert console.json("check")["ok"] is True
    _policy(console, POLICY + "  - {id: old, deny: use, model: 'video-generator:veo3'}\n")
    assert _codes(console.json("check", code=1)) == ["unknown-model"]


def test_own_seeds_are_checked_with_the_policys_tiers(bare: Console) -> None:
    """A tier that only the policy's ladder has is known to the seed files that are named."""
    plans = (Path(__file__).parents[3] / "seeds" / "plans.yaml").read_text()
    (bare.folder / "plans.yaml").write_text(plans.replace("tier: pro\n", "tier: gold\n"))
    assert "unknown-tier" in _codes(bare.json("check", str(bare.folder / "plans.yaml"), code=1))
    _policy(bare, "version: 1\ntiers: [free, basic, pro, gold, enterprise]\n")
    assert bare.json("check", str(bare.folder / "plans.yaml"))["ok"] is True


def test_a_database_that_cannot_be_used_is_a_finding(bare: Console) -> None:
    """Placed at the setting that names it; the rest is checked all the same."""
    bare.config.write_text(SETTINGS % "postgresql+asyncpg://nobody@127.0.0.1:1/farebox")
    answer = bare.json("check", code=1)
    (finding,) = answer["findings"]
    assert (finding["code"], finding["line"]) == ("store-unavailable", 4)
    assert {row["what"] for row in answer["checked"]} == {"settings", "schema", "policies", "seeds"}


def test_an_outdated_schema_is_a_finding(console: Console) -> None:
    """With what to run."""
    import sqlite3

    with sqlite3.connect(console.folder / "farebox.db") as connection:
        connection.execute("DELETE FROM alembic_version")
    connection.close()
    (finding,) = console.json("check", code=1)["findings"]
    assert finding["code"] == "schema-outdated"
    assert "farebox migrate" in finding["message"]


def test_a_missing_archive_folder_is_a_finding(bare: Console) -> None:
    """Told before usage is old enough to need it; it is not made by the way."""
    bare.config.write_text(bare.config.read_text() + "retention: {usage: 13 months, archive: old/usage}\n")
    (finding,) = bare.json("check", code=1)["findings"]
    assert (finding["code"], finding["line"]) == ("missing-folder", 8)
    assert str(bare.folder / "old" / "usage") in finding["message"]
    (bare.folder / "old" / "usage").mkdir(parents=True)
    assert bare.json("check")["ok"] is True


def test_a_job_that_nobody_watches_is_a_warning(bare: Console) -> None:
    """It fails a check with --strict alone."""
    late = "id: late, match: POST /late, upstream: backend, app: chat, model: {const: m}"
    job = f"routes: [{{{late}, job: {{id: {{json: /id}}, deadline: 1h}}}}, "
    bare.config.write_text(bare.config.read_text().replace("routes: [", job))
    result = bare.run("check")
    assert "warning: unwatched-job: whoever asks for this job only after its deadline" in result.stderr
    assert (result.exit_code, bare.run("check", "--strict").exit_code) == (0, 1)


def test_a_candidate_is_checked_like_the_policy(bare: Console) -> None:
    """Its findings are told before it is asked for the first time."""
    (bare.folder / "next").mkdir()
    (bare.folder / "next" / "main.yaml").write_text("version: 1\nrules: [{id: a, alow: use}]\n")
    bare.config.write_text(bare.config.read_text() + "candidate: next/\n")
    assert "unknown-key" in _codes(bare.json("check", code=1))

"""Every finding about a policy, to the letter: where it is, what was found, what was expected."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from config.findings import InvalidDocument
from policies import checks, doubts
from proxy.policy_reading import load_rulebook
from tests.policies.samples import LADDER
from tests.proxy.findings import GOLDEN, golden, told


@pytest.mark.parametrize("name", golden())
def test_a_finding_is_told_as_on_the_page(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, line, column, code, message, the line and its caret."""
    monkeypatch.chdir(tmp_path)
    folder = Path("policies")
    folder.mkdir()
    text, expected = golden()[name]
    found = told(folder, text)
    assert "\n".join(map(str, found)) == expected
    assert sum(not finding.is_error for finding in found) == expected.count(": warning: ")


def test_every_example_of_the_page_is_tried() -> None:
    """Each heading has a policy and what is told of it; none is swallowed by the one before."""
    assert len(golden()) == len(re.findall(r"^## ", GOLDEN.read_text("utf-8"), re.M)) > 50


def test_the_page_has_every_code() -> None:
    """No finding about what a policy means is without an example; those about its form are the business of `config`."""
    page = GOLDEN.read_text("utf-8")
    for module in (checks, doubts):
        source = Path(module.__file__ or "").read_text("utf-8")
        codes = set(
            re.findall(r'"((?:un\w+|never|always|optional|said|nothing|invalid)-[a-z]+|nobody|shadowed)"', source)
        )
        assert {code for code in codes if f": {code}: " not in page} <= {"said-twice"}


def _codes(folder: Path) -> list[tuple[str, int, str]]:
    with pytest.raises(InvalidDocument) as caught:
        load_rulebook(folder, LADDER)
    return [(Path(finding.file).name, finding.line, finding.code) for finding in caught.value.findings]


def test_a_file_that_cannot_be_read_hides_nothing_in_the_others(tmp_path: Path) -> None:
    """What does not depend on it is told: models that there are not, entries twice, but no tier of a ladder unseen."""
    (tmp_path / "a.yaml").write_text("version: 1\ntiers: [free, gold\n")
    (tmp_path / "b.yaml").write_text("version: 1\nrules:\n- {id: a, deny: use, who: {tier: gold}, model: 'video:x'}\n")
    (tmp_path / "c.yaml").write_text("version: 1\nrules:\n- {id: a, deny: use, app: vidio}\n")
    told = [("a.yaml", 3, "yaml-syntax"), ("b.yaml", 3, "unknown-model")]
    assert _codes(tmp_path) == [*told, ("c.yaml", 3, "duplicate-rule"), ("c.yaml", 3, "unknown-app")]


def test_a_ladder_that_is_told_makes_tiers_unknown_beside_a_lost_file(tmp_path: Path) -> None:
    """A file that cannot be read leaves only that open which no other file says."""
    (tmp_path / "a.yaml").write_text("version: 1\nrules: [\n")
    (tmp_path / "b.yaml").write_text("version: 1\ntiers: [free, basic, pro, enterprise]\npayg: {tier: por}\n")
    assert _codes(tmp_path) == [("a.yaml", 3, "yaml-syntax"), ("b.yaml", 3, "unknown-tier")]


def test_doubts_beside_errors_keep_nothing_from_standing_first(tmp_path: Path) -> None:
    """What stands in the way of a policy is its errors; a doubt above them is told by `check` alone."""
    text = "version: 1\nrules:\n- {id: all, allow: use}\n- {id: b, allow: use}\n- {id: c, deny: uses}\n"
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InvalidDocument) as caught:
        load_rulebook(tmp_path, LADDER)
    assert [finding.code for finding in caught.value.findings] == ["redundant", "invalid-value"]
    assert [finding.code for finding in caught.value.errors] == ["invalid-value"]


def test_what_is_very_long_is_not_quoted(tmp_path: Path) -> None:
    """A line of a million characters is told by its place, a long key by its beginning: logs and probes carry findings
    as well.
    """
    name, key = "x" * 1_000_000, "x" * 1_000
    text = f"version: 1\nrules:\n- {{id: a, allow: use, who: {{tag: {name}}}}}\n- {{id: b, allow: use, {key}: y}}\n"
    first, second = told(tmp_path, text)
    assert ((first.line, first.column), (second.line, second.column)) == ((3, 34), (4, 23))
    assert max(len(str(first)), len(str(second))) < 500

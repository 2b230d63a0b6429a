"""`farebox check` for machines: SARIF, annotations of a CI run, and what fails when."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from config.findings import Finding
from proxy.cli.findings_formats import SARIF_SCHEMA, ci_annotations, sarif
from tests.proxy.cli.console import Console

WRONG = "version: 1\nrules:\n  - {id: all, allow: use}\n  - {id: a, deny: use, who: {teir: pro}}\n"
DOUBTFUL = "version: 1\nrules:\n  - {id: all, allow: use}\n  - {id: a, allow: use, who: {tag: x}}\n"

# What SARIF 2.1.0 (sections 3.13, 3.14, 3.18, 3.19, 3.27, 3.29, 3.30) requires of what Farebox writes.
_POSITION = {"type": "integer", "minimum": 1}
_RESULT = {
    "type": "object",
    "required": ["message", "ruleId", "ruleIndex", "level", "locations"],
    "additionalProperties": False,
    "properties": {
        "ruleId": {"type": "string"},
        "ruleIndex": {"type": "integer", "minimum": 0},
        "level": {"enum": ["none", "note", "warning", "error"]},
        "message": {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}},
        "locations": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["physicalLocation"],
                "properties": {
                    "physicalLocation": {
                        "type": "object",
                        "required": ["artifactLocation"],
                        "properties": {
                            "artifactLocation": {"properties": {"uri": {"type": "string", "pattern": r"^[^ \\]+$"}}},
                            "region": {
                                "required": ["startLine"],
                                "properties": {"startLine": _POSITION, "startColumn": _POSITION},
                            },
                        },
                    }
                },
            },
        },
    },
}
_RUN = {
    "type": "object",
    "required": ["tool", "results"],
    "properties": {
        "tool": {
            "required": ["driver"],
            "properties": {
                "driver": {
                    "required": ["name"],
                    "properties": {"rules": {"type": "array", "uniqueItems": True, "items": {"required": ["id"]}}},
                }
            },
        },
        "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
        "results": {"type": "array", "items": _RESULT},
    },
}
SHAPE = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {"version": {"const": "2.1.0"}, "$schema": {"const": SARIF_SCHEMA}, "runs": {"items": _RUN}},
}


def _policy(console: Console, text: str) -> None:
    (console.folder / "policies").mkdir()
    (console.folder / "policies" / "main.yaml").write_text(text)
    console.config.write_text(console.config.read_text() + "policies: policies/\n")


def test_sarif_has_the_shape_of_the_standard(bare: Console) -> None:
    """A result with a rule, a level, and a place for each finding; nothing else is on standard output."""
    _policy(bare, WRONG)
    result = bare.run("check", "--format", "sarif")
    assert result.exit_code == 1
    document: dict[str, Any] = json.loads(result.stdout)
    jsonschema.validate(document, SHAPE)
    (run,) = document["runs"]
    (found,) = run["results"]
    assert run["tool"]["driver"]["rules"][found["ruleIndex"]]["id"] == found["ruleId"] == "unknown-key"
    place = found["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"].endswith("policies/main.yaml")
    assert (place["region"]["startLine"], place["region"]["startColumn"]) == (4, 30)


def test_sarif_of_nothing_is_a_run_without_results() -> None:
    """So that earlier findings are known to be gone."""
    document = json.loads(sarif([]))
    jsonschema.validate(document, SHAPE)
    assert document["runs"][0]["results"] == []


def test_annotations_stand_on_their_lines(bare: Console) -> None:
    """One command for each finding, with its place."""
    _policy(bare, WRONG)
    result = bare.run("check", "--format", "github")
    assert result.exit_code == 1
    assert result.stdout.startswith("::error file=")
    assert (
        "policies/main.yaml,line=4,col=30,title=unknown-key::unknown key 'teir'; did you mean 'tier'?" in result.stdout
    )


def test_an_annotation_is_one_command() -> None:
    """Neither a message nor a name can begin another command."""
    finding = Finding("a,b:c.yaml", 1, 2, "x", "50%\n::error::no", severity="warning")
    assert ci_annotations([finding]) == "::warning file=a%2Cb%3Ac.yaml,line=1,col=2,title=x::50%25%0A::error::no"


@pytest.mark.parametrize(("strict", "code"), [((), 0), (("--strict",), 1)])
def test_warnings_fail_only_when_asked_to(bare: Console, strict: tuple[str, ...], code: int) -> None:
    """A doubt is told in any case; `--strict` makes it count."""
    _policy(bare, DOUBTFUL)
    result = bare.run("check", *strict)
    assert result.exit_code == code
    assert "main.yaml:4:10: warning: redundant: rule 'all' allows all of its calls already" in result.stderr
    answer = json.loads(bare.run("check", "--json", *strict).stdout)
    assert (answer["ok"], answer["findings"][0]["severity"]) == (code == 0, "warning")

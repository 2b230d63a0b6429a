"""Findings in the formats that machines read: SARIF for code scanning, annotations for continuous integration.

SARIF is version 2.1.0 (OASIS standard, 2020); annotations are the workflow commands of GitHub Actions, which other
systems understand as well.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from urllib.parse import quote

from config.findings import Finding

SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def sarif(findings: Sequence[Finding]) -> str:
    """One run with a result for each finding, and a rule for each of their codes."""
    codes = sorted({finding.code for finding in findings})
    driver = {
        "name": "farebox",
        "version": version("farebox"),
        "rules": [{"id": code, "name": code.title().replace("-", "")} for code in codes],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, codes.index(finding.code)) for finding in findings],
    }
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False)


def _result(finding: Finding, rule: int) -> dict[str, object]:
    region: dict[str, object] = {"startLine": finding.line, "startColumn": finding.column}
    if finding.source:
        region["snippet"] = {"text": finding.source}
    place = {"artifactLocation": {"uri": quote(finding.file)}, "region": region}
    return {
        "ruleId": finding.code,
        "ruleIndex": rule,
        "level": finding.severity,
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": place}],
    }


def ci_annotations(findings: Sequence[Finding]) -> str:
    """One workflow command for each finding."""
    return "\n".join(map(_annotation, findings))


def _annotation(finding: Finding) -> str:
    place = f"file={_property(finding.file)},line={finding.line},col={finding.column},title={_property(finding.code)}"
    return f"::{finding.severity} {place}::{_data(finding.message)}"


def _data(text: str) -> str:
    """A line break would end the command, and what follows could be one of its own."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

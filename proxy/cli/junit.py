"""Outcomes of policy cases as JUnit XML, which CI systems show as tests.

One suite for each file of cases, one test for each caller on each model.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from proxy.operations.policy_cases import Outcome


def junit(outcomes: Sequence[Outcome]) -> str:
    """The whole document."""
    suites = ElementTree.Element("testsuites", {"name": "farebox policy test", **_counts(outcomes)})
    for file in dict.fromkeys(outcome.file for outcome in outcomes):
        here = [outcome for outcome in outcomes if outcome.file == file]
        suite = ElementTree.SubElement(suites, "testsuite", {"name": file, **_counts(here)})
        for outcome in here:
            _case(suite, outcome)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _counts(outcomes: Sequence[Outcome]) -> dict[str, str]:
    failed = sum(not outcome.passed for outcome in outcomes)
    return {"tests": str(len(outcomes)), "failures": str(failed), "errors": "0", "skipped": "0"}


def _case(suite: ElementTree.Element, outcome: Outcome) -> None:
    asked = f"{outcome.model} by {outcome.request}" if outcome.request else outcome.model
    name = f"{outcome.caller} on {asked}: {outcome.expected}"
    case = ElementTree.SubElement(
        suite, "testcase", name=name, classname=outcome.file, file=outcome.file, line=str(outcome.line), time="0"
    )
    if outcome.problem is not None:
        message = f"expected {outcome.expected}; {outcome.problem}"
        ElementTree.SubElement(case, "failure", message=message).text = f"{outcome.file}:{outcome.line}: {message}"

"""Findings as people and editors read them."""

from __future__ import annotations

from config.findings import Finding, InvalidDocument, did_you_mean


def test_a_finding_is_one_line_and_its_place() -> None:
    """`file:line:column: code: message`, the line of the file, and a caret below the column."""
    finding = Finding("policies/main.yaml", 14, 17, "unknown-tier", "unknown tier 'por'", "    who: {tier: por}")
    assert str(finding).splitlines() == [
        "policies/main.yaml:14:17: unknown-tier: unknown tier 'por'",
        "   14 |     who: {tier: por}",
        "      |                 ^",
    ]


def test_the_caret_stands_below_its_place_after_tabs() -> None:
    """A tab is shown as wide as the reader likes; the line of the caret has the same tabs."""
    assert str(Finding("f", 1, 3, "c", "m", "\ta b")).splitlines()[2] == "      | \t ^"


def test_a_finding_without_a_line_is_its_head() -> None:
    """A missing file has no line to show."""
    assert str(Finding("f.yaml", 1, 1, "missing-file", "there is no file f.yaml")).count("\n") == 0


def test_a_finding_is_json_for_machines() -> None:
    """All of its parts, by name."""
    assert Finding("f", 1, 2, "c", "m", "s").as_json() == {
        "file": "f",
        "line": 1,
        "column": 2,
        "code": "c",
        "message": "m",
        "source": "s",
        "severity": "error",
    }


def test_an_invalid_document_says_everything() -> None:
    """Its text is all findings, in order."""
    one, two = Finding("f", 1, 1, "a", "first"), Finding("f", 2, 1, "b", "second")
    error = InvalidDocument([one, two])
    assert (error.findings, str(error)) == ((one, two), "f:1:1: a: first\nf:2:1: b: second")


def test_did_you_mean_suggests_what_is_near() -> None:
    """The nearest name, else the names when they are few, else nothing."""
    assert did_you_mean("por", ["free", "pro"]) == "; did you mean 'pro'?"
    assert did_you_mean("zzz", ["free", "pro"]) == "; known are free, pro"
    assert did_you_mean("zzz", [f"name-{number}" for number in range(13)]) == ""
    assert did_you_mean("zzz", []) == ""

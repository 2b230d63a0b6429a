"""Every finding about a policy, to the letter: where it is, what was found, what was expected."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from policies import checks, doubts
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
    assert all(finding.is_error for finding in found) == ("warning: " not in expected)


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

"""THREATS.md names the test that shows each defence: it has to exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TEXT = (TESTS.parent / "THREATS.md").read_text("utf-8")

NAMED = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", TEXT)


def test_the_tests_that_are_named_exist() -> None:
    """By file and function."""
    missing = []
    for file, name in NAMED:
        path = TESTS / file.removeprefix("tests/")
        if not path.is_file() or (name and not re.search(rf"def {name}\(", path.read_text("utf-8"))):
            missing.append(f"{file}::{name}")
    assert missing == []


def test_each_defence_is_shown() -> None:
    """No row of a threat is without its test, or without a word on what shows it."""
    rows = [row.strip("|").split("|") for row in re.findall(r"^\|.*\|$", TEXT, re.MULTILINE)]
    assert len(rows) > 30
    assert [row[0] for row in rows if len(row) != 3 or not row[-1].strip()] == []

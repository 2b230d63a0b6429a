"""docs/security.md: the table that it shows is of a long run, and nothing in it is wrong."""

from __future__ import annotations

import re

import tests.differential.bends  # noqa: F401 - fills the table of kinds
from tests.differential.drafts import KINDS
from tests.differential.report import BEGIN, END
from tests.docs.pages import DOCS

PAGE = (DOCS / "security.md").read_text("utf-8")
TABLE = PAGE.partition(BEGIN)[2].partition(END)[0]


def _rows() -> dict[str, list[int]]:
    rows = re.findall(r"^\| ([a-z ]+) \| ([0-9 |]+) \|$", TABLE, re.MULTILINE)
    return {name: [int(cell.replace(" ", "")) for cell in cells.split(" | ")] for name, cells in rows}


def test_a_table_that_is_shown_has_nothing_wrong_in_it() -> None:
    """It is of thousands of requests, hundreds of which came through, and of every kind of oddity."""
    rows = _rows()
    assert set(rows) >= set(KINDS)
    assert all(cells[4] == 0 for cells in rows.values())
    requests = int(re.findall(r"([0-9 ]+) odd requests", TABLE)[0].replace(" ", ""))
    reached = int(re.findall(r"([0-9 ]+) requests reached a backend", TABLE)[0].replace(" ", ""))
    assert requests >= 2000
    assert reached >= 500

"""docs/chaos.md: what it says is done is what the plan does, and its columns are those of the table."""

from __future__ import annotations

import re

from tests.chaos.audit import Wrong
from tests.chaos.plan import FIRST_STARTS, Target
from tests.chaos.report import BEGIN, COST, END, LAWS
from tests.docs.pages import DOCS

PAGE = (DOCS / "chaos.md").read_text("utf-8")


def _table_after(heading: str) -> list[str]:
    """The first cells of the table below a row of headings."""
    rows = PAGE.partition(heading)[2].partition("\n\n")[0].splitlines()[2:]
    return [row.removeprefix("| ").partition(" |")[0] for row in rows]


def test_what_happens_is_what_plans_have() -> None:
    """Every target, in words that the progress of a run also uses."""
    assert _table_after("| this happens, between") == [str(target) for target in Target]
    assert FIRST_STARTS == 3
    assert "killed three times while it makes the schema" in PAGE


def test_every_column_is_explained() -> None:
    """What can be wrong, and what a crash costs."""
    assert _table_after("| wrong is | when |") == [*Wrong, LAWS]
    assert _table_after("| cost | |") == [name for name in COST.values() if not name.startswith("of which")]


def test_a_table_that_is_shown_has_nothing_wrong_in_it() -> None:
    """It is of at least three hundred kills; a run that found something, or that was shorter, is not for show."""
    table = PAGE.partition(BEGIN)[2].partition(END)[0]
    kills = re.search(r"^Seed \d+, ([\d ]+) kills,", table, re.MULTILINE)
    assert kills is not None
    assert int(kills[1].replace(" ", "")) >= 300
    wrong = table.rpartition("\n\n|")[2]
    assert set(re.findall(r" (\d+) (?=\|)", wrong)) == {"0"}

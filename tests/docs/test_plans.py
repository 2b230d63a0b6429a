"""docs/plans.md: every key of a quota is there, and every command prints what it says."""

from __future__ import annotations

import re
from pathlib import Path

from policies.quota import ROLLOVER_WINDOWS
from policies.terms import Metric
from seeds.documents import PlanQuotaSeed
from tests.docs.pages import DOCS, Terminal, blocks, examples, run_as_printed

PAGE = "plans.md"
SETTINGS = """\
identity: {api_keys: true}
upstreams: {app: {url: "http://127.0.0.1:3000"}}
routes: [{id: site, match: GET /**, upstream: app, access: open}]
"""


def test_every_key_of_a_quota_is_in_the_table() -> None:
    """The table has exactly the keys that a seed may have, in their order."""
    written = re.findall(r"^\| `(\w+)` \|", (DOCS / PAGE).read_text("utf-8"), re.MULTILINE)
    assert written == list(PlanQuotaSeed.model_fields)


def test_the_bounds_are_those_of_the_code() -> None:
    """The page says how much may be carried over."""
    assert ROLLOVER_WINDOWS == {Metric.DAILY: 30, Metric.MONTHLY: 1}
    text = " ".join((DOCS / PAGE).read_text("utf-8").split())
    assert "at most thirty times the daily quota, and at most one monthly quota" in text


async def test_the_commands_print_what_the_page_says(tmp_path: Path) -> None:
    """In order, in a folder with the page's file and the smallest settings."""
    terminal = Terminal(tmp_path, {}, {})
    (tmp_path / "farebox.yaml").write_text(SETTINGS)
    for block in blocks(PAGE):
        if block.title:
            terminal.write(block)
    for example in examples(PAGE):
        await run_as_printed(example, terminal)

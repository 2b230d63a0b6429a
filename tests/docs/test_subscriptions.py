"""docs/subscriptions.md: its states and moves are those of the code, and its commands print what it says."""

from __future__ import annotations

import re
from pathlib import Path

from policies.subscription import CHECKOUT_TIME, ENTITLED, MOVES, Event, Status
from tests.docs.pages import DOCS, Terminal, blocks, examples, run_as_printed

PAGE = "subscriptions.md"
SETTINGS = """\
identity: {api_keys: true}
upstreams: {app: {url: "http://127.0.0.1:3000"}}
routes: [{id: site, match: GET /**, upstream: app, access: open}]
"""


def _text() -> str:
    return (DOCS / PAGE).read_text("utf-8")


def test_the_table_has_every_move_and_no_other() -> None:
    """From, event and to, in the order of the table in the code; each with a sentence."""
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| `(\w+)` \| ([A-Z].*\.) \|$", _text(), re.MULTILINE)
    assert [(Status(before), Event(event), Status(after)) for before, event, after, _ in rows] == [
        (before, event, after) for (before, event), after in MOVES.items()
    ]


def test_the_table_has_every_state() -> None:
    """With whether it entitles."""
    rows = re.findall(r"^\| `(\w+)` \| (yes|no) \| [A-Z].*\. \|$", _text(), re.MULTILINE)
    assert [(Status(state), entitles == "yes") for state, entitles in rows] == [
        (state, state in ENTITLED) for state in Status
    ]


def test_what_waits_for_its_payment_waits_a_day() -> None:
    """The page says so in several places."""
    assert CHECKOUT_TIME.days == 1
    assert "keeps its price for a day" in _text()


async def test_the_commands_print_what_the_page_says(tmp_path: Path) -> None:
    """In a folder with the page's plans, in order."""
    terminal = Terminal(tmp_path, {}, {})
    (tmp_path / "farebox.yaml").write_text(SETTINGS)
    (plans,) = [block for block in blocks(PAGE) if block.title]
    terminal.write(plans)
    for example in examples(PAGE):
        await run_as_printed(example, terminal)

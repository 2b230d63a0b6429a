"""docs/identity.md: its files are valid, its commands print what it says, its bounds are those of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.identity import failures, jwks, keys
from tests.docs.pages import DOCS, Terminal, blocks, examples, run_as_printed

PAGE = "identity.md"


async def test_the_commands_print_what_the_page_says(tmp_path: Path) -> None:
    """From the pair of keys to the finding about a private one, in a folder with the files of the page."""
    terminal = Terminal(tmp_path, {}, {})
    for block in blocks(PAGE):
        if block.language == "yaml" and block.title:
            terminal.write(block)
    for example in examples(PAGE):
        await run_as_printed(example, terminal)


@pytest.mark.parametrize(
    "said",
    [
        f"at most {keys.MAX_SET} keys in {jwks.MAX_BYTES // 2**10} KiB",
        f"within {jwks.FETCH_S} seconds",
        f"RSA keys below {keys.MIN_RSA_BITS} bits",
        f"memory of {failures.MAX_SOURCES} addresses",
    ],
)
def test_the_bounds_are_those_of_the_code(said: str) -> None:
    assert said in " ".join((DOCS / PAGE).read_text("utf-8").split())

"""All pages together: their links lead somewhere, and the index names each of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, blocks

HOUSE = DOCS.parent
PAGES = sorted(page for page in DOCS.glob("*.md") if not page.name.endswith(".intro.md"))


def _anchors(file: Path) -> set[str]:
    """The anchors that a renderer makes of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9_-]", "", heading.lower().replace(" ", "-")) for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, HOUSE / "README.md"], ids=lambda page: page.relative_to(HOUSE).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link leads to a file that is there, and its anchor to a heading of it."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if "://" not in target and (not file.exists() or (anchor and anchor not in _anchors(file))):
            broken.append(target)
    assert broken == []


def test_the_index_names_every_page() -> None:
    """A page that the index does not name would not be found."""
    index = set(re.findall(r"\]\((\S+\.md)\)", (DOCS / "README.md").read_text("utf-8")))
    assert index == {page.name for page in PAGES} - {"README.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_name_of_a_file_can_be_read(page: Path) -> None:
    """A block that is a file has its name in the paragraph before it, since a renderer does not show its title."""
    lines = page.read_text("utf-8").splitlines()
    for block in blocks(page.name):
        if block.title.endswith((".py", ".yaml")) and not block.title.startswith("from "):
            before = "\n".join(lines[: block.line - 1]).rstrip().rpartition("\n\n")[2]
            assert f"`{block.title}`" in before, block.place

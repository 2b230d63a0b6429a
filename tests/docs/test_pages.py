"""All pages together: their links lead somewhere, and the index names each of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS

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

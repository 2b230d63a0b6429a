"""The front page keeps its word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from config.settings import load_settings

HOUSE = Path(__file__).parents[2]
README = (HOUSE / "README.md").read_text("utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_settings_on_the_front_page_are_valid(tmp_path: Path) -> None:
    """Copied as they are, with the one secret that they ask for."""
    (tmp_path / "farebox.yaml").write_text(_blocks("yaml")[0])
    loaded = load_settings(tmp_path / "farebox.yaml", {"JWT_SECRET": "s" * 32})
    assert [route.id for route in loaded.values.routes] == ["generate-video", "site"]


def test_the_two_commands_are_there() -> None:
    """Everything that the page says to type is a target of the Makefile or a command of `farebox`."""
    makefile = (HOUSE / "Makefile").read_text("utf-8")
    for command in re.findall(r"^make (\w+)$", "\n".join(_blocks("sh")), re.MULTILINE):
        assert re.search(rf"^{command}:", makefile, re.MULTILINE)
    assert "make test" in README


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_what_a_page_points_at_exists(page: str) -> None:
    """Links and files in backticks."""
    text = (HOUSE / page).read_text("utf-8")
    linked = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    named = re.findall(r"`((?:proxy|policies|config|store|jobs|seeds|tests|docs)/[\w./-]+)`", text)
    for target in {*linked, *named}:
        assert (HOUSE / target).exists(), f"{page} points at {target}"

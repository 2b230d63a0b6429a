"""What may be installed beside Farebox: nothing older than its advisories allow, and the parser that is strict."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import aiohttp.http_parser
import pytest

from config.quantities import Address
from config.settings import load_settings
from proxy.app import CannotStart, farebox, listen
from proxy.installation import DEAD, FLOORS, _order, installed, troubles
from tests.config.samples import BASE

HOUSE = Path(__file__).parents[2]
GOOD = {floor.name: floor.version for floor in FLOORS}


def _with(**changed: str | None) -> Callable[[str], str | None]:
    found: Mapping[str, str | None] = {**GOOD, **changed}
    return lambda name: found.get(name)


def test_what_is_here_is_good() -> None:
    """What the tests run with; and a floor itself is enough."""
    assert troubles("compiled") == []
    assert troubles("compiled", _with()) == []


@pytest.mark.parametrize("floor", FLOORS, ids=lambda floor: floor.name)
def test_what_is_too_old_is_told_with_why_and_what_to_run(floor: object) -> None:
    """Found, needed, the reason, and the command; one sentence for each."""
    name, needed = floor.name, floor.version  # type: ignore[attr-defined]
    (told,) = troubles("compiled", _with(**{name: "0.9"}))
    assert told.startswith(f"{name} 0.9 is installed, and at least {needed} is needed: before that ")
    assert told.endswith(f"; run: pip install --upgrade '{name}>={needed}'")
    (missing,) = troubles("compiled", _with(**{name: None}))
    assert missing.startswith(f"{name} is not installed, and")


def test_the_dead_twin_of_the_policy_engine_is_refused() -> None:
    """Two distributions write one package."""
    (told,) = troubles("compiled", _with(casbin="1.43.0"))
    assert told.startswith("casbin is installed: it stopped in 2025")
    assert set(DEAD) == {"casbin"}


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("3.14.3", "3.14.4"),
        ("3.9.9", "3.14.4"),
        ("3.14.4rc1", "3.14.4"),
        ("3.14.4.dev0", "3.14.4"),
        ("3.14.4b2", "3.14.4"),
        ("3.14.4", "3.14.4.1"),
        ("3.14.4", "4"),
        ("nonsense", "0.1"),
        ("", "0.1"),
    ],
)
def test_versions_have_their_order(older: str, newer: str) -> None:
    """PEP 440: by numbers and not by letters, and what comes before a release is older than it."""
    assert _order(older) < _order(newer)
    for same in (newer, f"v{newer}", f"{newer}.0", f"{newer}+local", f"{newer}.post1", f"1!{newer}"):
        assert _order(same) >= _order(newer)


async def test_a_parser_in_python_is_refused_unless_the_settings_accept_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before anything is opened, with what to run and which key accepts it; and then with a warning."""
    monkeypatch.setattr(aiohttp.http_parser, "HttpRequestParser", aiohttp.http_parser.HttpRequestParserPy)
    (tmp_path / "farebox.yaml").write_text(BASE)
    settings = load_settings(tmp_path / "farebox.yaml", {})
    nowhere = Address("127.0.0.1", 0)
    with listen(nowhere) as public, pytest.raises(CannotStart, match="http_parser: any"):
        async with farebox(settings, public, None):
            pass
    assert not (tmp_path / "farebox.db").exists()
    accepted = replace(settings, values=settings.values.model_copy(update={"http_parser": "any"}))
    async with farebox(accepted, listen(nowhere), None):
        assert "aiohttp's parser in Python" in caplog.text


def test_a_fresh_install_is_above_every_floor() -> None:
    """What `pyproject.toml` asks for is at least what a start asks for."""
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text("utf-8"))["project"]
    asked = {
        match[1].lower(): match[2]
        for text in project["dependencies"]
        if (match := re.match(r"([A-Za-z-]+)(?:\[\w+\])?>=([0-9.]+)", text))
    }
    for floor in FLOORS:
        assert _order(asked[floor.name.lower()]) >= _order(floor.version), floor.name
        assert installed(floor.name) is not None

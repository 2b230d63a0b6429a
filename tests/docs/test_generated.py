"""The generated pages: they are what `make docs` writes, and nothing in them lacks its sentence."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from config.extractors import ProductSource, Settings
from config.settings import load_settings
from proxy.cli.failures import EXIT_CODES
from proxy.operations.table import OPERATIONS
from tests.docs.generator import generator
from tests.docs.pages import DOCS

GENERATE = generator()
SECTIONS = GENERATE.sections()
COMMANDS = dict(GENERATE.commands())
ENVIRONMENT = {
    "FAREBOX_ADMIN_TOKEN": "a token that an operator has",
    "ANA_TOKEN": "another one that Ana has",
    "JWT_SECRET": "x" * 32,
    "PROXY_SECRET": "y" * 32,
    "BACKEND_KEY": "a key",
}
ENVIRONMENT["CALLBACK_SECRET"] = "y" * 32


@pytest.mark.parametrize("page", sorted(GENERATE.pages()), ids=lambda path: path.name)
def test_a_generated_page_is_what_the_generator_writes(page: Path) -> None:
    """Whoever changes a setting or a command runs `make docs` and commits the page with it."""
    assert page.read_text("utf-8") == GENERATE.pages()[page]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.model.__name__)
def test_every_key_has_its_sentence(section: object) -> None:
    """Every field of the settings has a text under it that says what it means: a sentence, with its full stop."""
    model: type[BaseModel] = section.model  # type: ignore[attr-defined]
    meant = GENERATE.sentences(model)
    assert {name for name in model.model_fields if not meant.get(name, "").endswith(".")} == set()


def _given(value: object) -> set[tuple[str, str]]:
    """The keys that a validated file gives, each with the model that defines it."""
    if isinstance(value, dict | list | tuple):
        inner = value.values() if isinstance(value, dict) else value
        return {key for item in inner for key in _given(item)}
    if not isinstance(value, Settings):
        return set()
    found = {(_owner(type(value), name), name) for name in value.model_fields_set}
    return found.union(*(_given(getattr(value, name)) for name in value.model_fields_set))


def _owner(model: type[BaseModel], name: str) -> str:
    return next(owner.__name__ for owner in reversed(model.__mro__) if name in vars(owner).get("__annotations__", {}))


def test_the_file_with_every_key_loads_and_has_every_key() -> None:
    """docs/every-key.yaml is valid, and shows each key of each mapping in some place."""
    loaded = load_settings(DOCS / "every-key.yaml", ENVIRONMENT)
    every = {(_owner(section.model, name), name) for section in SECTIONS for name in section.model.model_fields}
    shown = {key for key in _given(loaded.values) if key[0] != "Match"}
    assert every - shown == set()
    assert ProductSource.__name__ in {model for model, _ in shown}


def test_the_links_of_the_reference_lead_to_headings() -> None:
    """A key whose value is a mapping links to the table of that mapping."""
    text = (DOCS / "configuration.md").read_text("utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9_-]", "", heading.lower().replace(" ", "-")) for heading in headings}
    assert len(anchors) == len(headings)
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= anchors


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name: str) -> None:
    """Each command has a heading, a sentence, an example, and a row with a sentence for each parameter."""
    text = (DOCS / "commands.md").read_text("utf-8")
    section = re.split(r"^#{2,3} ", text.partition(f"# farebox {name}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    command: click.Command = COMMANDS[name]
    assert command.help
    assert command.help.split(".")[0].split("\n")[0] in section
    assert f"farebox {name.partition(' ')[0]}" in section.partition("```sh")[2]
    rows = re.findall(r"^\| `(\S+?)[` .].*\| (.+) \|$", section, re.MULTILINE)
    hidden = {"--config", "--json"}
    shown = {name for name, _ in rows}
    for parameter in command.params:
        is_hidden = getattr(parameter, "hidden", False) or hidden & set(parameter.opts)
        written = parameter.opts[0] if isinstance(parameter, click.Option) else (parameter.name or "").upper()
        assert is_hidden or written in shown


def test_every_command_of_the_overview_is_there() -> None:
    """The page has exactly the commands that `farebox --help` and its groups list."""
    headings = re.findall(r"^#{2,3} farebox (.*)$", (DOCS / "commands.md").read_text("utf-8"), re.MULTILINE)
    assert headings == list(COMMANDS)
    assert {f"{operation.noun} {operation.verb}" for operation in OPERATIONS} <= set(headings)


def test_the_exit_codes_are_those_of_the_command_line() -> None:
    """The table of exit codes says what `farebox --help` says."""
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", (DOCS / "commands.md").read_text("utf-8"), re.MULTILINE)
    assert [[code, text] for code, text in rows] == [line.split(maxsplit=1) for line in EXIT_CODES.splitlines()]

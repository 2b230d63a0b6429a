"""docs/policies.md: every key of the language is there, every example is a policy, every command prints as said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from config.documents import validate
from config.yaml_source import YamlSource, parse_yaml
from policies.document import ModelAttributes, Payg, PolicyFile, Rule, SubscriptionTerms, Who
from policies.rulebook import DEFAULT_RULES, Rulebook, compile_rulebook
from policies.terms import Catalogue
from proxy.cli.catalogues import packaged
from proxy.operations.policy_cases import Case, CaseCaller, CasesFile
from tests.docs.pages import DOCS, Block, Terminal, blocks, examples, run_as_printed

PAGE = "policies.md"
SETTINGS = """\
policies: policies/
identity: {api_keys: true}
upstreams: {app: {url: "http://127.0.0.1:3000"}}
routes: [{id: site, match: GET /**, upstream: app, access: open}]
"""

TABLES: list[type[BaseModel]] = [PolicyFile, Rule, Who, ModelAttributes, CasesFile, CaseCaller, Case]
"""What the tables of the page are about, in their order."""

PARTS = [block for block in blocks(PAGE) if block.language == "yaml" and not block.title]


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def test_every_key_is_in_its_table() -> None:
    """Each table has exactly the keys of its mapping, in their order."""
    tables = re.findall(r"^\| key \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", (DOCS / PAGE).read_text("utf-8"), re.MULTILINE)
    written = [re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) for table in tables]
    assert written == [_keys(model) for model in TABLES]


@pytest.mark.parametrize("model", [Payg, SubscriptionTerms], ids=lambda model: model.__name__)
def test_the_small_mappings_are_told_in_their_row(model: type[BaseModel]) -> None:
    """`payg` and `subscription` have one key each, which the table names."""
    assert [f"`{key}`:" in (DOCS / PAGE).read_text("utf-8") for key in _keys(model)] == [True]


def _as_file(block: Block) -> PolicyFile:
    """The part of a file that a block shows, with what the page leaves out of all of them."""
    data: Any = parse_yaml(block.place, block.text).data
    document, _ = validate(YamlSource(block.place, block.text.splitlines(), {"version": 1, **data}), PolicyFile)
    return document.model_copy(update={"rules": [*DEFAULT_RULES, *document.rules]})


async def _catalogue() -> Catalogue:
    return (await packaged()).catalogue


@pytest.mark.parametrize("block", PARTS, ids=lambda block: block.place)
async def test_every_example_is_a_policy(block: Block) -> None:
    """Each part of a file compiles against the catalogue that comes with Farebox."""
    rulebook = compile_rulebook([(block.place, _as_file(block))], await _catalogue())
    assert isinstance(rulebook, Rulebook), rulebook


def _used(value: object) -> set[tuple[str, str]]:
    if isinstance(value, list):
        return {key for item in value for key in _used(item)}
    if not isinstance(value, BaseModel):
        return set()
    found = {(type(value).__name__, name) for name in value.model_fields_set}
    return found.union(*(_used(getattr(value, name)) for name in value.model_fields_set))


def test_every_key_has_an_example() -> None:
    """What the tables name stands in some example."""
    whole = [block for block in blocks(PAGE) if block.title == "policies/main.yaml"]
    used = {key for block in PARTS for key in _used(_as_file(block))}
    used |= {key for block in whole for key in _used(validate(parse_yaml(block.place, block.text), PolicyFile)[0])}
    every = {
        (model.__name__, name) for model in (PolicyFile, Rule, Who, ModelAttributes) for name in model.model_fields
    }
    assert every - used == set()


async def test_the_commands_print_what_the_page_says(tmp_path: Path) -> None:
    """Check, test, compare and explain, in order, in a folder with the files of the page."""
    terminal = Terminal(tmp_path, {}, {})
    (tmp_path / "farebox.yaml").write_text(SETTINGS)
    for block in blocks(PAGE):
        if block.title:
            terminal.write(block)
    status, printed = await terminal.run(Block(PAGE, 0, "sh", "", "farebox seed"))
    assert status == 0, printed
    for example in examples(PAGE):
        await run_as_printed(example, terminal)

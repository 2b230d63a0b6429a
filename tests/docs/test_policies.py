"""docs/policies.md: every key of the language is there, every example is a policy, every command prints as said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from config.documents import parse_document, validate
from config.settings import load_settings
from config.time_zones import zone_named
from config.yaml_source import YamlSource, parse_yaml
from policies.conditions import KINDS
from policies.document import Exemption, Limit, Payg, PolicyFile, Rule, SubscriptionTerms
from policies.rulebook import DEFAULT_RULES, Rulebook, compile_rulebook
from policies.scope import AtLeast, Mode, ModelAttributes, Scope, Who
from policies.terms import Catalogue
from proxy.cli.catalogues import packaged
from proxy.operations.imagined import CaseCaller
from proxy.operations.policy_cases import Case, CasesFile
from proxy.policy_reading import Routes, metered_routes
from tests.docs.generator import generator
from tests.docs.pages import Block, Terminal, blocks, examples, run_as_printed
from tests.flows.house import EXAMPLES, SECRET

PAGE = "policies.md"
GENERATE = generator()
SETTINGS = """\
policies: policies/
identity: {api_keys: true}
upstreams: {app: {url: "http://127.0.0.1:3000"}}
routes: [{id: site, match: GET /**, upstream: app, access: open}]
"""

LADDER = [rule.model_copy(update={"mode": Mode.ENFORCE}) for rule in DEFAULT_RULES]

PARTS = [block for block in blocks(PAGE) if block.language == "yaml" and not block.title]


def _as_file(block: Block) -> PolicyFile:
    """The part of a file that a block shows, with what the page leaves out of all of them."""
    data: Any = parse_yaml(block.place, block.text).data
    document, _ = validate(YamlSource(block.place, block.text.splitlines(), {"version": 1, **data}), PolicyFile)
    return document.model_copy(update={"rules": [*LADDER, *document.rules]})


@pytest.fixture(scope="module")
def for_sale() -> Catalogue:
    """The catalogue that comes with Farebox."""
    return asyncio.run(packaged()).catalogue


def _routes() -> Routes:
    """The routes of the example's settings."""
    environment = {"FAREBOX_ADMIN_TOKEN": "admin-" + SECRET, "JWT_SECRET": SECRET, "BACKEND_URL": "http://127.0.0.1:1"}
    return metered_routes(load_settings(EXAMPLES / "farebox.yaml", environment).values.routes)


@pytest.mark.parametrize("block", PARTS, ids=lambda block: block.place)
def test_every_example_is_a_policy(block: Block, for_sale: Catalogue) -> None:
    """Each part of a file compiles against the catalogue that comes with Farebox and the routes of the example."""
    rulebook = compile_rulebook([(block.place, _as_file(block))], for_sale, _routes(), zone_named)
    assert isinstance(rulebook, Rulebook), rulebook


_ENTRY = {"id": "r", "allow": "use"}
_PLACES: dict[type[BaseModel], Callable[[dict[str, Any]], dict[str, Any]]] = {
    PolicyFile: lambda given: given,
    Payg: lambda given: {"payg": given},
    SubscriptionTerms: lambda given: {"subscription": given},
    Scope: lambda given: {"rules": [{**_ENTRY, **({"app": "video-generator"} if "when" in given else {}), **given}]},
    Who: lambda given: {"rules": [{"id": "r", "allow": "use", "who": given}]},
    AtLeast: lambda given: {"rules": [{"id": "r", "allow": "use", "who": {"tier": given}}]},
    ModelAttributes: lambda given: {"rules": [{"id": "r", "allow": "use", "model": given}]},
    Rule: lambda given: {"rules": [{"id": "r", **({} if "allow" in given else {"deny": "use"}), **given}]},
    Exemption: lambda given: {"exemptions": [{"id": "e", **given}]},
    Limit: lambda given: {"limits": [{"id": "l", "requests": "1/second", **given}]},
}
"""Where in a file a mapping stands, with what it cannot be without."""

_CASE = {"caller": "pro", "allow": "chat:*"}
_CASE_PLACES: dict[type[BaseModel], Callable[[dict[str, Any]], dict[str, Any]]] = {
    CasesFile: lambda given: given,
    CaseCaller: lambda given: {"callers": {"pro": given}},
    Case: lambda given: {"cases": [given if "deny" in given else {**_CASE, **given}]},
}


def _examples_of(models: Iterable[type[BaseModel]]) -> list[tuple[type[BaseModel], str, object]]:
    return [
        (model, info.alias or name, example)
        for model in models
        for name, info in ((name, model.model_fields[name]) for name in GENERATE.policy_reference.own_fields(model))
        for example in info.examples or ()
    ]


def _label(value: object) -> str:
    return value.__name__ if isinstance(value, type) else str(value)


@pytest.mark.parametrize(("model", "key", "example"), _examples_of(_PLACES), ids=_label)
def test_every_example_of_a_key_is_valid(
    model: type[BaseModel], key: str, example: object, for_sale: Catalogue
) -> None:
    """What the reference shows may be written so, and nothing is wrong with it."""
    text = GENERATE.policy_reference.written({"version": 1, **_PLACES[model]({key: example})})
    document, _ = parse_document("main.yaml", text, PolicyFile)
    document = document.model_copy(update={"rules": [*LADDER, *document.rules]})
    rulebook = compile_rulebook([("main.yaml", document)], for_sale, _routes(), zone_named)
    assert isinstance(rulebook, Rulebook), rulebook


@pytest.mark.parametrize(("model", "key", "example"), _examples_of(_CASE_PLACES), ids=_label)
def test_every_example_of_a_case_is_valid(model: type[BaseModel], key: str, example: object) -> None:
    """The same for files of cases."""
    rest = {"version": 1, "now": "2026-01-15T12:00:00Z", "callers": {"pro": {}}, "cases": [_CASE]}
    given = {key: example, **({"deny": "a:*", "caller": "pro"} if key in ("requires", "deny") else {})}
    parse_document("cases.yaml", GENERATE.policy_reference.written({**rest, **_CASE_PLACES[model](given)}), CasesFile)


def test_every_key_is_explained_and_has_an_example() -> None:
    """No mapping is missing from the reference, and no key lacks its sentence or its example."""
    assert set(GENERATE.policy_reference.TITLES) == set(_PLACES) | set(_CASE_PLACES)
    for model in GENERATE.policy_reference.TITLES:
        for name, info in model.model_fields.items():
            assert (info.description or "").endswith("."), f"{model.__name__}.{name}"
            assert info.examples, f"{model.__name__}.{name}"


def test_every_name_of_a_condition_is_explained() -> None:
    """The table of `when` has each name that there is."""
    assert set(GENERATE.policy_reference.MEANINGS) == set(KINDS)


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

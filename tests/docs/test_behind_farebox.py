"""docs/behind-farebox.md: its files and commands lead from an empty folder to a charged request, as printed."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path

import pytest

from config.settings import load_settings
from config.yaml_source import parse_yaml, read_yaml
from policies.pricing import cost
from policies.refusals import Refusal
from policies.terms import Price
from proxy.pipeline.extraction import extract
from proxy.pipeline.parts import RequestParts
from tests.docs.pages import DOCS, ELSEWHERE, Block, Terminal, blocks, examples, free_addresses, run_as_printed
from tests.flows.house import EXAMPLES, SECRET

PAGE = "behind-farebox.md"
FROM_EXAMPLE = "from examples/farebox.yaml"
BACKEND, PUBLIC, ADMIN = "127.0.0.1:3000", "127.0.0.1:8080", "127.0.0.1:8081"

PARTS = ("upstreams", "callbacks", "paid", "rewrite", "job-usage", "proxies", "cors")
FRAGMENTS = [block for block in blocks(PAGE) if block.title in PARTS]
AROUND = """
identity: {api_keys: true}
upstreams: {render: {url: "http://127.0.0.1:3000"}}
routes: [{id: open, match: "GET /**", upstream: render, access: open}]
"""
QUOTED = [block for block in blocks(PAGE) if block.title == FROM_EXAMPLE]


async def test_the_page_leads_to_a_charged_request(tmp_path: Path) -> None:
    """Its backend, catalogue and settings, saved under their names; its commands, in order; with what they print."""
    terminal = Terminal(tmp_path, {}, free_addresses([BACKEND, PUBLIC, ADMIN]))
    for block in blocks(PAGE):
        if block.title and block.language in ("python", "yaml") and block.title != FROM_EXAMPLE:
            terminal.write(block)
    async with AsyncExitStack() as servers:
        for example in examples(PAGE):
            if example.command.title == ELSEWHERE:
                address = PUBLIC if "farebox serve" in example.command.text else BACKEND
                await servers.enter_async_context(terminal.start(example.command, address))
            else:
                await run_as_printed(example, terminal)


@pytest.mark.parametrize("block", QUOTED, ids=lambda block: block.place)
def test_routes_are_quoted_as_they_are(block: Block) -> None:
    """A route that the page takes from the example is there, key by key."""
    quoted = parse_yaml(block.place, block.text).data
    settings = read_yaml(EXAMPLES / "farebox.yaml").data
    assert isinstance(quoted, list)
    assert isinstance(settings, dict)
    assert quoted
    assert all(route in settings["routes"] for route in quoted)


@pytest.mark.parametrize("block", FRAGMENTS, ids=lambda block: block.title)
def test_parts_of_a_settings_file_are_valid(block: Block, tmp_path: Path) -> None:
    """What the page shows alone loads together with the keys that every file has."""
    keys = [line.partition(":")[0] for line in block.text.splitlines() if line[:1].isalpha()]
    kept = [line for line in AROUND.splitlines() if line.partition(":")[0] not in keys]
    (tmp_path / "authorities.pem").touch()
    (tmp_path / "farebox.yaml").write_text("\n".join([*kept, block.text]))
    load_settings(tmp_path / "farebox.yaml", {"CALLBACK_SECRET": "x" * 32, "BACKEND_SECRET": "y"})


def test_the_graphql_request_is_read_as_the_page_says(tmp_path: Path) -> None:
    """Two calls of one model, with the units of both added up; and as high as two requests, by the price it shows."""
    texts = {block.title: block.text for block in blocks(PAGE)}
    head = texts["farebox.yaml"].partition("routes:")[0]
    (tmp_path / "farebox.yaml").write_text(head + texts["graphql"])
    (route,) = load_settings(tmp_path / "farebox.yaml", {"JWT_SECRET": SECRET}).values.routes

    def read(model: str) -> object:
        second = {"model": model, "duration": 3}
        body = json.dumps({"query": texts["a request"], "variables": {"second": second}}).encode()
        return extract(route, RequestParts({}, "", [("Content-Type", "application/json")], body, {}))

    units = {"calls": Decimal(2), "duration_seconds": Decimal(11)}
    assert read("quick") == ("videos:quick", units)
    assert isinstance(read("fine"), Refusal)
    price = Price(base=5, rates={"calls": Decimal(5), "duration_seconds": Decimal(1)})
    assert "{base: 5, per: {calls: 5, duration_seconds: 1}}" in (DOCS / PAGE).read_text("utf-8")
    each = [{"calls": Decimal(1), "duration_seconds": Decimal(seconds)} for seconds in (8, 3)]
    assert cost(price, units) == sum(cost(price, one) for one in each)


def test_the_routes_of_websockets_can_be_served(tmp_path: Path) -> None:
    """They load, beside the rest of the page's own settings."""
    texts = {block.title: block.text for block in blocks(PAGE) if block.language == "yaml"}
    head = texts["farebox.yaml"].partition("routes:")[0]
    (tmp_path / "farebox.yaml").write_text(head + texts["websockets"])
    settings = load_settings(tmp_path / "farebox.yaml", {"JWT_SECRET": SECRET})
    charged = [route.websocket.charge for route in settings.values.routes if route.websocket is not None]
    assert charged == ["connection", "messages", "usage"]

"""docs/api.md: every endpoint is on the page, and every example prints what it says, against a running Farebox."""

from __future__ import annotations

import re

import pytest

from config.settings import Management, Subscriptions
from config.yaml_source import parse_yaml
from proxy.management.endpoints import all_endpoints, problems_of
from proxy.management.openapi import DOCUMENT
from tests.docs.conftest import Demo
from tests.docs.pages import DOCS, blocks, examples, run_as_printed

PAGE = "api.md"
ELSEWHERE = "where an operator confirms payments"

_ROW = re.compile(r"^\| `(GET|POST) (/\S+)` \| (.*) \|$", re.MULTILINE)


def test_every_endpoint_is_in_the_table() -> None:
    """The table has exactly the endpoints that are served, and says which of them need no token."""
    table = [
        (method, path, "No token needed." in text) for method, path, text in _ROW.findall((DOCS / PAGE).read_text())
    ]
    served = [(endpoint.method, endpoint.path, endpoint.public) for endpoint in all_endpoints()]
    assert table == [*served, ("GET", DOCUMENT, True)]


@pytest.mark.parametrize("path", [*(endpoint.path for endpoint in all_endpoints()), DOCUMENT])
def test_every_endpoint_has_an_example(path: str) -> None:
    """Each endpoint is asked in some block of commands."""
    commands = "\n".join(example.command.text for example in examples(PAGE))
    asked = re.escape(path).replace(re.escape("{appId}"), r"[\w-]+")
    assert re.search(rf'"\$FAREBOX/api{asked}["?]', commands)


async def test_the_examples_print_what_the_page_says(demo: Demo) -> None:
    """Every block of commands, in order, against the demo's seeds; keys, values and moments are as printed."""
    async with demo() as terminal:
        for example in examples(PAGE):
            if example.command.title != ELSEWHERE:
                await run_as_printed(example, terminal, exact_moments=True)


async def test_what_waits_for_a_payment_prints_what_the_page_says(demo: Demo) -> None:
    """The same where payments wait for an operator."""
    elsewhere = [example for example in examples(PAGE) if example.command.title == ELSEWHERE]
    assert elsewhere
    async with demo(subscriptions=Subscriptions(payment="operator")) as terminal:
        for example in elsewhere:
            await run_as_printed(example, terminal, exact_moments=True)


def test_the_settings_of_the_page_are_valid() -> None:
    """What the page switches off and moves can be written so, and names endpoints that exist."""
    block = next(block for block in blocks(PAGE) if block.language == "yaml")
    data = parse_yaml(block.place, block.text).data
    assert isinstance(data, dict)
    settings = Management.model_validate(data["management"])
    assert settings.off
    assert problems_of(settings.off) == []

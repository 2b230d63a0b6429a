"""docs/refusals.md: the table is that of the code, and the examples are what clients get."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest

from policies.refusals import Reason, Refusal, model_denied, quota_exceeded, store_unavailable
from policies.terms import Tier
from proxy.errors import STATUS, answer_to
from tests.docs.conftest import NOW, Demo
from tests.docs.pages import DOCS, assert_json, blocks, examples, run_as_printed

PAGE = "refusals.md"

_ROW = re.compile(r"^\| (\d{3}) \| `(\w+)` \| (.+) \| (.*) \|$", re.MULTILINE)


def _text() -> str:
    return (DOCS / PAGE).read_text("utf-8")


def test_the_table_is_that_of_the_code() -> None:
    """Each reason has one row with its status, and no row is about anything else; they stand by status."""
    rows = [(int(status), code) for status, code, _, _ in _ROW.findall(_text())]
    assert sorted(rows) == sorted((status, str(reason)) for reason, status in STATUS.items())
    assert [status for status, _ in rows] == sorted(STATUS.values())


def test_every_reason_has_a_status() -> None:
    """A reason without a status could not be answered."""
    assert set(STATUS) == set(Reason)


@pytest.mark.parametrize(
    ("refusal", "header"),
    [
        (Refusal(Reason.UNAUTHORIZED, "Unauthorized"), "WWW-Authenticate"),
        (Refusal(Reason.METHOD_NOT_ALLOWED, "Method not allowed"), "Allow"),
        (quota_exceeded("daily", 1, 1, NOW + timedelta(hours=1)), "Retry-After"),
        (store_unavailable(), "Retry-After"),
    ],
    ids=lambda value: str(getattr(value, "reason", value)),
)
def test_the_headers_are_those_of_the_table(refusal: Refusal, header: str) -> None:
    """The table of headers names each header with the statuses that have it."""
    row = next(line for line in _text().splitlines() if line.startswith(f"| `{header}` |"))
    answer = answer_to(refusal, "0AM8CB2R02000", NOW)
    assert str(answer.status) in row
    assert header in dict(answer.headers)


async def test_the_examples_print_what_the_page_says(demo: Demo) -> None:
    """Every refusal on the page, from a running Farebox with the demo's users."""
    async with demo() as terminal:
        for example in examples(PAGE):
            await run_as_printed(example, terminal, exact_moments=True)


def test_problem_details_are_as_printed() -> None:
    """The same refusal in the shape of RFC 9457, which no route of the example has."""
    block = next(block for block in blocks(PAGE) if "problem details" in block.title)
    refusal = model_denied("chat:gpt-4o", "This model requires pro tier or higher", None, Tier("pro"))
    answer = answer_to(refusal, "07FXRM480081X", NOW, "problem")
    assert_json(block, answer.body.decode(), exact_moments=True)
    assert ("Content-Type", "application/problem+json") in answer.headers
    assert json.loads(answer.body)["status"] == answer.status

"""Reading queries and bodies: strictly, and naming what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.refusals import Reason, Refusal
from proxy.management.quote import QuoteBody
from proxy.management.requests import read_body, read_query
from proxy.management.shapes import Page, Query
from proxy.management.subscription import CancelBody, SubscribeBody


def _refused(result: object) -> Refusal:
    assert isinstance(result, Refusal), result
    assert result.reason is Reason.INVALID_REQUEST
    return result


UNREADABLE: dict[str, bytes] = {
    "not JSON": b"planId=pro",
    "cut short": b'{"planId": "pro"',
    "more behind it": b'{"planId": "pro"} {}',
    "UTF-16": '{"planId": "pro"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"planId": "pro"}',
    "Latin-1": '{"planId": "é"}'.encode("latin-1"),
    "a key twice": b'{"planId": "free", "planId": "pro"}',
    "a key twice, escaped": b'{"planId": "free", "plan\\u0049d": "pro"}',
    "a key twice, deeper": b'{"planId": {"a": 1, "a": 2}}',
    "half a surrogate pair": b'{"planId": "\\ud83d"}',
    "half a pair in a key": b'{"\\ud83d": "pro"}',
    "infinite": b'{"planId": Infinity}',
    "nested without end": b'{"planId": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "a huge number": b'{"planId": ' + b"9" * 5_000 + b"}",
    "a single quote": b"{'planId': 'pro'}",
}


@pytest.mark.parametrize("raw", UNREADABLE.values(), ids=UNREADABLE)
def test_a_body_that_can_be_read_in_two_ways_or_none_is_refused(raw: bytes) -> None:
    """The sentence says that the body cannot be read, and the hint what to send."""
    refusal = _refused(read_body(raw, SubscribeBody, optional=False))
    assert refusal.error.startswith("The request body cannot be read")
    assert refusal.hint == "Send a JSON object with planId."


WRONG: dict[str, tuple[bytes, str | None, str]] = {
    "missing": (b"{}", "planId", "planId is missing"),
    "another key": (b'{"planId": "pro", "planid": 1}', "planid", "did you mean 'planId'?"),
    "a number": (b'{"planId": 17}', "planId", "valid string"),
    "null": (b'{"planId": null}', "planId", "valid string"),
    "empty": (b'{"planId": ""}', "planId", "at least 1 character"),
    "endless": (b'{"planId": "' + b"x" * 201 + b'"}', "planId", "at most 200 characters"),
    "the Python name": (b'{"plan_id": "pro"}', "planId", "planId is missing"),
    "a list": (b"[]", None, "not a JSON object"),
    "a text": (b'"pro"', None, "not a JSON object"),
    "nothing": (b"null", None, "not a JSON object"),
}


@pytest.mark.parametrize(("raw", "field", "sentence"), WRONG.values(), ids=WRONG)
def test_a_wrong_field_is_named(raw: bytes, field: str | None, sentence: str) -> None:
    """In the sentence and, where it is a field, in `field`."""
    refusal = _refused(read_body(raw, SubscribeBody, optional=False))
    assert refusal.fields.get("field") == field
    assert sentence in refusal.error


def test_a_field_deep_in_the_body_is_named_by_its_path() -> None:
    """`units.duration_seconds`, as one would write it in code."""
    refusal = _refused(read_body(b'{"modelKey": "a:b", "units": {"duration_seconds": -1}}', QuoteBody, optional=False))
    assert refusal.fields["field"] == "units.duration_seconds"


def test_an_empty_body_is_refused_or_means_nothing() -> None:
    """Where a body is optional, none is one without fields; elsewhere it is missing."""
    assert read_body(b"", CancelBody, optional=True) == CancelBody()
    refusal = _refused(read_body(b"", SubscribeBody, optional=False))
    assert refusal.error == "The request body is missing"


@pytest.mark.parametrize("body", [b'{"immediately": 1}', b'{"immediately": "true"}', b'{"immediately": null}'])
def test_nothing_is_coerced(body: bytes) -> None:
    """Ending a subscription now takes a true `true`."""
    assert _refused(read_body(body, CancelBody, optional=True)).fields["field"] == "immediately"


def test_a_reason_may_have_lines_and_no_nul() -> None:
    """It is stored, and PostgreSQL has no texts with a NUL."""
    body = read_body('{"reason": "Zu teuer.\\nÀ bientôt 👋"}'.encode(), CancelBody, optional=True)
    assert body == CancelBody(reason="Zu teuer.\nÀ bientôt 👋")
    assert _refused(read_body(b'{"reason": "a\\u0000b"}', CancelBody, optional=True)).fields["field"] == "reason"


def test_a_long_unknown_key_is_not_repeated_whole() -> None:
    """An answer is not larger than it has to be because the request was."""
    refusal = _refused(read_body(b'{"planId": "pro", "' + b"k" * 60_000 + b'": 1}', SubscribeBody, optional=False))
    assert len(str(refusal)) < 1000


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    """Never an exception, whatever arrives."""
    assert isinstance(read_body(raw, QuoteBody, optional=False), QuoteBody | Refusal)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["modelKey", "units", "planId", "reason"]) | st.text(max_size=5), json_values))
def test_any_json_is_read_or_refused(value: dict[str, Any]) -> None:
    """With values of every kind in the fields that exist and in some that do not."""
    raw = json.dumps(value).encode()
    for kind in (QuoteBody, CancelBody):
        assert isinstance(read_body(raw, kind, optional=False), kind | Refusal)


def test_a_query_is_read_with_its_defaults() -> None:
    """Without parameters, fifty rows from the newest."""
    assert read_query("", Page) == Page()
    assert read_query("limit=7&cursor=12&envelope=1", Page) == Page(limit=7, cursor="12", envelope="1")


def test_parameters_of_others_are_not_looked_at() -> None:
    """Clients add cache busters, also twice; only what is known has to be right."""
    assert read_query("_=1&_=2&utm_source=mail&limit=7", Page) == Page(limit=7)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=1&limit=1", "limit"),
        ("limit=", "limit"),
        ("limit=201", "limit"),
        ("limit=1.5", "limit"),
        ("limit=%D9%A1x", "limit"),
        ("cursor=" + "1" * 41, "cursor"),
        ("envelope=yes", "envelope"),
        ("cursor=%FF", None),
        ("&".join(f"p{number}=1" for number in range(101)), None),
    ],
)
def test_a_bad_query_is_refused(query: str, field: str | None) -> None:
    """With the parameter's name where it is one of ours."""
    assert _refused(read_query(query, Page)).fields.get("field") == field


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=100))
def test_any_query_is_read_or_refused(query: str) -> None:
    """Never an exception, whatever stands behind the question mark."""
    for kind in (Page, Query):
        assert isinstance(read_query(query, kind), kind | Refusal)

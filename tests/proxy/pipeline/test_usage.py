"""What an exchange has used: from documents, headers, bytes and time, believed or not."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from config.extractors import UnitSource, UsageSource
from proxy.pipeline.metering import MAX_UNITS, EventStreamReader
from proxy.pipeline.usage import Passed, usage_in, wanted_of

PASSED = Passed([("X-Units", " 7.5 "), ("x-two", "1"), ("X-Two", "2"), ("X-Bad", "-1")], 1000, 50, 2.125)


def used(source: dict[str, Any], *documents: Any) -> Decimal | None:
    wanted = wanted_of({"unit": UsageSource.model_validate(source)})
    found = usage_in(documents, wanted, PASSED)
    return None if found is None else found["unit"]


@pytest.mark.parametrize(
    ("source", "documents", "expected"),
    [
        ({"json": "/n"}, [{"n": 3}], 3),
        ({"json": "/n"}, [{"n": 3}, {"n": 4}, {"m": 5}], 4),
        ({"json": "/a", "length": True}, [{"a": [1, 2, 3]}], 3),
        ({"json": "/a", "length": True}, [{"a": []}], 0),
        ({"json": "/a", "length": True}, [{"a": "abc"}], None),
        ({"json": "/a", "length": True}, [{"a": 3}], None),
        ({"json": "/a", "length": True}, [{}], None),
        ({"json": "/a", "length": True, "default": 2}, [{}], 2),
        ({"json": "/n", "default": 5}, [{}], 5),
        ({"json": "/n", "default": 5}, [], 5),
        ({"json": "/n", "default": 5}, [{"n": None}], 5),
        ({"json": "/n", "default": 5}, [{"n": -1}], None),
        ({"json": "/n", "default": 5}, [{"n": "1"}], None),
        ({"json": "/n", "default": 5}, [{"n": True}], None),
        ({"json": "/n", "max": 10}, [{"n": 10}], 10),
        ({"json": "/n", "max": 10}, [{"n": Decimal("10.1")}], None),
        ({"json": "/n", "max": 10, "default": 1}, [{"n": 11}], None),
        ({"json": "/n"}, [{"n": int(MAX_UNITS) + 1}], None),
        ({"json": "/n"}, [{"n": Decimal("NaN")}], None),
        ({"json": "/n"}, [{"n": Decimal("sNaN")}], None),
        ({"json": "/n"}, [{"n": Decimal("-Infinity")}], None),
        ({"header": "x-units"}, [], Decimal("7.5")),
        ({"header": "X-Two"}, [], None),
        ({"header": "X-Bad"}, [], None),
        ({"header": "X-Bad", "default": 3}, [], None),
        ({"header": "X-None"}, [], None),
        ({"header": "X-None", "default": 3}, [], 3),
        ({"bytes": "request"}, [], 1000),
        ({"bytes": "answer"}, [], 50),
        ({"bytes": "answer", "max": 49}, [], None),
        ({"seconds": True}, [], Decimal("2.125")),
    ],
)
def test_what_is_stated_is_used(source: dict[str, Any], documents: list[Any], expected: Any) -> None:
    """A default stands in for what is missing, and never for what cannot be believed."""
    assert used(source, *documents) == expected


def test_one_unit_that_cannot_be_believed_spoils_all() -> None:
    """The quote is charged then: half a usage would leave something out."""
    sources = {"a": {"json": "/a"}, "b": {"seconds": True}}
    wanted = wanted_of({name: UsageSource.model_validate(source) for name, source in sources.items()})
    assert usage_in([{"a": 1}], wanted, PASSED) == {"a": 1, "b": Decimal("2.125")}
    assert usage_in([{"a": -1}], wanted, PASSED) is None


def _stream(*documents: object) -> bytes:
    return b"".join(b"data: " + json.dumps(document).encode() + b"\n\n" for document in documents)


def summed(data: bytes, at: int | None = None) -> Decimal | None:
    source = {"unit": UsageSource.model_validate({"json": "/d/n", "sum": True})}
    wanted = wanted_of(source)
    pointers = [unit.pointer for unit in wanted if unit.pointer is not None]
    reader = EventStreamReader(1000, pointers, frozenset(pointers))
    for piece in (data,) if at is None else (data[:at], data[at:]):
        reader.feed(piece)
    found = usage_in(reader.documents(), wanted, PASSED)
    return None if found is None else found["unit"]


def test_events_are_added_up() -> None:
    """What each states, however the pieces are cut; events that state nothing add nothing."""
    data = _stream({"d": {"n": 1}}, {"x": 1}, {"d": {"n": 2.5}}, {"d": {}}, {"d": {"n": 0}})
    for at in range(len(data)):
        assert summed(data, at) == Decimal("3.5")
    assert summed(_stream({"x": 1})) is None
    assert summed(b"") is None


@pytest.mark.parametrize("wrong", [-1, "1", True, [1], {"n": 1}, 10**13])
def test_one_event_that_cannot_be_believed_spoils_the_sum(wrong: object) -> None:
    """Wherever it comes; what follows does not mend it."""
    for order in ([wrong, 1], [1, wrong, 1], [1, wrong]):
        assert summed(_stream(*({"d": {"n": value}} for value in order))) is None


@given(st.lists(st.integers(0, 10**6), max_size=20))
def test_a_sum_is_the_sum(values: list[int]) -> None:
    assert summed(_stream(*({"d": {"n": value}} for value in values))) == (sum(values) if values else None)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=3),
    max_leaves=10,
)
sources = st.sampled_from(
    [
        {"json": "/a"},
        {"json": "/a/b", "default": 1},
        {"json": "", "length": True},
        {"json": "/a", "length": True, "max": 2},
        {"json": "/a/0", "sum": True},
        {"header": "X-Any"},
    ]
)


@given(sources, st.lists(anything, max_size=3), st.text(max_size=20))
def test_nothing_that_is_stated_raises_or_lowers(source: dict[str, Any], documents: list[Any], header: str) -> None:
    """Whatever a backend says, it is a number from nothing to a million millions, or no usage."""
    wanted = wanted_of({"unit": UsageSource.model_validate(source)})
    found = usage_in(documents, wanted, Passed([("X-Any", header)], 0, 0, 0.0))
    assert found is None or 0 <= found["unit"] <= MAX_UNITS


@pytest.mark.parametrize(
    "source",
    [
        {},
        {"json": "/a", "header": "X"},
        {"json": "/a", "seconds": True},
        {"seconds": False},
        {"bytes": "both"},
        {"header": "X", "length": True},
        {"bytes": "answer", "sum": True},
        {"json": "/a", "length": True, "sum": True},
        {"json": "/a", "max": -1},
        {"json": "/a", "default": -1},
        {"json": "/a", "default": 3, "max": 2},
        {"json": "a"},
    ],
)
def test_a_source_of_usage_is_one_place(source: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        UsageSource.model_validate(source)


@pytest.mark.parametrize(
    "source",
    [
        {"json": "/a"},
        {"json": "/a", "values": {"x": 1}, "present": True},
        {"json": "/a", "values": {"x": 1}, "length": True},
        {"json": "/a", "values": {"x": -1}},
        {"json": "/a", "values": {"x": 1}, "default": 2},
        {"json": "/a", "present": True, "min": 2},
        {"json": "/a", "values": {"x": 1}, "max": 0, "min": 1},
    ],
)
def test_a_unit_is_read_in_one_way_and_bounded(source: dict[str, Any]) -> None:
    """Without a most, nothing would bound what a request can cost."""
    with pytest.raises(ValidationError):
        UnitSource.model_validate(source)

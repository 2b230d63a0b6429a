"""What verbs accept as arguments."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from policies.refusals import Reason, Refusal
from policies.terms import MAX_AMOUNT
from proxy.operations.arguments import MAX_PAGE
from proxy.operations.table import OPERATIONS

ANYTHING = st.one_of(
    st.text(),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.decimals(),
    st.lists(st.text(), max_size=3),
    st.dictionaries(st.text(), st.text(), max_size=2),
)


@settings(deadline=None)
@given(st.sampled_from(OPERATIONS), st.data())
def test_any_arguments_are_read_or_refused(operation: object, data: st.DataObject) -> None:
    """Whatever is sent for whichever argument: checked arguments within their bounds, or an invalid request."""
    from proxy.operations.operation import Operation

    assert isinstance(operation, Operation)
    names = [*operation.arguments.model_fields, "unknown"]
    read = operation.read(data.draw(st.dictionaries(st.sampled_from(names), ANYTHING)))
    if isinstance(read, Refusal):
        assert read.reason is Reason.INVALID_REQUEST
        assert read.error
        return
    assert isinstance(read, BaseModel)
    for value in vars(read).values():
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            assert 0 <= value < max(2**63, MAX_AMOUNT)
    assert getattr(read, "limit", 1) <= MAX_PAGE


@pytest.mark.parametrize("number", ["1e5000", "-1e5000", "1e-5000", "0e5000"])
def test_no_argument_is_a_number_without_end(number: str) -> None:
    """Refused by its exponent: whoever writes it out, to see whether it is whole, takes minutes for a few letters."""
    for operation in OPERATIONS:
        for name in operation.arguments.model_fields:
            read = operation.read({name: Decimal(number)})
            assert isinstance(read, Refusal)
            assert f"{name}: expected a number with an exponent of at most 30" in read.error


def test_every_verb_is_named_once() -> None:
    """A noun and a verb are one operation, with a sentence and an example that begins with them."""
    names = [(operation.noun, operation.verb) for operation in OPERATIONS]
    assert len(names) == len(set(names))
    for operation in OPERATIONS:
        assert operation.example.startswith(f"{operation.noun} {operation.verb}")
        assert operation.sentence.endswith(".")


def test_every_argument_is_described() -> None:
    """The sentence of an argument is what the help and the API say about it."""
    for operation in OPERATIONS:
        for name, field in operation.arguments.model_fields.items():
            assert field.description, f"{operation.noun} {operation.verb}: {name}"

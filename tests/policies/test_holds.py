"""The life of a hold: it ends once."""

from __future__ import annotations

from itertools import product

from policies.holds import MOVES, HoldState, may_move


def test_a_hold_ends_exactly_once() -> None:
    """From `reserved` every end can be reached, and from an end nothing, not even the same end again."""
    for state, to in product(HoldState, HoldState):
        assert may_move(state, to) == (state is HoldState.RESERVED and to is not HoldState.RESERVED)


def test_the_table_is_the_whole_truth() -> None:
    """`may_move` says what the table says: SQL guards and documentation derive from it."""
    assert {(state, to) for state, to in product(HoldState, HoldState) if may_move(state, to)} == MOVES

"""The life of a hold: it ends once."""

from __future__ import annotations

from itertools import product

from policies.holds import MOVES, HoldState, may_charge_late, may_move
from policies.terms import OnLate


def test_a_hold_ends_exactly_once() -> None:
    """From `reserved` every end can be reached, and from an end nothing, not even the same end again."""
    for state, to in product(HoldState, HoldState):
        assert may_move(state, to) == (state is HoldState.RESERVED and to is not HoldState.RESERVED)


def test_the_table_is_the_whole_truth() -> None:
    """`may_move` says what the table says: SQL guards and documentation derive from it."""
    assert {(state, to) for state, to in product(HoldState, HoldState) if may_move(state, to)} == MOVES


def test_only_what_expired_is_charged_late_and_only_once() -> None:
    """Where its rule says so; a release is a decision, and a settlement has charged already."""
    for state, rule, charged in product(HoldState, OnLate, (False, True)):
        may = may_charge_late(state, rule, charged)
        assert may == (state is HoldState.EXPIRED and rule is OnLate.CHARGE and not charged)

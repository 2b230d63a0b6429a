"""The life of a hold, as a table.

    reserved ──▶ settled | released | expired

A hold is an amount taken aside before a request is forwarded. It ends exactly once: whoever moves it first decides,
everyone later reads the stored outcome. The SQL guards, the documentation and the tests derive from `MOVES`.

A settlement that comes after `expired` never brings the hold back. Where the hold's rule says `charge` it is charged
late instead, once: an entry of its own, from what the account has then, while the hold stays expired.
"""

from __future__ import annotations

from enum import StrEnum

from policies.terms import OnLate


class HoldState(StrEnum):
    RESERVED = "reserved"
    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"


MOVES: frozenset[tuple[HoldState, HoldState]] = frozenset(
    {
        (HoldState.RESERVED, HoldState.SETTLED),
        (HoldState.RESERVED, HoldState.RELEASED),
        (HoldState.RESERVED, HoldState.EXPIRED),
    }
)


def may_move(state: HoldState, to: HoldState) -> bool:
    """Whether a hold in `state` may move to `to`. Nothing leaves a final state."""
    return (state, to) in MOVES


def may_charge_late(state: HoldState, rule: OnLate, charged: bool) -> bool:
    """Whether a settlement may still charge a hold that has ended without it; `charged` tells that one has."""
    return state is HoldState.EXPIRED and rule is OnLate.CHARGE and not charged

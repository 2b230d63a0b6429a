"""The life of a hold, as a table.

    reserved ──▶ settled | released | expired

A hold is an amount taken aside before a request is forwarded. It ends exactly once: whoever moves it first decides,
everyone later reads the stored outcome. The SQL guards, the documentation and the tests derive from `MOVES`.
"""

from __future__ import annotations

from enum import StrEnum


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

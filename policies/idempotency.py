"""What a request with an `Idempotency-Key` may do, when the key was used before.

| the key's first request                                  | this one                                           |
|-----------------------------------------------------------|----------------------------------------------------|
| has kept its answer, and asked for the same               | gets that answer again                             |
| was charged, or accepted as a job, without a kept answer  | is told so: it must not run again                  |
| still runs                                                | is told to wait                                    |
| asked for something else                                  | is refused                                         |
| came to nothing: no hold, or one that was given back      | takes the key over and runs                        |
| is older than keys are kept                               | takes the key over and runs                        |

What became of the first request is read from its hold, whose life is exact (`policies.holds`): there is no second state
that could disagree with it, whatever crashes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from policies.holds import HoldState, may_charge_late
from policies.terms import OnLate


class Verdict(StrEnum):
    """What a request with a key that was used before may do."""

    RUN = "run"
    REPLAY = "replay"
    CONFLICT = "conflict"
    WAIT = "wait"
    ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class First:
    """The first request of a key. `hold` is the state of its hold, or None while there is none."""

    same: bool
    answer_kept: bool
    claimed_at: datetime
    expires_at: datetime
    hold: HoldState | None
    is_job: bool = False
    on_late: OnLate = OnLate.NONE
    late: bool = False


def decide(first: First, now: datetime, patience: timedelta) -> Verdict:
    """What to do with another request of the same key. A first one without a hold is given up after `patience`."""
    if first.expires_at <= now:
        return Verdict.RUN
    if not first.answer_kept and _came_to_nothing(first, now, patience):
        return Verdict.RUN
    if not first.same:
        return Verdict.CONFLICT
    if first.answer_kept:
        return Verdict.REPLAY
    if first.hold in (None, HoldState.RESERVED) and not first.is_job:
        return Verdict.WAIT
    return Verdict.ANSWERED


def _came_to_nothing(first: First, now: datetime, patience: timedelta) -> bool:
    if first.hold is None:
        return first.claimed_at + patience <= now
    if first.is_job or first.late or may_charge_late(first.hold, first.on_late, first.late):
        return False
    return first.hold in (HoldState.RELEASED, HoldState.EXPIRED)

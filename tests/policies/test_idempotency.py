"""What a request may do whose idempotency key was used before: every state of the first one, as a table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from policies.holds import HoldState
from policies.idempotency import First, Verdict, decide
from policies.terms import OnLate

NOW = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)
PATIENCE = timedelta(minutes=10)


def first(hold: HoldState | None, *, same: bool = True, kept: bool = False, age: int = 1, **more: object) -> First:
    claimed_at = NOW - timedelta(minutes=age)
    return First(same, kept, claimed_at, claimed_at + timedelta(days=1), hold, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("earlier", "verdict"),
    [
        (first(None), Verdict.WAIT),
        (first(None, age=9), Verdict.WAIT),
        (first(None, age=10), Verdict.RUN),
        (first(HoldState.RESERVED), Verdict.WAIT),
        (first(HoldState.RESERVED, age=1000), Verdict.WAIT),
        (first(HoldState.RESERVED, is_job=True), Verdict.ANSWERED),
        (first(HoldState.RESERVED, is_job=True, kept=True), Verdict.REPLAY),
        (first(HoldState.SETTLED), Verdict.ANSWERED),
        (first(HoldState.SETTLED, kept=True), Verdict.REPLAY),
        (first(HoldState.RELEASED), Verdict.RUN),
        (first(HoldState.RELEASED, is_job=True), Verdict.ANSWERED),
        (first(HoldState.RELEASED, is_job=True, kept=True), Verdict.REPLAY),
        (first(HoldState.EXPIRED), Verdict.RUN),
        (first(HoldState.EXPIRED, is_job=True), Verdict.ANSWERED),
        (first(HoldState.EXPIRED, on_late=OnLate.CHARGE), Verdict.ANSWERED),
        (first(HoldState.EXPIRED, on_late=OnLate.CHARGE, late=True), Verdict.ANSWERED),
    ],
)
def test_the_same_request_again(earlier: First, verdict: Verdict) -> None:
    """It runs only where nothing came of the first one, and nothing can come of it any more."""
    assert decide(earlier, NOW, PATIENCE) is verdict


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("hold", [None, *HoldState])
def test_another_request(hold: HoldState | None, kept: bool) -> None:
    """A conflict, except where nothing came of the first one."""
    nothing = not kept and hold in (HoldState.RELEASED, HoldState.EXPIRED)
    verdict = decide(first(hold, same=False, kept=kept), NOW, PATIENCE)
    assert verdict is (Verdict.RUN if nothing else Verdict.CONFLICT)


@pytest.mark.parametrize("hold", [None, *HoldState])
def test_a_key_that_has_expired_counts_as_unused(hold: HoldState | None) -> None:
    """To the moment, and whatever became of the first request; nobody waits for the job that forgets it."""
    for same in (True, False):
        for kept in (True, False):
            earlier = first(hold, same=same, kept=kept, age=24 * 60)
            assert decide(earlier, NOW, PATIENCE) is Verdict.RUN
            assert decide(earlier, NOW - timedelta(microseconds=1), timedelta(days=2)) is not Verdict.RUN or (
                not kept and hold in (HoldState.RELEASED, HoldState.EXPIRED)
            )

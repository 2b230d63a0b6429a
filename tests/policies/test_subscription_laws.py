"""Laws that hold for a subscription whatever its owner, its payments and the clock do to it.

A machine plays random lives: it subscribes, tries, pays, cancels, resumes, changes plans and lets time pass, sometimes
writing down what time has done and sometimes not. After every step the laws are checked against a few numbers that the
machine keeps itself: how long access has been paid for, and what the money was worth.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from policies.proration import Direction, quote_change, unused
from policies.subscription import CURRENT, NotPossible, Status, Subscription, add_cycles, resolve, start
from policies.subscription_acts import cancel, change_plan, pay, resume
from policies.terms import AccountId, Cycle, Plan
from tests.policies.samples import plan
from tests.policies.subscribers import HOUR, TIERS

PLANS = (
    plan("free", 0, version_id=1, daily_quota=10),
    plan("free", 0, version_id=2, plan_id="free-yearly", daily_quota=20, cycle=Cycle.YEARLY),
    plan("basic", 99_000, version_id=3, daily_quota=50, trial_days=14),
    plan("basic", 950_000, version_id=4, plan_id="basic-yearly", daily_quota=50, cycle=Cycle.YEARLY),
    plan("pro", 299_000, version_id=5, daily_quota=100, trial_days=30),
    plan("pro", 280_000, version_id=6, plan_id="pro-sale", daily_quota=100),
    plan("pro", 2_870_000, version_id=7, plan_id="pro-yearly", daily_quota=100, cycle=Cycle.YEARLY),
    plan("enterprise", 999_000, version_id=8, daily_quota=500),
)
_plans = st.sampled_from(PLANS)
_starts = st.one_of(
    st.sampled_from(
        [datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC), datetime(2025, 8, 30, tzinfo=UTC)]
    ),
    st.datetimes(datetime(2023, 1, 1), datetime(2025, 12, 31), timezones=st.just(UTC)),
)


def _worth(row: Subscription, now: datetime) -> Fraction:
    """What is left of the paid period, and the credit."""
    if row.status is not Status.ACTIVE:
        return Fraction(row.carried)
    left = row.period_end - max(now, row.period_start)
    return row.carried + row.plan.price * Fraction(left // timedelta(microseconds=1), _micros(row))


def _an_hour(row: Subscription) -> Fraction:
    """What is gained or lost by counting an hour that has begun as one that is left, and a minor unit of rounding."""
    return 1 + row.plan.price * Fraction(HOUR // timedelta(microseconds=1), _micros(row))


def _micros(row: Subscription) -> int:
    return (row.period_end - row.period_start) // timedelta(microseconds=1)


class Lifetime(RuleBasedStateMachine):
    """One account. `stored` may lag behind, as it does when no job has run; `row` is what it really is."""

    @initialize(now=_starts)
    def begin(self, now: datetime) -> None:
        self.now = now
        self.tried = False
        self.stored = self.row = replace(start(1, AccountId(1), PLANS[0], now, None), status=Status.EXPIRED)
        self.subscribe(PLANS[0], timedelta(days=7), pays=False)

    @precondition(lambda self: self.row.status not in CURRENT)
    @rule(chosen=_plans, grace=st.integers(0, 60).map(lambda days: timedelta(days=days)), pays=st.booleans())
    def subscribe(self, chosen: Plan, grace: timedelta, pays: bool) -> None:
        self.quoted_worth, self.quoted_at = Fraction(0), self.now - timedelta(days=1)
        before = self.row
        row = replace(start(1, AccountId(1), chosen, self.now, before, trial=not self.tried), grace=grace)
        assert not (self.tried and row.trial_end), "one trial for an account"
        assert _worth(row, self.now) == before.carried, "a credit goes on counting"
        self.tried = self.tried or row.trial_end is not None
        self.covered_until = row.period_end if row.entitled else self.now
        self._become(row)
        if pays and row.amount_due:
            self.it_is_paid()

    def _become(self, row: Subscription) -> None:
        """What the store does after a decision: the row is written, and is up to date."""
        self.stored, self.row = row, resolve(row, self.now)[0]

    # What can happen.

    @rule(hours=st.one_of(st.integers(0, 24), st.integers(0, 24 * 45)), minutes=st.integers(0, 59))
    def time_passes(self, hours: int, minutes: int) -> None:
        self._reach(self.now + timedelta(hours=hours, minutes=minutes))

    @rule(
        moment=st.sampled_from(["period_end", "grace_until", "pending_until"]),
        tick=st.sampled_from([-1, 0, 1]),
        pays=st.booleans(),
    )
    def time_reaches_a_moment_of_the_row(self, moment: str, tick: int, pays: bool) -> None:
        reached = getattr(self.row, moment) or self.now
        self._reach(max(reached + timedelta(microseconds=tick), self.now))
        if pays and self.row.amount_due:
            self.it_is_paid()

    def _reach(self, now: datetime) -> None:
        self.now = now
        before, self.row = self.row, resolve(self.stored, now)[0]
        assert resolve(before, now)[0] == self.row, "what was seen in between makes no difference"
        if self.row.plan.is_free and self.row.status is Status.ACTIVE:
            self.covered_until = max(self.covered_until, self.row.period_end)
        if self.row.carried != before.carried:
            assert self.row.carried < before.carried, "time makes no credit"
            self.covered_until = self.row.period_end if self.row.status is Status.ACTIVE else self.row.period_start
        elif before.period_end != self.row.period_end:
            assert self.row.plan.is_free, "only a payment, a credit or a free plan begins a period"

    @rule()
    def a_job_writes_down_what_time_has_done(self) -> None:
        self.stored = self.row

    @rule(back=st.integers(1, 90).map(lambda minutes: timedelta(minutes=minutes)))
    def a_clock_that_is_behind_sees_no_more(self, back: timedelta) -> None:
        """Of a row that is written down; of one that lags behind it sees what was true a moment ago."""
        assert resolve(self.row, self.now - back)[0] == self.row

    @precondition(lambda self: self.row.amount_due > 0)
    @rule()
    def it_is_paid(self) -> None:
        before, due = self.row, self.row.amount_due
        after, _ = pay(before, self.now)
        assert after.status is Status.ACTIVE
        assert (after.amount_due, after.carried) == (0, 0)
        worth = max(_worth(before, self.now), self.quoted_worth if before.pending_plan else 0)
        assert _worth(after, self.now) <= worth + due + _an_hour(before), "a payment buys no more than it pays for"
        if before.status in (Status.INCOMPLETE, Status.TRIALING) or self.quoted_at == self.now:
            assert _worth(after, self.now) >= worth + due - _an_hour(after), "and no less"
        if before.status is Status.TRIALING:
            assert after.period_start == before.trial_end, "the rest of the trial is kept"
        self.covered_until = after.period_end
        self._become(after)
        if after == self.row:
            with pytest.raises(NotPossible):
                pay(after, self.now)

    @precondition(lambda self: self.row.status in CURRENT)
    @rule(immediately=st.booleans(), refund=st.booleans(), really=st.integers(0, 3).map(lambda number: number == 0))
    def it_is_canceled(self, immediately: bool, refund: bool, really: bool) -> None:
        """Only sometimes: lives that go on see more."""
        if not really:
            return
        before = self.row
        self._become(cancel(before, self.now, immediately, "because", refund=refund)[0])
        assert self.row.amount_due == 0
        assert self.row.entitled == (before.status in (Status.ACTIVE, Status.TRIALING) and not immediately)
        if self.row.entitled:
            assert (self.row.plan, self.row.period_end) == (before.plan, before.period_end)
            assert not resolve(self.row, self.row.period_end)[0].entitled
        elif refund:
            assert self.row.refund_quoted == before.carried + unused(before, self.now) <= _worth(before, self.now)
        assert self.row.carried + self.row.refund_quoted <= _worth(before, self.now)

    @precondition(lambda self: self.row.cancel_at is not None and self.row.status in CURRENT)
    @rule()
    def the_cancellation_is_taken_back(self) -> None:
        before = self.row
        self._become(resume(before)[0])
        assert (self.row.status, self.row.period_end) == (before.status, before.period_end)
        assert self.row.cancel_at is None

    @precondition(lambda self: self.row.status in CURRENT)
    @rule(chosen=_plans, pays=st.booleans())
    def the_plan_is_changed(self, chosen: Plan, pays: bool) -> None:
        try:
            change = quote_change(self.row, chosen, TIERS, self.now)
        except NotPossible:
            assert self.row.status is not Status.ACTIVE or chosen == self.row.plan
            return
        before, now = self.row, change.stands_until - timedelta(microseconds=1)
        assert quote_change(before, chosen, TIERS, now) == change, "a quote stands as long as it says"
        assert 0 <= change.amount_due <= chosen.price
        assert change.amount_due == 0 or change.carried == 0
        after, _ = change_plan(before, change, self.now)
        at_once = change.direction is Direction.UPGRADE and change.amount_due == 0
        if not at_once:
            assert (after.plan, after.carried) == (before.plan, before.carried), "nothing is given before it is paid"
            assert after.period_end == before.period_end, "and nothing is taken that is"
        difference = _worth(after, self.now) - _worth(before, self.now)
        assert -_an_hour(after) <= difference <= _an_hour(before), "what is unused is neither lost nor made"
        self.quoted_worth = _worth(before, self.now) if after.pending_plan else Fraction(0)
        self.quoted_at = self.now
        self.covered_until = after.period_end if at_once or after.plan.is_free else self.covered_until
        self._become(after)
        if pays and self.row.amount_due:
            self.it_is_paid()

    # What holds after every step.

    @invariant()
    def resolving_is_idempotent(self) -> None:
        """A row that is up to date stays as it is, and nothing more happens at the same moment."""
        assert resolve(self.row, self.now) == (self.row, [])

    @invariant()
    def what_is_not_due_cannot_be_paid(self) -> None:
        """Paying twice, or after the end, changes nothing."""
        if self.row.amount_due == 0:
            with pytest.raises(NotPossible):
                pay(self.row, self.now)

    @invariant()
    def what_has_ended_cannot_be_changed(self) -> None:
        """Neither a cancellation nor its withdrawal nor another plan moves an ended subscription."""
        if self.row.status not in CURRENT:
            with pytest.raises(NotPossible):
                cancel(self.row, self.now, immediately=True, reason=None)
            with pytest.raises(NotPossible):
                resume(self.row)
            with pytest.raises(NotPossible):
                quote_change(self.row, PLANS[-1], TIERS, self.now)

    @invariant()
    def nobody_rides_beyond_what_is_covered_and_the_grace(self) -> None:
        """Whatever happens: no entitlement after the covered period and the grace time."""
        if self.row.entitled:
            assert self.now < self.covered_until + self.row.grace
        if self.row.status in (Status.ACTIVE, Status.TRIALING):
            begun = self.row.created_at if self.row.trial_end == self.row.period_start else self.row.period_start
            assert begun <= self.now < self.row.period_end

    @invariant()
    def what_is_due_belongs_to_something(self) -> None:
        """Money is due before the first payment, on trial, in the grace time, and for an upgrade that waits."""
        row = self.row
        waiting = row.status in (Status.INCOMPLETE, Status.PAST_DUE) or row.pending_plan is not None
        on_trial = row.status is Status.TRIALING and row.cancel_at is None
        assert (row.amount_due > 0) == (waiting or on_trial)
        assert (row.pending_until is None) == (row.pending_plan is None)
        assert row.carried >= 0

    @invariant()
    def what_has_ended_has_no_future(self) -> None:
        """An ended subscription has a moment of its end, and nothing pending or due."""
        ended = self.row.status not in CURRENT
        assert (self.row.ended_at is not None) == ended
        if ended:
            assert (self.row.pending_plan, self.row.amount_due) == (None, 0)
            assert self.row.ended_at is not None
            assert self.row.ended_at <= self.now

    @invariant()
    def periods_keep_to_the_anchor(self) -> None:
        """Every period ends whole cycles after the anchor, a trial after its days: a short month leaves no trace."""
        row = self.row
        assert row.period_start < row.period_end
        if row.trial_end == row.period_end:
            return
        months = (row.period_end.year - row.anchor.year) * 12 + row.period_end.month - row.anchor.month
        assert add_cycles(row.anchor, Cycle.MONTHLY, months) == row.period_end


def test_the_laws_hold_for_every_life() -> None:
    """Random lives of up to thirty steps, over months, years, leap days and graces of up to sixty days."""
    run_state_machine_as_test(Lifetime, settings=settings(deadline=None, max_examples=400, stateful_step_count=30))

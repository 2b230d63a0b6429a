"""Laws that hold for a subscription whatever its owner, its payments and the clock do to it.

A machine plays random lives: it subscribes, pays, cancels, changes plans and lets time pass, sometimes writing down
what time has done and sometimes not. After every step the laws are checked against a few numbers that the machine
keeps itself: how long access has been paid for, and what the money was worth.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

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

from policies.subscription import (
    CURRENT,
    NotPossible,
    Status,
    Subscription,
    add_cycles,
    cancel,
    change_plan,
    pay,
    quote_change,
    resolve,
    start,
)
from policies.terms import AccountId, Cycle, Plan, Tier
from tests.policies.samples import plan

TIERS = (Tier("free"), Tier("basic"), Tier("pro"), Tier("enterprise"))
PLANS = (
    plan("free", 0, version_id=1, daily_quota=10),
    plan("free", 0, version_id=2, daily_quota=20, cycle=Cycle.YEARLY),
    plan("basic", 99_000, version_id=3, daily_quota=50),
    plan("basic", 950_000, version_id=4, daily_quota=50, cycle=Cycle.YEARLY),
    plan("pro", 299_000, version_id=5, daily_quota=100),
    plan("pro", 280_000, version_id=6, daily_quota=100),
    plan("pro", 2_870_000, version_id=7, daily_quota=100, cycle=Cycle.YEARLY),
    plan("enterprise", 999_000, version_id=8, daily_quota=500),
)
_plans = st.sampled_from(PLANS)
_starts = st.one_of(
    st.sampled_from(
        [datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC), datetime(2025, 8, 30, tzinfo=UTC)]
    ),
    st.datetimes(datetime(2023, 1, 1), datetime(2025, 12, 31), timezones=st.just(UTC)),
)


def _worth(row: Subscription, now: datetime) -> int:
    """What is left of the paid period, in minor units, rounded up."""
    if row.status is not Status.ACTIVE:
        return 0
    left, period = (
        span // timedelta(microseconds=1) for span in (row.period_end - now, row.period_end - row.period_start)
    )
    return -(-row.plan.price * left // period)


class Lifetime(RuleBasedStateMachine):
    """One subscription. `stored` may lag behind, as it does when no job has run; `row` is what it really is."""

    @initialize(now=_starts)
    def begin(self, now: datetime) -> None:
        self.now = now
        self.subscribe(PLANS[0], timedelta(days=7), pays=False)

    @precondition(lambda self: self.row.status not in CURRENT)
    @rule(chosen=_plans, grace=st.integers(0, 60).map(lambda days: timedelta(days=days)), pays=st.booleans())
    def subscribe(self, chosen: Plan, grace: timedelta, pays: bool) -> None:
        self.quoted_worth, self.quoted_at = 0, self.now - timedelta(days=1)
        self.covered_until = self.now
        self._become(replace(start(1, AccountId(1), chosen, self.now, None), grace=grace))
        if pays and not chosen.is_free:
            self.it_is_paid()
        elif chosen.is_free:
            self.covered_until = self.row.period_end

    def _become(self, row: Subscription) -> None:
        """What the store does after a decision: the row is written, and is up to date."""
        self.stored, self.row = row, resolve(row, self.now)[0]

    # What can happen.

    @rule(hours=st.one_of(st.integers(0, 24), st.integers(0, 24 * 45)))
    def time_passes(self, hours: int) -> None:
        self._reach(self.now + timedelta(hours=hours))

    @rule(moment=st.sampled_from(["period_end", "grace_until"]), tick=st.sampled_from([-1, 0, 1]), pays=st.booleans())
    def time_reaches_a_moment_of_the_row(self, moment: str, tick: int, pays: bool) -> None:
        self._reach(max(getattr(self.row, moment) + timedelta(microseconds=tick), self.now))
        if pays and self.row.amount_due:
            self.it_is_paid()

    def _reach(self, now: datetime) -> None:
        self.now = now
        before, self.row = self.row, resolve(self.stored, now)[0]
        assert resolve(before, now)[0] == self.row, "what was seen in between makes no difference"
        if self.row.plan.is_free and self.row.status is Status.ACTIVE:
            self.covered_until = max(self.covered_until, self.row.period_end)
        if before.period_end != self.row.period_end:
            assert self.row.plan.is_free, "only a payment or a free plan begins a period"

    @rule()
    def a_job_writes_down_what_time_has_done(self) -> None:
        self.stored = self.row

    @precondition(lambda self: self.row.amount_due > 0)
    @rule()
    def it_is_paid(self) -> None:
        before, due = self.row, self.row.amount_due
        after, _ = pay(before, self.now)
        assert after.status is Status.ACTIVE
        assert after.amount_due == 0
        worth = max(_worth(before, self.now), self.quoted_worth if before.pending_plan else 0)
        assert _worth(after, self.now) <= worth + due + 2, "a payment buys no more than it pays for"
        if before.status is Status.INCOMPLETE or self.quoted_at == self.now:
            assert _worth(after, self.now) >= due - 2, "and no less"
        self.covered_until = after.period_end
        self._become(after)
        with pytest.raises(NotPossible):
            pay(after, self.now)

    @precondition(lambda self: self.row.status in CURRENT)
    @rule(immediately=st.booleans(), really=st.integers(0, 3).map(lambda number: number == 0))
    def it_is_canceled(self, immediately: bool, really: bool) -> None:
        """Only sometimes: lives that go on see more."""
        if not really:
            return
        before = self.row
        self._become(cancel(before, self.now, immediately, "because")[0])
        assert self.row.amount_due == 0
        assert self.row.entitled == (before.status is Status.ACTIVE and not immediately)
        if self.row.entitled:
            assert (self.row.plan, self.row.period_end) == (before.plan, before.period_end)
            assert not resolve(self.row, self.row.period_end)[0].entitled

    @precondition(lambda self: self.row.status in CURRENT)
    @rule(chosen=_plans, pays=st.booleans())
    def the_plan_is_changed(self, chosen: Plan, pays: bool) -> None:
        try:
            change = quote_change(self.row, chosen, TIERS, self.now)
        except NotPossible:
            assert self.row.status is not Status.ACTIVE or chosen == self.row.plan
            return
        before = self.row
        assert 0 <= change.amount_due <= chosen.price
        after, _ = change_plan(before, change, self.now)
        if change.amount_due or not change.upgrade:
            assert after.plan == before.plan, "nothing is given before it is paid, and nothing taken that is paid"
            assert after.period_end == before.period_end
        assert _worth(after, self.now) <= _worth(before, self.now) + 2
        self.quoted_worth, self.quoted_at = _worth(before, self.now) if after.pending_plan else 0, self.now
        self.covered_until = max(self.covered_until, after.period_end) if after.plan.is_free else self.covered_until
        if change.upgrade and change.amount_due == 0:
            self.covered_until = after.period_end
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
        """Neither a cancellation nor another plan moves an ended subscription."""
        if self.row.status not in CURRENT:
            with pytest.raises(NotPossible):
                cancel(self.row, self.now, immediately=True, reason=None)
            with pytest.raises(NotPossible):
                quote_change(self.row, PLANS[-1], TIERS, self.now)

    @invariant()
    def nobody_rides_beyond_what_is_covered_and_the_grace(self) -> None:
        """Whatever happens: no entitlement after the covered period and the grace time."""
        if self.row.entitled:
            assert self.now < self.covered_until + self.row.grace
        if self.row.status is Status.ACTIVE:
            assert self.row.period_start <= self.now < self.row.period_end

    @invariant()
    def what_is_due_belongs_to_something(self) -> None:
        """Money is due before the first payment, in the grace time, and for an upgrade that waits; else never."""
        waiting = self.row.status in (Status.INCOMPLETE, Status.PAST_DUE) or self.row.pending_plan is not None
        assert (self.row.amount_due > 0) == waiting

    @invariant()
    def what_has_ended_has_no_future(self) -> None:
        """An ended subscription has a moment of its end, and nothing scheduled, pending or due."""
        ended = self.row.status not in CURRENT
        assert (self.row.ended_at is not None) == ended
        if ended:
            assert (self.row.pending_plan, self.row.amount_due) == (None, 0)
            assert self.row.ended_at is not None
            assert self.row.ended_at <= self.now

    @invariant()
    def periods_keep_to_the_anchor(self) -> None:
        """Every period ends whole cycles after the anchor: a short month leaves no trace."""
        row = self.row
        months = (row.period_end.year - row.anchor.year) * 12 + row.period_end.month - row.anchor.month
        assert add_cycles(row.anchor, Cycle.MONTHLY, months) == row.period_end
        assert row.period_start < row.period_end


def test_the_laws_hold_for_every_life() -> None:
    """Random lives of up to thirty steps, over months, years, leap days and graces of up to sixty days."""
    run_state_machine_as_test(Lifetime, settings=settings(deadline=None, max_examples=400, stateful_step_count=30))

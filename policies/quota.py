"""Which window an account's quota is counted in now, and how much of it there is.

**One window at a time.** The window in force is the newest one that was opened, until it ends; only then the window
of the moment is opened (`policies.windows`), and no earlier than the last one ended. So windows of an account never
overlap, whatever moves under them:

- a change of plan, or a new subscription, in the middle of a window goes on in it: `used` stays, the limit follows the
  plan, and a calendar with another zone or anchor counts from the window's end;
- the window that is opened there begins in the middle of one of the new calendar. It is a **short window** and gives
  its share of the limit by time, rounded up to a unit: who changes to and fro between calendars gets what the time
  is worth, and nobody pays for the change with a day without quota;
- a clock that steps back over a reset finds the window of later still in force. An earlier one is not used again:
  what was left of it may have been carried over. But a clock that was ahead by more than `CLOCK_STEP` was wrong, and
  what it has opened counts for nothing until its time has nearly come: else an hour in the year 2099 would leave an
  account with one window until then. (Only such a window can overlap another one, that of a month, say.)

**Rollover.** What the last window had left when the new one is opened (its limit and what was carried into it, less
what was used or is still held) is carried into the new one, up to the plan's cap. Windows in which nothing happened
count as if they had been opened, without a row of their own. Nothing is carried from before the present plan began in
the present subscription. `carried` is fixed when a window is opened: a release or refund into an old window does not
change it afterwards, and a change of plan raises or lowers only the plan's own part.

The ledger opens windows by these functions, and whoever only looks asks the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from policies.subscription import Subscription
from policies.terms import Metric, QuotaMonth
from policies.windows import UTC_CALENDAR, Calendar, Window, window_at, windows_between

CLOCK_STEP = timedelta(days=1)
"""How far a clock may step back without an earlier window being used again: more than a server whose clock was set to
local time is ever corrected by, and so little that a clock that was far ahead costs an account a day at most."""

ROLLOVER_WINDOWS = {Metric.DAILY: 30, Metric.MONTHLY: 1}
"""How many windows' quota a plan may carry over at most. So many unused windows fill any rollover, whatever happened
before them: what is further back never matters, and its rows can be dropped (`jobs.quota_housekeeping`)."""

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class QuotaTerms:
    """The quota an account has at a moment: of its plan's version. No monthly limit is None.

    Rollovers are units that may be carried into a window. `since` is when the present plan began to count; None where
    nothing is known of it, and then only what the last window had left is carried.
    """

    daily: int
    monthly: int | None
    plan_version_id: int
    calendar: Calendar = UTC_CALENDAR
    daily_rollover: int = 0
    monthly_rollover: int = 0
    since: datetime | None = None

    def limits(self) -> tuple[tuple[Metric, int], ...]:
        """The limits that apply together, in the order in which they are asked."""
        if self.monthly is None:
            return ((Metric.DAILY, self.daily),)
        return (Metric.DAILY, self.daily), (Metric.MONTHLY, self.monthly)

    def rollover(self, metric: Metric) -> int:
        return self.daily_rollover if metric is Metric.DAILY else self.monthly_rollover


def quota_terms(row: Subscription) -> QuotaTerms:
    """The quota that an entitled subscription gives."""
    plan, rules = row.plan, row.plan.quota_rules
    anchor = row.anchor if rules.month is QuotaMonth.SUBSCRIPTION else None
    return QuotaTerms(
        daily=plan.daily_quota,
        monthly=plan.monthly_quota,
        plan_version_id=plan.version_id,
        calendar=Calendar(rules.zone, rules.day_starts, anchor),
        daily_rollover=rules.daily_rollover,
        monthly_rollover=rules.monthly_rollover,
        since=row.plan_since or row.created_at,
    )


@dataclass(frozen=True, slots=True)
class FairUseTerms:
    """How many calls of an account an exemption is for, in a day or month of UTC. `metric` names their count."""

    metric: str
    limit: int
    period: Metric

    def window(self, now: datetime) -> Window:
        """Always a whole one, whatever the account's plan is: nothing is carried, so nothing can be moved by a plan."""
        return window_at(self.period, UTC_CALENDAR, now)


@dataclass(frozen=True, slots=True)
class QuotaWindow:
    """A window as it was opened, with what happened in it. Amounts are units.

    `regular_start` is None for a whole window; for a short one it is where it would have begun, had the one before it
    not still been running.
    """

    window: Window
    regular_start: datetime | None = None
    carried: int = 0
    used: int = 0
    held: int = 0

    def left(self, limit: int) -> int:
        """What is left of it under a plan with this limit; not below zero, also after a downgrade."""
        own = own_limit(limit, self.window.start, self.regular_start, self.window.end)
        return max(own + self.carried - self.used - self.held, 0)


def own_limit(limit: int, start: datetime, regular_start: datetime | None, end: datetime) -> int:
    """The plan's own part of what a window allows: its limit, or of a short window the share, rounded up."""
    if regular_start is None:
        return limit
    return -(-limit * ((end - start) // _MICROSECOND) // ((end - regular_start) // _MICROSECOND))


def open_window(metric: Metric, limit: int, terms: QuotaTerms, last: QuotaWindow | None, now: datetime) -> QuotaWindow:
    """The window that is opened at `now`, after `last` has ended, with what is carried into it."""
    return replace(_place(metric, terms, last, now), carried=_carried(metric, limit, terms, last, now))


def _place(metric: Metric, terms: QuotaTerms, last: QuotaWindow | None, moment: datetime) -> QuotaWindow:
    """The window of a moment, as far as it lies after `last`."""
    window = window_at(metric, terms.calendar, moment)
    if last is None or last.window.end <= window.start:
        return QuotaWindow(window)
    return QuotaWindow(Window(metric, last.window.end, window.end), regular_start=window.start)


def _carried(metric: Metric, limit: int, terms: QuotaTerms, last: QuotaWindow | None, now: datetime) -> int:
    """What the last window, and those that passed without being opened, have left for the window of `now`."""
    cap, since = terms.rollover(metric), terms.since
    if cap == 0:
        return 0
    if last is not None and (since is None or since < last.window.end):
        # The present plan was in force when it ended, so it is by its limit that something was left.
        since, saved = last.window.end, min(last.left(limit), cap)
    elif since is not None:
        saved = 0
    else:
        return 0
    count = windows_between(metric, terms.calendar, since, now)
    if count <= 0:
        return saved
    # Only the first of them can be short. That each carries at most `cap` into the next is what one `min` says.
    return min(saved + _place(metric, terms, last, since).left(limit) + (count - 1) * limit, cap)

"""The quota windows of the accounts in a Book: what was used and what is held in each, against the plan's limits.

The window of a moment is a pure function (`policies.windows`); its row is made on first use. A hold belongs to the
windows of the moment it was taken, and ends there, also after midnight.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from policies.terms import Metric
from policies.windows import window_at
from store.rows import AccountRow, HoldRow, WindowKey, WindowRow, window_keys
from store.verbs import LacksQuota, QuotaTerms


@dataclass(slots=True)
class QuotaBook:
    """Windows of the accounts that a batch concerns."""

    now: datetime
    windows: dict[WindowKey, WindowRow] = field(default_factory=dict)

    def take(self, account: AccountRow, units: int, terms: QuotaTerms) -> dict[str, Any] | LacksQuota:
        """Hold `units` in the windows of now, if every one of them has room."""
        windows = [self._window(account, Metric.DAILY, terms.daily, terms)]
        if terms.monthly is not None:
            windows.append(self._window(account, Metric.MONTHLY, terms.monthly, terms))
        for window in windows:
            if window.used + window.held + units > window.limit:
                return LacksQuota(window.key[2], window.used + window.held, window.limit, window.end)
        for window in windows:
            window.held += units
        return {"windows": [[window.key[2], window.key[1].isoformat()] for window in windows]}

    def _window(self, account: AccountRow, metric: Metric, limit: int, terms: QuotaTerms) -> WindowRow:
        """The window of now. Its limit follows the plan; what was used in it stays."""
        window = window_at(metric, self.now)
        key = (account.id, window.start, metric)
        row = self.windows.get(key)
        if row is None:
            row = WindowRow(key, window.end, limit, 0, 0, terms.plan_version_id, new=True)
            self.windows[key] = row
        elif row.limit != limit or row.plan_version_id != terms.plan_version_id:
            row.limit, row.plan_version_id, row.changed = limit, terms.plan_version_id, True
        return row

    def spend(self, hold: HoldRow, units: int) -> int:
        """What was held becomes used, up to `units`; the rest is free again."""
        for window in self._of(hold):
            window.held -= hold.amount
            window.used += units
            window.changed = window.changed or units > 0
        return units

    def refund(self, hold: HoldRow, units: int) -> None:
        for window in self._of(hold):
            window.used -= units
            window.changed = True

    def left(self, hold: HoldRow) -> int:
        """The units left in the tightest window of a hold."""
        return max(min((window.limit - window.used - window.held for window in self._of(hold)), default=0), 0)

    def _of(self, hold: HoldRow) -> list[WindowRow]:
        """The windows that a hold took from, without those that have left the history: nothing depends on them."""
        return [self.windows[key] for key in window_keys(hold) if key in self.windows]

"""The quota windows of the accounts in a Book: what was used and what is held in each, against what it allows.

Which window is in force is decided by `policies.quota`; its row is made on first use. A hold belongs to the windows
of the moment it was taken, and ends there, also after midnight.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from policies.quota import FairUseTerms, QuotaTerms, QuotaWindow, open_window, own_limit
from policies.terms import AccountId, Metric
from policies.windows import Window
from store.rows import AccountRow, HoldRow, WindowKey, WindowRow, window_keys
from store.verbs import LacksQuota

NO_PLAN = 0
"""Where the version of a plan would stand in a window that no plan grants."""


@dataclass(slots=True)
class QuotaBook:
    """Windows of the accounts that a batch concerns; `newest` is complete for those that reserve."""

    now: datetime
    windows: dict[WindowKey, WindowRow] = field(default_factory=dict)
    newest: dict[tuple[AccountId, str], WindowRow] = field(default_factory=dict)

    def add(self, row: WindowRow, *, recent: bool) -> None:
        """A window that was loaded; `recent` unless it is only here because a hold took from it."""
        # Already there when two statements have found it; what has been done to it must not be lost.
        row = self.windows.setdefault(row.key, row)
        account_id, start, metric = row.key
        newest = self.newest.get((account_id, metric))
        if recent and (newest is None or newest.start < start):
            self.newest[account_id, metric] = row

    def take(self, account: AccountRow, units: int, terms: QuotaTerms) -> dict[str, Any] | LacksQuota:
        """Hold `units` in the windows of now, if every one of them has room."""
        return _take([self.window(account.id, metric, limit, terms) for metric, limit in terms.limits()], units)

    def take_fair_use(self, account: AccountRow, terms: FairUseTerms | None) -> dict[str, Any] | LacksQuota:
        """Hold one call in the window of its exemption, if it has room; without terms there is nothing to count."""
        return _take([] if terms is None else [self.fair_use_window(account.id, terms)], 1)

    def window(self, account_id: AccountId, metric: Metric, limit: int, terms: QuotaTerms) -> WindowRow:
        """The window in force. Its limit follows the plan; what was used in it stays, and what was carried into it."""
        row = self.newest.get((account_id, metric))
        if row is None or row.end <= self.now:
            row = self._open(account_id, metric, limit, terms, row)
        own = own_limit(limit, row.start, row.regular_start, row.end)
        if row.limit != own or row.plan_version_id != terms.plan_version_id:
            row.limit, row.plan_version_id, row.changed = own, terms.plan_version_id, True
        return row

    def fair_use_window(self, account_id: AccountId, terms: FairUseTerms) -> WindowRow:
        """The window of an exemption. Its limit follows the policy; what was used in it stays.

        No plan has a part in it, so neither its calendar nor what came before matter: it is found by its key.
        """
        window = terms.window(self.now)
        key = account_id, window.start, terms.metric
        row = self.windows.get(key)
        if row is None:
            row = WindowRow(key, window.end, None, terms.limit, 0, 0, 0, NO_PLAN, NO_PLAN, new=True)
            self.windows[key] = row
        elif row.limit != terms.limit:
            row.limit, row.changed = terms.limit, True
        return row

    def _open(
        self, account_id: AccountId, metric: Metric, limit: int, terms: QuotaTerms, last: WindowRow | None
    ) -> WindowRow:
        last_one = _as_it_was(metric, last) if last is not None else None
        opened = open_window(metric, limit, terms, last_one, self.now)
        row = WindowRow(
            key=(account_id, opened.window.start, metric),
            end=opened.window.end,
            regular_start=opened.regular_start,
            limit=limit,
            carried=opened.carried,
            used=0,
            held=0,
            plan_version_id=terms.plan_version_id,
            opened_by=terms.plan_version_id,
            new=True,
        )
        self.add(row, recent=True)
        return row

    def spend(self, hold: HoldRow, units: int) -> int:
        """What was held becomes used, up to `units`; the rest is free again."""
        for window in self._of(hold):
            window.held -= hold.amount
            window.used += units
            window.changed = window.changed or units > 0
        return units

    def charge_late(self, hold: HoldRow, units: int) -> int:
        """Use up to `units` of the windows of a hold that has expired, as far as they still have room."""
        # An exempt call that nobody counts has no window that could be full.
        room = self.left(hold) if window_keys(hold) else hold.amount
        units = min(units, hold.amount, room)
        for window in self._of(hold):
            window.used += units
            window.changed = True
        return units

    def refund(self, hold: HoldRow, units: int) -> None:
        for window in self._of(hold):
            window.used -= units
            window.changed = True

    def left(self, hold: HoldRow) -> int:
        """The units left in the tightest window of a hold."""
        return max(min((window.allowed - window.in_use for window in self._of(hold)), default=0), 0)

    def _of(self, hold: HoldRow) -> list[WindowRow]:
        """The windows that a hold took from, without those that have left the history: nothing depends on them."""
        return [self.windows[key] for key in window_keys(hold) if key in self.windows]


def _take(windows: list[WindowRow], units: int) -> dict[str, Any] | LacksQuota:
    """Hold `units` in every one of these windows, or in none."""
    for window in windows:
        if window.in_use + units > window.allowed:
            return LacksQuota(window.metric, window.in_use, window.allowed, window.end)
    for window in windows:
        window.held += units
    return {"windows": [[window.metric, window.start.isoformat()] for window in windows]}


def _as_it_was(metric: Metric, row: WindowRow) -> QuotaWindow:
    window = Window(metric, row.start, row.end)
    return QuotaWindow(window, row.regular_start, row.carried, row.used, row.held)

"""Whose clock decides windows: the database's where nodes share one, the process's where it is alone."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

from config.clock import utc_now
from policies.quota import QuotaTerms
from policies.terms import AccountId, Funding, Metric, OnDeadline
from policies.windows import Calendar, window_at
from store import quota_reports
from store.opening import Store, open_store
from store.users import ensure_user
from store.verbs import Hold, Request, Reserve

REQUEST = Request("ana", None, "app:model", "generate", "route", "policy", "rule", 1)
SKEWS = [timedelta(0), timedelta(days=3), -timedelta(days=3), timedelta(minutes=20)]


async def _reserve(store: Store, account: AccountId, terms: QuotaTerms) -> bool:
    lasts, rule = timedelta(hours=1), OnDeadline.RELEASE
    verb = Reserve(store.ids.next(), account, 0, (Funding.QUOTA,), 0, 1, terms, REQUEST, lasts, rule)
    return isinstance(await store.ledger.reserve(verb), Hold)


async def test_nodes_with_skewed_clocks_share_one_window(postgresql_url: str, database_url: str) -> None:
    """Each of them takes from the window of the database's moment, and shows it: one quota, not one for each clock."""
    if database_url != postgresql_url:
        # One process with one clock: what it says is what counts.
        moment = datetime(2031, 5, 5, 12, tzinfo=UTC)
        async with open_store(database_url, lambda: moment) as store:
            assert await store.database.read(store.database.now) == moment
        return
    terms = QuotaTerms(10, 100, 1, Calendar(month_anchor=utc_now() - timedelta(days=40)))
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(open_store(database_url, lambda skew=skew: utc_now() + skew))
            for skew in SKEWS
        ]
        user, _ = await ensure_user(nodes[0], "ana", None, 0)
        account = user.account.account_id
        before = utc_now()
        passed = [await _reserve(node, account, terms) for _ in range(4) for node in nodes]
        expected = [window_at(metric, terms.calendar, before) for metric in Metric]
        if window_at(Metric.DAILY, terms.calendar, utc_now()) != expected[0]:
            return  # Midnight passed meanwhile; another day will tell.
        assert sum(passed) == 10
        for node in nodes:
            now = await node.database.read(node.database.now)
            shown = await node.database.read(quota_reports.windows_now, account, terms, now)
            assert [(row.start, row.end, row.held) for row in shown] == [(w.start, w.end, 10) for w in expected]
        stored = await nodes[0].database.read(quota_reports.windows, account, before - timedelta(days=60))
        assert len(stored) == 2

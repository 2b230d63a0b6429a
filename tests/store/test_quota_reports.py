"""What is shown of quota: the windows that the next request will meet, those of the past, and what used them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from policies.terms import AccountId, HoldId, Metric
from policies.windows import Calendar
from store import quota_reports
from store.engine import StoreUnavailable
from store.ids import first_id_at
from store.verbs import Refund, Settle, Usage
from tests.store.till import NOON, QUOTA, REQUEST, Till, reserving, terms

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOUR = timedelta(hours=1)
MIDNIGHT = datetime(2025, 3, 10, tzinfo=UTC)
DAY = timedelta(days=1)


async def test_a_window_is_shown_before_it_exists(till: Till) -> None:
    """Reading makes no row."""
    account = await till.account()
    day, month = await till.now_in(account, terms(10, 100))
    assert (day.metric, day.start, day.end) == (Metric.DAILY, MIDNIGHT, MIDNIGHT + DAY)
    assert (month.start, month.end) == (datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 4, 1, tzinfo=UTC))
    assert (day.allowed, day.in_use, month.allowed, month.in_use) == (10, 0, 100, 0)
    assert await till.windows(account) == []


async def test_a_window_shows_what_is_used_and_held(till: Till) -> None:
    """Of its own moment and metric only."""
    account, quota = await till.account(), terms(10, 100)
    await till.settled(account, 0, quota=3, fundings=QUOTA, terms=quota)
    await till.hold(account, quota=2, fundings=QUOTA, terms=quota)
    assert [(row.used, row.held) for row in await till.now_in(account, quota)] == [(3, 2), (3, 2)]
    till.now += DAY
    assert [(row.used, row.held) for row in await till.now_in(account, quota)] == [(0, 0), (3, 2)]
    assert len(await till.now_in(account, terms(10))) == 1


async def test_windows_are_listed_newest_first_since_a_moment(till: Till) -> None:
    """The history of quota."""
    account = await till.account()
    for _ in range(4):
        await till.settled(account, 0, quota=1, fundings=QUOTA, terms=terms(10))
        till.now += DAY
    rows = await till.database.read(quota_reports.windows, account, MIDNIGHT + DAY)
    assert [row["window_start"] for row in rows] == [MIDNIGHT + 3 * DAY, MIDNIGHT + 2 * DAY, MIDNIGHT + DAY]


async def test_a_window_has_the_date_of_the_zone_it_was_opened_by(till: Till) -> None:
    """Of the plan version's zone and hour; a window whose plan is not known has that of UTC."""
    account = await till.account()
    await till.plan_version(7, quota_timezone="Asia/Jakarta", quota_day_starts="06:00")
    jakarta = Calendar(ZoneInfo("Asia/Jakarta"), datetime.strptime("06:00", "%H:%M").time())
    # 05:30 in Jakarta, where it is the 11th already, and the day of the 10th goes on for half an hour.
    till.now = datetime(2025, 3, 10, 22, 30, tzinfo=UTC)
    await till.hold(account, fundings=QUOTA, terms=terms(10, version=7, calendar=jakarta))
    till.now += HOUR
    await till.hold(account, fundings=QUOTA, terms=terms(10, version=7, calendar=jakarta))
    till.now = datetime(2025, 3, 12, 12, tzinfo=UTC)
    await till.hold(account, fundings=QUOTA, terms=terms(10, version=8))
    rows = await till.database.read(quota_reports.windows, account, MIDNIGHT - DAY)
    assert [row["day"] for row in rows] == [date(2025, 3, 12), date(2025, 3, 11), date(2025, 3, 10)]


async def test_a_window_of_a_zone_that_is_not_known_here_is_not_given_a_wrong_date(till: Till) -> None:
    """Its history waits until the zones of this machine are brought up to date."""
    account = await till.account()
    await till.plan_version(1, quota_timezone="Mars/Olympus_Mons")
    await till.hold(account, fundings=QUOTA, terms=terms(10))
    with pytest.raises(StoreUnavailable, match="update tzdata"):
        await till.database.read(quota_reports.windows, account, MIDNIGHT)


async def _use(till: Till, account: AccountId, at: datetime, model: str, units: int, funding: str = "quota") -> None:
    """A settled call whose id is of the moment `at`."""
    till.now, request = at, replace(REQUEST, model_key=model)
    hold_id = HoldId(first_id_at(at) + till.hold_id())
    quota = {"quota": units, "fundings": QUOTA, "terms": terms(1000, 9000)}
    paying = quota if funding == "quota" else {"credits": units}
    verb = reserving(hold_id, account, request=request, lasts=HOUR, **paying)  # type: ignore[arg-type]
    await till.run(verb, Settle(hold_id, verb.account_id, None, Usage(), "done"))


async def test_the_breakdown_adds_quota_up_by_window_and_model(till: Till) -> None:
    """In integers on both databases; without credits, other accounts, and earlier windows."""
    account, other = await till.account(1_000), await till.account()
    last = MIDNIGHT + DAY - timedelta(milliseconds=1)
    await _use(till, account, MIDNIGHT - timedelta(milliseconds=1), "a:x", 50)
    for at, model, units in [(MIDNIGHT, "a:x", 1), (last, "a:x", 2), (NOON, "a:y", 4), (MIDNIGHT + DAY, "a:x", 8)]:
        await _use(till, account, at, model, units)
    await _use(till, other, NOON, "a:x", 100)
    await _use(till, account, NOON, "a:x", 500, "credits")
    found = await till.database.read(quota_reports.breakdown, account, MIDNIGHT)
    assert found == {MIDNIGHT: {"a:x": 3, "a:y": 4}, MIDNIGHT + DAY: {"a:x": 8}}
    assert {type(units) for day in found.values() for units in day.values()} == {int}


async def test_the_breakdown_counts_for_the_window_that_was_taken_from(till: Till) -> None:
    """Whatever the clock of the process said that numbered the request; and less what was given back."""
    account = await till.account()
    till.now = MIDNIGHT
    for number, model in ((1, "a:x"), (2, "a:y")):
        early = HoldId(first_id_at(MIDNIGHT - HOUR) + number)
        request = replace(REQUEST, model_key=model)
        await till.run(
            reserving(early, account, request=request, quota=3, fundings=QUOTA, terms=terms(10)),
            Settle(early, account, None, Usage(), "done"),
        )
    assert await till.database.read(quota_reports.breakdown, account, MIDNIGHT) == {MIDNIGHT: {"a:x": 3, "a:y": 3}}
    await till.run(Refund(early, account, None, "sorry"))
    assert await till.database.read(quota_reports.breakdown, account, MIDNIGHT) == {MIDNIGHT: {"a:x": 3}}

"""Accounts at the desk."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from policies.refusals import Reason
from tests.proxy.operations.desk import Counter


async def test_a_new_account_has_the_welcome_credits(counter: Counter) -> None:
    """Without a number of credits an account starts with those of the settings; with one, with exactly that."""
    assert (await counter.do("accounts create", user="ana"))["credits"]["available"] == 100
    assert (await counter.do("accounts create", user="budi", credits=2.5))["credits"]["available"] == 2.5
    assert (await counter.do("accounts create", user="citra", credits=0))["credits"]["available"] == 0


async def test_creating_a_user_twice_is_refused_and_changes_nothing(counter: Counter) -> None:
    """A second creation is a conflict, and grants no second welcome."""
    await counter.do("accounts create", user="ana")
    await counter.refused("accounts create", Reason.CONFLICT, user="ana", credits=500)
    assert (await counter.do("accounts show", account="ana"))["credits"]["available"] == 100


async def test_an_account_is_shown_as_it_is_now(counter: Counter) -> None:
    """A subscription that has ended by the clock is not shown, whatever the stored row still says."""
    await counter.do("accounts create", user="ana")
    await counter.do("subscriptions subscribe", account="ana", plan="basic-monthly", paid=True)
    shown = await counter.do("accounts show", account="ana")
    assert (shown["type"], shown["subscription"]["plan"]) == ("subscription", "basic-monthly")
    assert [window["limit"] for window in shown["quota"]] == [50, 1500]
    counter.clock.now = counter.clock.now.replace(year=2027)
    shown = await counter.do("accounts show", account="ana")
    assert (shown["type"], shown["quota"]) == ("payg", [])
    assert shown["subscription"]["entitled"] is False


async def test_tags_are_added_and_taken_one_by_one(counter_anywhere: Counter) -> None:
    """Adding keeps the other tags, taking leaves them, and both may be repeated."""
    await counter_anywhere.do("accounts create", user="ana")
    assert (await counter_anywhere.do("accounts tag", account="ana", tags=["b", "a"]))["tags"] == ["a", "b"]
    assert (await counter_anywhere.do("accounts tag", account="ana", tags="c"))["tags"] == ["a", "b", "c"]
    assert (await counter_anywhere.do("accounts untag", account="ana", tags=["b", "never"]))["tags"] == ["a", "c"]
    assert (await counter_anywhere.do("accounts untag", account="ana", tags=["b"]))["tags"] == ["a", "c"]


async def test_two_operators_who_tag_at_once_lose_neither_tag(counter_anywhere: Counter) -> None:
    """Tags are changed in the transaction that reads them."""
    await counter_anywhere.do("accounts create", user="ana")
    await asyncio.gather(*(counter_anywhere.do("accounts tag", account="ana", tags=f"t{n}") for n in range(8)))
    shown = await counter_anywhere.do("accounts show", account="ana")
    assert shown["tags"] == [f"t{n}" for n in range(8)]


async def test_a_change_of_tags_makes_decisions_stale(counter: Counter) -> None:
    """The account's revision counts what policy decides by: a new tag does, a repeated one does not."""

    async def revision() -> int:
        from store.accounts import find_user

        user = await counter.desk.store.database.read(find_user, "ana")
        assert user is not None
        return user.account.revision

    await counter.do("accounts create", user="ana")
    before = await revision()
    await counter.do("accounts tag", account="ana", tags="vip")
    assert await revision() == before + 1
    await counter.do("accounts tag", account="ana", tags="vip")
    assert await revision() == before + 1


async def test_freezing_is_safe_to_repeat_and_keeps_everything(counter: Counter) -> None:
    """A frozen account has the credits it had, and the second freeze says that it changed nothing."""
    await counter.do("accounts create", user="ana")
    assert (await counter.do("accounts freeze", account="ana"))["changed"] is True
    assert (await counter.do("accounts freeze", account="ana"))["changed"] is False
    shown = await counter.do("accounts show", account="ana")
    assert (shown["frozen"], shown["credits"]["available"]) == (True, 100)
    assert (await counter.do("accounts unfreeze", account="ana"))["changed"] is True
    assert (await counter.do("accounts show", account="ana"))["frozen"] is False


async def test_pages_of_accounts_meet_without_gap_or_overlap(counter: Counter) -> None:
    """Following `next` lists every account once, and the last page has none."""
    names = [f"user-{number}" for number in range(7)]
    for name in names:
        await counter.do("accounts create", user=name)
    listed, after = [], 0
    while after is not None:
        page = await counter.do("accounts list", after=after, limit=3)
        listed += [row["user"] for row in page["accounts"]]
        after = page["next"]
    assert listed == names


async def test_quota_windows_of_the_past_are_listed(counter: Counter) -> None:
    """What a window had used stays readable after it is over."""
    from policies.terms import Funding

    await counter.do("accounts create", user="ana")
    await counter.do("subscriptions subscribe", account="ana", plan="basic-monthly", paid=True)
    hold = await counter.reserve("ana", 3, Funding.QUOTA)
    await counter.do("holds settle", id=hold)
    counter.clock.now = counter.clock.now.replace(day=16)
    windows = (await counter.do("accounts quota", account="ana"))["windows"]
    assert {(window["window"], window["start"][:10], window["used"]) for window in windows} == {
        ("daily", "2026-01-15", 3),
        ("monthly", "2026-01-01", 3),
    }


async def test_what_was_carried_over_is_told(counter: Counter) -> None:
    """In the window of now, before it has a row, and in those of the past, with their dates in the plan's zone."""
    from policies.terms import Funding
    from store import catalogue

    terms = {"tier": "free", "name": "Saver", "description": "", "price": 0, "currency": "IDR", "cycle": "monthly"}
    terms |= {"daily_quota": 50, "monthly_quota": 1500, "max_model_tier": "free", "features": {}}
    terms |= {"quota_timezone": "Asia/Jakarta", "daily_rollover": 30}
    await counter.desk.store.database.write(catalogue.put_plan, "saver", terms, 9, True, counter.clock.now)
    await counter.do("accounts create", user="ana")
    await counter.do("subscriptions subscribe", account="ana", plan="saver")
    await counter.do("holds settle", id=await counter.reserve("ana", 29, Funding.QUOTA))
    counter.clock.now += timedelta(days=1)
    day, month = (await counter.do("accounts show", account="ana"))["quota"]
    assert (day["limit"], day["carried"], day["remaining"]) == (71, 21, 71)
    assert day["resets_at"].endswith("T17:00:00.000Z")
    assert (month["limit"], month["carried"], month["remaining"]) == (1500, 0, 1471)
    await counter.reserve("ana", 1, Funding.QUOTA)
    windows = (await counter.do("accounts quota", account="ana"))["windows"]
    days = [
        (row["day"], row["used"], row["held"], row["limit"], row["carried"])
        for row in windows
        if row["window"] == "daily"
    ]
    assert days == [("2026-01-16", 0, 1, 71, 21), ("2026-01-15", 29, 0, 50, 0)]

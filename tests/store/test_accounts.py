"""Accounts and users: made once, whoever makes them, and every change of theirs makes older decisions stale."""

from __future__ import annotations

import asyncio

import pytest

from config.clock import utc_now
from store import accounts
from store.engine import AlreadyExists
from store.opening import Store, open_store
from store.users import ensure_user
from store.verbs import Refused
from tests.store.till import NOON, Till, reserving

SESSION = pytest.mark.asyncio(loop_scope="session")


async def _create(till: Till, user_id: str, welcome: int = 100) -> tuple[accounts.User, bool]:
    return await till.database.write(accounts.create_user, user_id, "a@example.com", welcome, till.hold_id(), NOON)


@SESSION
async def test_a_new_user_has_an_account_with_the_welcome_credits(till: Till) -> None:
    """Booked like any other grant."""
    user, new = await _create(till, "u1")
    assert new
    assert (user.user_id, user.email, user.account.subscription) == ("u1", "a@example.com", None)
    assert await till.entries(user.account.account_id) == [("grant", 100, 100)]


@SESSION
async def test_a_user_is_made_once(till: Till) -> None:
    """The second time nothing is granted and nothing changes."""
    first, _ = await _create(till, "u1")
    second, new = await _create(till, "u1", welcome=999)
    assert (second, new) == (first, False)
    assert (await till.balance(first.account.account_id)).posted == 100


@SESSION
async def test_a_user_can_start_without_credits(till: Till) -> None:
    """No welcome is no entry."""
    user, _ = await _create(till, "u1", welcome=0)
    assert await till.entries(user.account.account_id) == []


@SESSION
@pytest.mark.parametrize("user_id", ["", "x" * 500, "Zoë 😀", "'; DROP TABLE users; --", "a\nb"])
async def test_any_text_can_be_a_user_id(till: Till, user_id: str) -> None:
    """Ids come from other people's systems."""
    user, _ = await _create(till, user_id)
    assert await till.database.read(accounts.find_user, user_id) == user


@SESSION
async def test_unknown_users_and_accounts_are_none(till: Till) -> None:
    """Finding makes nothing."""
    assert await till.database.read(accounts.find_user, "nobody") is None
    assert await till.database.read(accounts.find_account, 1) is None


async def test_a_user_who_comes_many_times_at_once_is_made_once(database_url: str) -> None:
    """Over several processes: one account, one welcome, and everybody gets the same answer."""
    async with open_store(database_url, utc_now) as one, open_store(database_url, utc_now) as other:
        users = await asyncio.gather(*(ensure_user(store, "u1", None, 100) for store in (one, other) * 10))
        assert sum(new for _, new in users) == 1
        assert len({user.account.account_id for user, _ in users}) == 1
        assert await _available(one) == [100]


async def _available(store: Store) -> list[int]:
    rows = await store.database.read(accounts.page, 0, 100)
    return [row["available"] for row in rows]


@SESSION
async def test_every_change_of_an_account_makes_decisions_stale(till: Till) -> None:
    """What was decided on the account as it was cannot be reserved any more."""
    user, _ = await _create(till, "u1")
    account_id = user.account.account_id
    changes = [
        (accounts.set_tags, (account_id, ["vip"])),
        (accounts.set_frozen, (account_id, NOON)),
        (accounts.set_frozen, (account_id, None)),
    ]
    for revision, (change, arguments) in enumerate(changes):
        await till.database.write(change, *arguments)
        verb = reserving(till.hold_id(), account_id, 1, revision=revision)
        assert await till.run(verb) == [Refused.STALE]
        found = await till.database.read(accounts.find_account, account_id)
        assert found is not None
        assert found.revision == revision + 1


@SESSION
async def test_tags_and_the_freeze_are_read_back(till: Till) -> None:
    """Tags once each, and frozen until it is taken back."""
    user, _ = await _create(till, "u1")
    account_id = user.account.account_id
    await till.database.write(accounts.set_tags, account_id, ["b", "a", "b"])
    await till.database.write(accounts.set_frozen, account_id, NOON)
    found = await till.database.read(accounts.find_account, account_id)
    assert found is not None
    assert (found.tags, found.frozen) == (frozenset({"a", "b"}), True)
    await till.database.write(accounts.set_frozen, account_id, None)
    found = await till.database.read(accounts.find_account, account_id)
    assert found is not None
    assert not found.frozen


@SESSION
async def test_accounts_are_paged_by_their_id(till: Till) -> None:
    """Every account once, also one without a user."""
    made = [(await _create(till, f"u{number}"))[0].account.account_id for number in range(4)]
    made.append(await till.account())
    first = await till.database.read(accounts.page, 0, 3)
    second = await till.database.read(accounts.page, first[-1]["id"], 3)
    assert [row["id"] for row in first + second] == sorted(made)
    assert second[-1]["user_id"] is None


@SESSION
async def test_a_grant_id_that_is_taken_creates_nobody(till: Till) -> None:
    """The user and the welcome come together or not at all."""
    await till.grant(await till.account(), 5)
    with pytest.raises(AlreadyExists):
        await till.database.write(accounts.create_user, "u1", None, 100, 1, NOON)
    assert await till.database.read(accounts.find_user, "u1") is None

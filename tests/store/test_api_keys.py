"""API keys: shown once, found by their hash, ended for good."""

from __future__ import annotations

from datetime import timedelta

import pytest
import pytest_asyncio

from store import accounts, api_keys
from store.accounts import User
from tests.store.till import NOON, Till

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def user(till: Till) -> User:
    return (await till.database.write(accounts.create_user, "u1", None, 0, 1, NOON))[0]


async def _create(till: Till, user: User) -> tuple[str, str]:
    account_id = user.account.account_id
    expires_at = NOON + timedelta(days=1)
    return await till.database.write(api_keys.create, user.user_id, account_id, "ci", ["app:model"], expires_at, NOON)


async def test_a_key_is_found_by_itself(till: Till, user: User) -> None:
    """With whom it belongs to, what it may, and until when."""
    key_id, key = await _create(till, user)
    found = await till.database.read(api_keys.find, key)
    assert found is not None
    assert (found.key_id, found.user_id, found.account_id) == (key_id, "u1", user.account.account_id)
    assert (found.models, found.expires_at, found.revoked_at) == (("app:model",), NOON + timedelta(days=1), None)


async def test_a_key_is_not_in_the_database(till: Till, user: User) -> None:
    """Only its hash and its visible beginning are."""
    key_id, key = await _create(till, user)
    assert key.startswith(key_id)
    assert len(key) - len(key_id) > 30
    assert key not in str(await till.rows("SELECT * FROM api_keys"))


@pytest.mark.parametrize("change", [str.upper, str.strip, lambda key: key[:-1], lambda key: key + "a", lambda _: ""])
async def test_what_is_not_exactly_the_key_is_not_found(till: Till, user: User, change: object) -> None:
    """Neither its beginning nor anything that looks like it."""
    key_id, key = await _create(till, user)
    assert await till.database.read(api_keys.find, key_id) is None
    wrong = change(key)  # type: ignore[operator]
    found = await till.database.read(api_keys.find, wrong)
    assert (found is not None) == (wrong == key)


async def test_keys_are_different_every_time(till: Till, user: User) -> None:
    """Nobody can guess the next one from the last."""
    keys = {(await _create(till, user))[1] for _ in range(20)}
    assert len(keys) == len({key[:12] for key in keys}) == 20


async def test_a_revoked_key_stays_revoked_from_its_first_moment(till: Till, user: User) -> None:
    """Revoking again does not move the moment."""
    key_id, key = await _create(till, user)
    assert await till.database.write(api_keys.revoke, key_id, NOON)
    assert await till.database.write(api_keys.revoke, key_id, NOON + timedelta(days=1))
    found = await till.database.read(api_keys.find, key)
    assert found is not None
    assert found.revoked_at == NOON


async def test_revoking_a_key_makes_decisions_stale(till: Till, user: User) -> None:
    """So that no process admits a request for it from what it remembers."""
    key_id, _ = await _create(till, user)
    await till.database.write(api_keys.revoke, key_id, NOON)
    account = await till.database.read(accounts.find_account, user.account.account_id)
    assert account is not None
    assert account.revision > user.account.revision


async def test_an_unknown_key_cannot_be_revoked(till: Till) -> None:
    """Which is said."""
    assert not await till.database.write(api_keys.revoke, "fbx_nothing", NOON)


async def test_the_list_of_keys_has_no_hashes(till: Till, user: User) -> None:
    """Of one account or of all."""
    other = (await till.database.write(accounts.create_user, "u2", None, 0, 2, NOON))[0]
    await _create(till, user)
    await _create(till, other)
    assert len(await till.database.read(api_keys.page, None)) == 2
    (row,) = await till.database.read(api_keys.page, other.account.account_id)
    assert row["user_id"] == "u2"
    assert "sha256" not in row

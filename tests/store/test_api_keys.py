"""API keys: shown once, found by their hash, ended for good."""

from __future__ import annotations

import asyncio
import hmac
from datetime import timedelta
from types import SimpleNamespace

import pytest
import pytest_asyncio
from sqlalchemy import Connection, event

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


@pytest.mark.parametrize("spoilt", ["sha256", "id"])
async def test_k01_unknown_and_wrong_are_the_same_work(till: Till, user: User, spoilt: str) -> None:
    """One row asked for by the visible beginning, one comparison of hashes in constant time, and nothing found."""
    _, key = await _create(till, user)
    wrong = key[:12] + "A" * 35 if spoilt == "sha256" else "fbx_nobodys_" + key[12:]
    compared: list[tuple[str, str]] = []

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    statements: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("store.api_keys.hmac", SimpleNamespace(compare_digest=compare))

        def find(connection: Connection) -> api_keys.ApiKey | None:
            event.listen(connection, "before_cursor_execute", lambda *given: statements.append(given[2]))
            return api_keys.find(connection, wrong)

        assert await till.database.read(find) is None
    assert len([statement for statement in statements if statement != "BEGIN"]) == len(compared) == 1
    assert {len(text) for pair in compared for text in pair} == {64}


async def test_a_rotated_key_has_a_successor_that_may_do_the_same(till: Till, user: User) -> None:
    """Both work until the overlap is over; the new one lasts as long as the old one was made to last."""
    key_id, key = await _create(till, user)
    later = NOON + timedelta(hours=6)
    done = await till.database.write(api_keys.rotate, key_id, timedelta(hours=2), later)
    assert isinstance(done, api_keys.Rotated)
    old, new = [await till.database.read(api_keys.find, text) for text in (key, done.key)]
    assert old is not None
    assert new is not None
    assert (old.expires_at, new.expires_at) == (later + timedelta(hours=2), later + timedelta(days=1))
    assert (new.user_id, new.account_id, new.models, new.scopes) == ("u1", old.account_id, old.models, old.scopes)
    rows = {row["id"]: row["replaced_by"] for row in await till.database.read(api_keys.page, None)}
    assert rows == {key_id: done.key_id, done.key_id: None}


async def test_a_rotation_prolongs_no_key(till: Till, user: User) -> None:
    """An old key that ends before the overlap does ends as it was to."""
    key_id, _ = await _create(till, user)
    done = await till.database.write(api_keys.rotate, key_id, timedelta(days=7), NOON)
    assert isinstance(done, api_keys.Rotated)
    assert done.old_ends_at == NOON + timedelta(days=1)


async def test_a_key_is_rotated_once(till: Till, user: User) -> None:
    """Two operators at the same moment make one successor; an ended key and an unknown one get none."""
    # Connections that are open already, or the first operator would have finished before the others have begun.
    await asyncio.gather(*(till.database.write(api_keys.page, None) for _ in range(4)))
    for _ in range(10):
        key_id, _ = await _create(till, user)
        rotating = (till.database.write(api_keys.rotate, key_id, timedelta(hours=1), NOON) for _ in range(4))
        outcomes = await asyncio.gather(*rotating)
        assert sum(isinstance(outcome, api_keys.Rotated) for outcome in outcomes) == 1
        assert outcomes.count(api_keys.NotRotated.ROTATED) == 3
    revoked, _ = await _create(till, user)
    await till.database.write(api_keys.revoke, revoked, NOON)
    for ended, now in ((revoked, NOON), (key_id, NOON + timedelta(hours=1))):
        outcome = await till.database.write(api_keys.rotate, ended, timedelta(hours=1), now)
        assert outcome is api_keys.NotRotated.ENDED
    unknown = await till.database.write(api_keys.rotate, "fbx_nothing", timedelta(hours=1), NOON)
    assert unknown is api_keys.NotRotated.UNKNOWN
    assert len(await till.database.read(api_keys.page, None)) == 21

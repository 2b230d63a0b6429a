"""From a credential to a caller, remembered for a moment and never longer than it is valid."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from config.settings import FareboxSettings
from policies.callers import Caller
from policies.refusals import Reason, Refusal
from policies.terms import MICRO, Credential, Scope
from proxy.identity.credentials import Shown
from proxy.identity.identifier import CACHE_TIME, KEY_CACHE_TIME, Identifier
from proxy.identity.jwt import Fixed, Issuer
from proxy.identity.keys import static_keys
from store import accounts, api_keys, reports
from store.opening import Store, open_store
from tests import canaries

SECRET = canaries.JWT_SECRET
PEER = "192.0.2.1"


@dataclass
class Desk:
    """An identifier with its store, and a clock that moves only when a test moves it."""

    store: Store
    identifier: Identifier
    now: datetime

    async def ask(self, token: str) -> Caller | Refusal:
        return await self.identifier.identify(bearer(token), Scope.USE)

    async def known(self, token: str) -> Caller:
        caller = await self.ask(token)
        assert isinstance(caller, Caller), caller
        return caller

    async def available(self, caller: Caller) -> int:
        """Micro-credits."""
        now = self.store.clock()
        return (await self.store.database.read(reports.balance, caller.account.account_id, now)).available

    async def new_key(self, user: str, **more: Any) -> tuple[str, str]:
        """The id of a new key of a user, and the key."""
        caller = await self.known(token(user))
        details = {"models": (), "expires_at": None, "scopes": tuple(Scope)} | more
        account_id = caller.account.account_id
        key_details = (caller.user_id, account_id, "test", details["models"], details["expires_at"], self.now)
        return await self.store.database.write(api_keys.create, *key_details, details["scopes"])


def bearer(token: str, peer: str = PEER) -> Shown:
    return Shown("GET", [("Authorization", f"Bearer {token}")], peer)


def token(user: str, **claims: object) -> str:
    return jwt.encode({"sub": user} | claims, SECRET)


def settings(**identity: object) -> FareboxSettings:
    document = {
        "identity": {"jwt": [{"name": "app", "algorithms": ["HS256"], "secret": SECRET}]} | identity,
        "upstreams": {"u": {"url": "http://u"}},
        "routes": [{"id": "r", "match": "GET /", "upstream": "u", "access": "open"}],
    }
    return FareboxSettings.model_validate(document)


@pytest.fixture
async def store(migrated_file: Path, tmp_path: Path) -> AsyncIterator[Store]:
    shutil.copyfile(migrated_file, tmp_path / "farebox.db")
    async with open_store(f"sqlite+aiosqlite:///{tmp_path}/farebox.db", lambda: datetime.now(UTC)) as opened:
        yield opened


@pytest.fixture
def desk(store: Store) -> Desk:
    return desk_of(store, settings())


def desk_of(store: Store, how: FareboxSettings) -> Desk:
    issuers = [Issuer(issuer, Fixed(static_keys(issuer, Path()))) for issuer in how.identity.jwt]
    desk = Desk(store, None, datetime.now(UTC))  # type: ignore[arg-type]
    desk.identifier = Identifier(how, issuers, store, lambda: desk.now)
    return desk


async def test_an_unknown_user_becomes_an_account(desk: Desk) -> None:
    """Once, with the welcome credits, however many requests come at the same moment."""
    callers = await asyncio.gather(*(desk.known(token("ann", n=number)) for number in range(20)))
    assert len({caller.account.account_id for caller in callers}) == 1
    assert await desk.available(callers[0]) == 100 * MICRO


async def test_unknown_users_may_be_refused(store: Store) -> None:
    """Then a proven user without an account gets 401, and no account."""
    desk = desk_of(store, settings(unknown_users="refuse"))
    refusal = await desk.ask(token("ann"))
    assert isinstance(refusal, Refusal)
    assert refusal.error == "Unauthorized - User not found"
    assert await store.database.read(accounts.find_user, "ann") is None


async def test_a_creation_survives_the_one_who_asked_for_it(desk: Desk) -> None:
    """A client that leaves while its account is made does not leave half of it."""
    asking = asyncio.create_task(desk.ask(token("ann")))
    for _ in range(3):
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    caller = await desk.known(token("ann"))
    assert await desk.available(caller) == 100 * MICRO


async def test_an_api_key_identifies_its_user(desk: Desk) -> None:
    """In either header, with its own id and its limit to some models."""
    key_id, key = await desk.new_key("ann", models=("chat:*",))
    for shown in (bearer(key), Shown("GET", [("x-api-key", key)], PEER)):
        caller = await desk.identifier.identify(shown, Scope.USE)
        assert isinstance(caller, Caller)
        assert (caller.user_id, caller.credential, caller.key_id) == ("ann", Credential.API_KEY, key_id)
        assert caller.models == ("chat:*",)


@pytest.mark.parametrize(
    "change", [lambda key: key + "x", lambda key: key[:-1], str.upper, lambda key: "fbx_", str.swapcase]
)
async def test_a_key_that_is_almost_right_is_refused(desk: Desk, change: Any) -> None:
    """401 in the words for a bad token; nothing tells how close it was."""
    _, key = await desk.new_key("ann")
    refusal = await desk.ask(change(key))
    assert isinstance(refusal, Refusal)
    assert refusal.error == "Unauthorized - Invalid token"


async def test_keys_may_be_switched_off(store: Store) -> None:
    """Then a valid key is as good as none."""
    _, key = await desk_of(store, settings()).new_key("ann")
    assert isinstance(await desk_of(store, settings(api_keys=False)).ask(key), Refusal)


async def test_a_key_ends_at_its_moment(desk: Desk) -> None:
    """Also when it was remembered: the memory ends with the key."""
    end = desk.now + KEY_CACHE_TIME / 2
    _, key = await desk.new_key("ann", expires_at=end)
    await desk.known(key)
    desk.now = end - timedelta(milliseconds=1)
    await desk.known(key)
    desk.now = end
    assert isinstance(await desk.ask(key), Refusal)


async def test_a_revoked_key_stops_within_a_second(desk: Desk) -> None:
    """At once where money is concerned (the account's revision changes), and within a second in every process."""
    key_id, key = await desk.new_key("ann")
    before = await desk.known(key)
    await desk.store.database.write(api_keys.revoke, key_id, desk.now)
    assert (await desk.known(token("ann", fresh=1))).account.revision > before.account.revision
    assert await desk.known(key) is before
    desk.now += timedelta(seconds=1)
    assert isinstance(await desk.ask(key), Refusal)


@pytest.mark.parametrize("scope", Scope)
async def test_a_key_is_for_its_scopes(desk: Desk, scope: Scope) -> None:
    """Also when its caller is remembered from another scope; a token is for all of them."""
    _, key = await desk.new_key("ann", scopes=[str(scope)])
    for asked in Scope:
        caller = await desk.identifier.identify(bearer(key), asked)
        if asked is scope:
            assert isinstance(caller, Caller)
        else:
            assert isinstance(caller, Refusal)
            assert (caller.reason, caller.fields) == (Reason.FORBIDDEN, {"scope": str(asked)})
        assert isinstance(await desk.identifier.identify(bearer(token("ann")), asked), Caller)


async def test_a_token_is_remembered_for_a_moment(desk: Desk) -> None:
    """The same caller comes from memory for some seconds, and is then looked up again."""
    first = await desk.known(token("ann"))
    desk.now += CACHE_TIME - timedelta(milliseconds=1)
    assert await desk.known(token("ann")) is first
    desk.now += timedelta(milliseconds=1)
    assert await desk.known(token("ann")) is not first


async def test_a_token_is_not_remembered_beyond_its_end(desk: Desk) -> None:
    """The memory ends with the token and the clock difference that is tolerated."""
    almost_over = token("ann", exp=int(desk.now.timestamp()) - 26)
    first = await desk.known(almost_over)
    desk.now += timedelta(seconds=4)
    assert await desk.ask(almost_over) is not first


async def test_what_is_forgotten_is_looked_up_again(desk: Desk) -> None:
    """Every credential of the account is seen with fresh eyes, and those of others are not touched."""
    _, key = await desk.new_key("ann")
    ann, by_key, bob = await desk.known(token("ann")), await desk.known(key), await desk.known(token("bob"))
    await desk.store.database.write(accounts.set_frozen, ann.account.account_id, desk.now)
    assert not (await desk.known(token("ann"))).account.frozen
    desk.identifier.forget(ann)
    assert (await desk.known(token("ann"))).account.frozen
    assert (await desk.known(key)).account.frozen
    assert not by_key.account.frozen
    assert await desk.known(token("bob")) is bob


async def test_refusals_are_not_remembered(desk: Desk) -> None:
    """A key that is made a moment later works at once."""
    assert isinstance(await desk.ask("fbx_unknown"), Refusal)
    assert not desk.identifier._remembered


# K04: failures.


FEW = {"failures": {"limit": 5, "per": "10s"}}


async def test_k04_guessing_is_slowed_down_without_a_look(store: Store) -> None:
    """Over the limit a key is not looked up, be it unknown, wrong, revoked or good: the answer is one and the same."""
    desk = desk_of(store, settings(**FEW))
    _, good = await desk.new_key("ann")
    revoked_id, revoked = await desk.new_key("ann")
    await store.database.write(api_keys.revoke, revoked_id, desk.now)
    wrong = good[:12] + "A" * 35
    answers = [await desk.ask(key) for key in ("fbx_unknown", wrong, revoked, "fbx_", "fbx_other", wrong)]
    assert {(answer.reason, answer.error, answer.hint) for answer in answers if isinstance(answer, Refusal)} == {
        (Reason.UNAUTHORIZED, "Unauthorized - Invalid token", "The API key is unknown, revoked or expired.")
    }
    slowed = [await desk.ask(key) for key in ("fbx_unknown", wrong, revoked, good)]
    assert [getattr(answer, "reason", None) for answer in slowed] == [Reason.RATE_LIMITED] * 4
    assert len({answer.error for answer in slowed if isinstance(answer, Refusal)}) == 1
    desk.now += timedelta(seconds=2)
    await desk.known(good)


async def test_k04_a_victim_is_not_locked_out(store: Store) -> None:
    """Whoever guesses at a user's keys from elsewhere, or beside them, keeps away nobody who was in before."""
    desk = desk_of(store, settings(**FEW))
    _, key = await desk.new_key("ann")
    await desk.known(key)
    desk.now += timedelta(seconds=5)
    for number in range(100):
        assert isinstance(await desk.ask(key[:12] + f"{number:035}"), Refusal)
    assert isinstance(await desk.ask("fbx_over_the_limit"), Refusal)
    await desk.known(key)
    _, other = await desk.new_key("ann")
    assert isinstance(await desk.ask(other), Refusal)
    assert isinstance(await desk.identifier.identify(bearer(other, "198.51.100.7"), Scope.USE), Caller)
    await desk.known(token("ann"))
    await desk.known(token("somebody new at the same address"))


async def test_k04_bad_tokens_are_slowed_down_and_good_ones_are_not(store: Store) -> None:
    """A good token costs nobody anything to verify; a bad one gets 429 once there were too many."""
    desk = desk_of(store, settings(**FEW))
    reasons = [answer.reason for n in range(8) if isinstance(answer := await desk.ask(f"bad.{n}.token"), Refusal)]
    assert reasons == [Reason.UNAUTHORIZED] * 6 + [Reason.RATE_LIMITED] * 2
    await desk.known(token("ann"))


async def test_no_credential_is_no_failure(store: Store) -> None:
    """Whoever sends none guesses at nothing; nor does whoever sends two."""
    desk = desk_of(store, settings(**FEW))
    for _ in range(20):
        await desk.identifier.identify(Shown("GET", [], PEER), Scope.USE)
        await desk.identifier.identify(Shown("GET", [("X-Api-Key", "a"), ("X-Api-Key", "b")], PEER), Scope.USE)
    refusal = await desk.ask("bad")
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.UNAUTHORIZED


# K03, cookies.


async def test_a_trusted_proxy_brings_its_users(store: Store) -> None:
    """A user who is not known yet becomes an account, as with a token; a name is no token, whatever it looks like."""
    header = {"name": "X-User-Id", "peers": ["192.0.2.0/24"], "secret": SECRET}
    desk = desk_of(store, settings(trusted_header=header))
    proof = [("X-Proxy-Secret", SECRET)]
    for name in ("ann", "fbx_ann", token("bob")[:150]):
        caller = await desk.identifier.identify(Shown("GET", [("X-User-Id", name), *proof], PEER), Scope.MANAGE)
        assert isinstance(caller, Caller)
        assert (caller.user_id, caller.credential) == (name, Credential.TRUSTED_HEADER)
    # What was remembered of a name is nobody's token.
    assert isinstance(await desk.ask("ann"), Refusal)


async def test_a_remembered_cookie_still_asks_where_it_comes_from(store: Store) -> None:
    """The page of another site gets nothing from memory."""
    desk = desk_of(store, settings(cookie={"name": "session"}))
    cookie = [("Host", "app"), ("Cookie", f"session={token('ann')}")]
    for origin, ours in (("https://app", True), ("https://evil", False)):
        caller = await desk.identifier.identify(Shown("POST", [*cookie, ("Origin", origin)], PEER), Scope.USE)
        assert isinstance(caller, Caller) is ours

"""API keys of Farebox, from their creation to their end."""

from __future__ import annotations

import asyncio

import pytest

from policies.terms import Scope
from store import accounts, api_keys
from tests.flows.house import House

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}


async def new_key(house: House, user: str, models: tuple[str, ...] = (), *scopes: str) -> tuple[str, str]:
    """The id and the text of a key for a user."""
    await house.call("GET", "/api/credits/balance", user)
    database, now = house.services.store.database, house.services.now()
    found = await database.read(accounts.find_user, user)
    assert found is not None
    details = user, found.account.account_id, "test", models, None, now
    return await database.write(api_keys.create, *details, scopes or tuple(Scope))


@pytest.mark.parametrize("header", ["Authorization", "X-Api-Key", "x-api-key"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/health"])
async def test_the_backend_never_sees_a_key(house: House, header: str, path: str) -> None:
    """Whatever the route costs, and whichever header carried it."""
    _, key = await new_key(house, "uma")
    value = f"Bearer {key}" if header == "Authorization" else key
    method, options = ("POST", {"json": CHAT}) if path.startswith("/v1/chat") else ("GET", {})
    status, _, _ = await house.call(method, path, headers={header: value}, **options)
    assert status == 200
    seen = house.backend.requests[-1]
    assert seen.path == path
    assert not any(key in value for value in seen.headers.values())


async def test_a_key_is_limited_to_its_models(house: House) -> None:
    """A model outside of the key's list is refused, whatever the account may use."""
    _, key = await new_key(house, "vic", ("video-generator:*",))
    status, body, _ = await house.call("POST", "/v1/chat/completions", headers={"X-Api-Key": key}, json=CHAT)
    assert status == 403
    assert "API key is not allowed" in body["error"]["message"]


async def test_a_revoked_key_pays_for_nothing_more(house: House) -> None:
    """Revocation counts at once, although the key was used and remembered a moment ago."""
    key_id, key = await new_key(house, "wes")
    headers = {"X-Api-Key": key}
    assert (await house.call("POST", "/v1/chat/completions", headers=headers, json=CHAT))[0] == 200
    assert await house.services.store.database.write(api_keys.revoke, key_id, house.services.now())
    status, _, _ = await house.call("POST", "/v1/chat/completions", headers=headers, json=CHAT)
    assert status == 401


@pytest.mark.parametrize(
    ("method", "path", "body"), [("POST", "/v1/chat/completions", CHAT), ("GET", "/v1/models", None)]
)
async def test_a_key_that_may_only_read_uses_no_route(house: House, method: str, path: str, body: object) -> None:
    """Neither one that costs nor one that is free: the backend sees nothing, and nothing is taken."""
    _, key = await new_key(house, "xia", (), "read", "manage")
    before, seen = await house.call("GET", "/api/credits/balance", "xia"), len(house.backend.requests)
    status, answer, _ = await house.call(method, path, headers={"X-Api-Key": key}, json=body)
    assert status == 403
    assert "forbidden" in str(answer)
    assert len(house.backend.requests) == seen
    assert (await house.call("GET", "/api/credits/balance", "xia"))[1] == before[1]


async def test_a_revoked_key_reads_nothing_after_a_second(house: House) -> None:
    """Also where nothing is paid, and although it was revoked behind the back of this process."""
    key_id, key = await new_key(house, "yun")
    headers = {"X-Api-Key": key}
    assert (await house.call("GET", "/v1/models", headers=headers))[0] == 200
    revoked_at = asyncio.get_running_loop().time()
    assert await house.services.store.database.write(api_keys.revoke, key_id, house.services.now())
    while (await house.call("GET", "/v1/models", headers=headers))[0] == 200:
        assert asyncio.get_running_loop().time() - revoked_at < 5
        await asyncio.sleep(0.05)

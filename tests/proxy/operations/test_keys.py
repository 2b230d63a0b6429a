"""API keys at the desk."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from policies.refusals import Reason
from store import api_keys
from tests.proxy.operations.desk import Counter


@pytest.fixture
async def ana(counter: Counter) -> str:
    await counter.do("accounts create", user="ana")
    return "ana"


async def test_a_key_is_shown_once(counter: Counter, ana: str) -> None:
    """The key works, and no list shows it or its hash again."""
    made = await counter.do("keys create", user=ana, name="night batch", models=["video-generator:*"])
    found = await counter.desk.store.database.read(api_keys.find, made["key"])
    assert found is not None
    assert (found.user_id, found.models) == ("ana", ("video-generator:*",))
    listed = await counter.do("keys list")
    assert [row["id"] for row in listed["keys"]] == [made["id"]]
    assert made["key"] not in json.dumps(listed)
    assert api_keys.digest(made["key"]) not in json.dumps(listed)


async def test_a_key_is_made_for_the_only_user_of_an_account(counter: Counter, ana: str) -> None:
    """The number of an account will do where it has one user; a name of nobody makes nothing."""
    account = (await counter.do("accounts show", account=ana))["account"]
    assert (await counter.do("keys create", user=str(account)))["user"] == "ana"
    await counter.refused("keys create", Reason.NOT_FOUND, user="nobody")
    assert len((await counter.do("keys list"))["keys"]) == 1


async def test_the_state_of_a_key_is_told(counter: Counter, ana: str) -> None:
    """Valid, expired by the clock, or revoked."""
    expiring = await counter.do("keys create", user=ana, expires="2026-01-16")
    revoked = await counter.do("keys create", user=ana)
    valid = await counter.do("keys create", user=ana)
    await counter.do("keys revoke", id=revoked["id"])
    counter.clock.now = counter.clock.now.replace(day=16)
    states = {row["id"]: row["state"] for row in (await counter.do("keys list", account=ana))["keys"]}
    assert states == {expiring["id"]: "expired", revoked["id"]: "revoked", valid["id"]: "valid"}


async def test_a_key_ends_once(counter: Counter, ana: str) -> None:
    """Revoking again keeps the first moment; an unknown id is told."""
    key = await counter.do("keys create", user=ana)
    await counter.do("keys revoke", id=key["id"])
    counter.clock.now = counter.clock.now.replace(day=20)
    await counter.do("keys revoke", id=key["id"])
    (row,) = (await counter.do("keys list"))["keys"]
    assert row["revoked_at"].startswith("2026-01-15")
    await counter.refused("keys revoke", Reason.NOT_FOUND, id="fbx_nothing")


@pytest.mark.parametrize("given", [{"expires": "2026-01-15"}, {"expires": "tomorrow"}, {"models": ["a b"]}])
async def test_a_key_that_could_never_work_is_not_made(counter: Counter, ana: str, given: dict[str, object]) -> None:
    """An end in the past, no moment at all, and a pattern that no model fits are refused."""
    await counter.refused("keys create", Reason.INVALID_REQUEST, user=ana, **given)
    assert (await counter.do("keys list"))["keys"] == []


async def test_keys_of_one_account_are_listed_alone(counter: Counter, ana: str) -> None:
    """Another account's keys are not among them."""
    await counter.do("accounts create", user="budi")
    await counter.do("keys create", user=ana)
    await counter.do("keys create", user="budi")
    assert [row["user"] for row in (await counter.do("keys list", account="budi"))["keys"]] == ["budi"]


async def test_a_rotation_has_an_overlap(counter: Counter, ana: str) -> None:
    """The successor is shown once, and the old key is valid until its end, which is told."""
    old = await counter.do("keys create", user=ana, name="ci", scopes=["use"], models=["chat:*"])
    new = await counter.do("keys rotate", id=old["id"], overlap="2h")
    assert (new["replaces"], new["models"], new["scopes"]) == (old["id"], ["chat:*"], ["use"])
    rows = {row["id"]: row for row in (await counter.do("keys list"))["keys"]}
    assert (rows[old["id"]]["state"], rows[old["id"]]["replaced_by"]) == ("valid", new["id"])
    assert rows[old["id"]]["expires_at"] == new["old_ends_at"]
    assert new["key"] not in json.dumps(rows)
    counter.clock.now += timedelta(hours=2)
    states = {row["id"]: row["state"] for row in (await counter.do("keys list"))["keys"]}
    assert states == {old["id"]: "expired", new["id"]: "valid"}


async def test_what_cannot_be_rotated_is_told(counter: Counter, ana: str) -> None:
    """An unknown key, one that has ended, one that has a successor, an overlap that is none."""
    old = await counter.do("keys create", user=ana)
    await counter.refused("keys rotate", Reason.INVALID_REQUEST, id=old["id"], overlap="soon")
    await counter.refused("keys rotate", Reason.NOT_FOUND, id="fbx_nothing")
    new = await counter.do("keys rotate", id=old["id"])
    await counter.refused("keys rotate", Reason.CONFLICT, id=old["id"])
    await counter.do("keys revoke", id=new["id"])
    await counter.refused("keys rotate", Reason.CONFLICT, id=new["id"])


@pytest.mark.parametrize("scopes", [[], ["all"], ["use", "USE"], [""]])
async def test_scopes_are_those_that_there_are(counter: Counter, ana: str, scopes: list[str]) -> None:
    """A key for nothing, or for what nobody knows, is not made."""
    await counter.refused("keys create", Reason.INVALID_REQUEST, user=ana, scopes=scopes)

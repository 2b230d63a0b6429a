"""Operators of the admin API: each may do what the role says, with values that the role allows, and leaves a trace."""

from __future__ import annotations

import json
from typing import Any

import pytest

from config.roles import Role
from proxy.operations.operation import Operation
from proxy.operations.table import OPERATIONS
from tests.proxy.admin.conftest import OLGA, OTTO, TOKEN, VERA, Admin

WHO = {Role.VIEWER: VERA, Role.OPERATOR: OTTO, Role.OWNER: OLGA}


def _route(operation: Operation[Any]) -> tuple[str, str]:
    return "POST" if operation.changes else "GET", f"/admin/{operation.noun}/{operation.verb}"


async def _log(admin: Admin) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = (await admin.ask("GET", "/admin/audit/list"))["entries"]
    return listed


async def _customer(admin: Admin, credits: int = 0) -> None:
    await admin.ask(
        "POST", "/admin/accounts/create", json={"user": "ana", "email": "ana@example.com", "credits": credits}
    )


@pytest.mark.parametrize("role", Role)
async def test_each_verb_is_for_its_role_and_those_above(admin: Admin, role: Role) -> None:
    """403 for the others, before anything is said about arguments; with the role that is needed and who has it."""
    for operation in OPERATIONS:
        method, path = _route(operation)
        headers = {"Authorization": f"Bearer {WHO[role]}"}
        admin.services.clock.now += admin.services.settings.values.admin.failures.per  # type: ignore[attr-defined]
        async with admin.client.request(method, path, headers=headers) as answer:
            told = await answer.json()
            assert (answer.status == 403) is not role.covers(operation.role), operation.name
        if answer.status == 403:
            assert (told["code"], told["role"], told["needs"]) == ("forbidden", role, operation.role)
            names = ["admin", "olga"] if operation.role is Role.OWNER else ["admin", "otto", "olga"]
            assert told["hint"] == f"Ask one who may: {', '.join(names)}."


def test_nothing_that_changes_something_is_for_viewers() -> None:
    """And what is the owners' is what opens doors: keys, and the policy in force."""
    assert all(operation.role.covers(Role.OPERATOR) for operation in OPERATIONS if operation.changes)
    owners = {operation.name for operation in OPERATIONS if operation.role is Role.OWNER}
    assert owners == {"keys create", "keys rotate", "policy rollback"}


async def test_the_overview_says_what_one_may(admin: Admin) -> None:
    """By name and role, each verb with whether it is allowed."""
    for name, token in (("vera", VERA), ("otto", OTTO), ("olga", OLGA), ("admin", TOKEN)):
        told = await admin.ask("GET", "/admin", by=token)
        role = Role(told["role"])
        assert told["operator"] == name
        assert {row["path"]: row["allowed"] for row in told["operations"]} == {
            _route(operation)[1]: role.covers(operation.role) for operation in OPERATIONS
        }


async def test_the_audit_log_names_operator_and_role(admin: Admin) -> None:
    """Also of what was refused them, with what they asked for; reading leaves no entry."""
    await _customer(admin)
    await admin.ask("POST", "/admin/credits/grant", by=OTTO, json={"account": "ana", "credits": 5})
    await admin.ask("POST", "/admin/keys/create", 403, by=OTTO, json={"user": "ana"})
    await admin.ask("POST", "/admin/accounts/freeze", 403, by=VERA, json={"account": "ana"})
    await admin.ask("GET", "/admin/ledger/verify", 403, by=VERA)
    await admin.ask("POST", "/admin/policy/reload", 403, by=VERA)
    await admin.ask("POST", "/admin/accounts/freeze", 403, by=VERA, json={"accounts": "ana"})
    await admin.ask("GET", "/admin/accounts/list", by=VERA)
    entries = [(row["actor"], row["role"], row["operation"], row["outcome"]) for row in await _log(admin)]
    assert entries == [
        ("vera", "viewer", "accounts freeze", "refused"),
        ("vera", "viewer", "policy reload", "refused"),
        ("vera", "viewer", "ledger verify", "refused"),
        ("vera", "viewer", "accounts freeze", "refused"),
        ("otto", "operator", "keys create", "refused"),
        ("otto", "operator", "credits grant", "done"),
        ("admin", "owner", "accounts create", "done"),
    ]
    assert (await admin.ask("GET", "/admin/accounts/show?account=ana"))["frozen"] is False


async def test_what_is_refused_again_and_again_does_not_fill_the_log(admin: Admin) -> None:
    """429 after some, for what the role is not enough for; the same operator goes on doing what they may."""
    for _ in range(6):
        await admin.ask("POST", "/admin/accounts/freeze", 403, by=VERA, json={"account": "ana"})
    told = await admin.ask("POST", "/admin/accounts/freeze", 429, by=VERA, json={"account": "ana"})
    assert told["code"] == "rate_limited"
    await admin.ask("POST", "/admin/policy/reload", 429, by=VERA)
    await admin.ask("GET", "/admin/accounts/list", by=VERA)
    await admin.ask("POST", "/admin/keys/create", 403, by=OTTO, json={"user": "ana"})
    assert len(await _log(admin)) == 7


# Values are authorised, not only routes.


async def test_credits_above_the_limit_need_an_owner(admin: Admin) -> None:
    """Granting, taking, and giving to a new account; 403 with the limit, where it is set, and who can."""
    await _customer(admin, credits=1000)
    for path, given in (
        ("credits/grant", {"account": "ana", "credits": 100.000001}),
        ("credits/deduct", {"account": "ana", "credits": 101}),
        ("accounts/create", {"user": "ben", "credits": 101}),
    ):
        told = await admin.ask("POST", f"/admin/{path}", 403, by=OTTO, json=given)
        assert (told["code"], told["limit"], told["most"], told["needs"]) == (
            "forbidden",
            "admin.limits.credits",
            100,
            "owner",
        )
        assert told["hint"] == ("Ask one who may: admin, olga. The limit is admin.limits.credits in farebox.yaml.")
        await admin.ask("POST", f"/admin/{path}", by=OLGA, json=given)
    assert [row["outcome"] for row in await _log(admin)] == ["done", "refused"] * 3 + ["done"]
    assert (await admin.ask("GET", "/admin/credits/balance?account=ana"))["available"] == 999.000001
    await admin.ask("POST", "/admin/credits/grant", by=OTTO, json={"account": "ana", "credits": 100})
    await admin.ask("POST", "/admin/accounts/create", by=OTTO, json={"user": "cid"})


async def test_many_small_grants_are_one_large_one(admin: Admin) -> None:
    """A day's sum counts over all verbs and all accounts, not what was refused, and for each operator alone."""
    await _customer(admin, credits=1000)
    for path, credits in (("grant", 100), ("deduct", 100)):
        await admin.ask("POST", f"/admin/credits/{path}", by=OTTO, json={"account": "ana", "credits": credits})
    told = await admin.ask("POST", "/admin/credits/grant", 403, by=OTTO, json={"account": "ana", "credits": 51})
    assert (told["limit"], told["most"]) == ("admin.limits.credits_per_day", 250)
    assert "51 credits, after 200 in the last 24 hours" in told["error"]
    await admin.ask("POST", "/admin/credits/grant", by=OTTO, json={"account": "ana", "credits": 50})
    await admin.ask("POST", "/admin/credits/grant", 403, by=OTTO, json={"account": "ana", "credits": 0.000001})
    for _ in range(3):
        await admin.ask("POST", "/admin/credits/grant", by=OLGA, json={"account": "ana", "credits": 100})
    assert (await admin.ask("GET", "/admin/credits/balance?account=ana"))["available"] == 1350


async def test_payments_above_the_limit_need_an_owner(admin: Admin) -> None:
    """Whether the amount is stated or what is due, and a subscription that begins as paid."""
    await _customer(admin)
    paid = {"account": "ana", "plan": "pro-monthly", "paid": True}
    told = await admin.ask("POST", "/admin/subscriptions/subscribe", 403, by=OTTO, json=paid)
    assert (told["limit"], told["most"]) == ("admin.limits.payment", 100_000)
    await admin.ask("POST", "/admin/subscriptions/subscribe", by=OTTO, json={"account": "ana", "plan": "pro-monthly"})
    await admin.ask("POST", "/admin/subscriptions/confirm", 403, by=OTTO, json={"account": "ana"})
    await admin.ask("POST", "/admin/subscriptions/confirm", 403, by=OTTO, json={"account": "ana", "amount": 299_000})
    await admin.ask("POST", "/admin/subscriptions/confirm", 409, by=OTTO, json={"account": "ana", "amount": 99_000})
    await admin.ask("POST", "/admin/subscriptions/confirm", by=OLGA, json={"account": "ana"})


async def test_what_reveals_more_is_masked_for_viewers(admin: Admin) -> None:
    """E-mail addresses, and where operators work from; no argument changes that, and unknown ones are refused."""
    await _customer(admin)
    for path in ("accounts/list", "accounts/show?account=ana", "audit/list", "audit/list?about=ana@example.com"):
        seen, whole = [json.dumps(await admin.ask("GET", f"/admin/{path}", by=by)) for by in (VERA, OTTO)]
        assert "ana@example.com" not in seen
        assert "127.0.0.1" not in seen
        assert ("ana@example.com" in whole) is path.startswith("accounts"), path
        assert ("127.0.0.1" in whole) is (path == "audit/list"), path
    for name in ("email", "full", "role", "reveal"):
        told = await admin.ask("GET", f"/admin/accounts/list?{name}=1", 400, by=VERA)
        assert told["field"] == name


async def test_nobody_can_raise_their_own_rights(admin: Admin) -> None:
    """No verb takes an operator, a role, a limit or a token; keys are made by owners only, whatever their scope."""
    given = {name for operation in OPERATIONS for name in operation.arguments.model_fields}
    assert not given & {"operator", "operators", "role", "token", "limits", "hosts", "admin"}
    await _customer(admin)
    for scopes in (["use"], ["read"], ["use", "read", "manage"]):
        await admin.ask("POST", "/admin/keys/create", 403, by=OTTO, json={"user": "ana", "scopes": scopes})
    made = await admin.ask("POST", "/admin/keys/create", by=OLGA, json={"user": "ana", "scopes": ["use"]})
    await admin.ask("POST", "/admin/keys/rotate", 403, by=OTTO, json={"id": made["id"]})
    await admin.ask("POST", "/admin/policy/rollback", 403, by=OTTO, json={"revision": "000000000000"})

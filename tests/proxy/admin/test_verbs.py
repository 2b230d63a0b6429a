"""Operator verbs over HTTP."""

from __future__ import annotations

import json
import logging

import pytest

from proxy.operations.table import OPERATIONS
from tests.proxy.admin.conftest import TOKEN, Admin

NO_AMOUNTS = [
    *("0", "-1", "0.0000001", "1e30", "1e400", "1E-9999999", "1e99999999999999999999", "9" * 400, "NaN", "Infinity"),
    *('"1e3"', '"NaN"', '"１２"', '""', "true", "null", "[5]", '{"a": 5}'),
]
"""As JSON has them; NaN and Infinity as Python's reader of JSON takes them."""


async def test_the_api_lists_every_verb_with_its_arguments(admin: Admin) -> None:
    """Method, path, sentence and the schema of the arguments: the command line's table, once more."""
    listed = (await admin.ask("GET", "/admin"))["operations"]
    assert len(listed) == len(OPERATIONS)
    grant = next(entry for entry in listed if entry["path"] == "/admin/credits/grant")
    assert (grant["method"], grant["does"]) == ("POST", "Grants credits to an account.")
    assert {"account", "credits"} <= set(grant["arguments"]["required"])
    for entry in listed:
        # Each of them is there: without arguments it answers, or says which it misses.
        async with admin.client.request(entry["method"], entry["path"]) as answer:
            assert answer.status == 401


async def test_a_verb_answers_as_the_command_does(admin: Admin) -> None:
    """Changes by POST with a JSON object, reading by GET with a query; the same fields as with --json."""
    await admin.ask("POST", "/admin/accounts/create", json={"user": "ana", "credits": 1})
    granted = await admin.ask("POST", "/admin/credits/grant", json={"account": "ana", "credits": 2.5, "key": "k"})
    assert (granted["credits"], granted["balance"], granted["changed"]) == (2.5, 3.5, True)
    balance = await admin.ask("GET", "/admin/credits/balance", params={"account": "ana"})
    assert balance["available"] == 3.5


async def test_amounts_in_json_stay_exact(admin: Admin) -> None:
    """0.1 + 0.2 is 0.3: numbers of a body never become floats on their way into the ledger."""
    await admin.ask("POST", "/admin/accounts/create", json={"user": "ana", "credits": 0})
    for text in ("0.1", "0.2", "0.000001"):
        body = f'{{"account": "ana", "credits": {text}}}'
        await admin.ask("POST", "/admin/credits/grant", data=body)
    balance = await admin.ask("GET", "/admin/credits/balance", params={"account": "ana"})
    assert balance["available"] == 0.300001
    await admin.ask("POST", "/admin/credits/grant", 400, data='{"account": "ana", "credits": 0.0000001}')


@pytest.mark.parametrize("verb", ["grant", "deduct"])
@pytest.mark.parametrize("amount", NO_AMOUNTS)
async def test_what_is_no_amount_moves_nothing(admin: Admin, verb: str, amount: str) -> None:
    """400 with the field, whatever JSON can say; the account has not changed."""
    await admin.ask("POST", "/admin/accounts/create", json={"user": "ana", "credits": 10})
    body = f'{{"account": "ana", "credits": {amount}}}'
    refused = await admin.ask("POST", f"/admin/credits/{verb}", 400, data=body)
    assert refused["code"] == "invalid_request"
    assert refused["field"] in ("credits", "body")
    assert (await admin.ask("GET", "/admin/credits/balance", params={"account": "ana"}))["posted"] == 10


async def test_a_number_of_json_is_what_it_says(admin: Admin) -> None:
    """An exponent is another way to write the same number, exactly."""
    await admin.ask("POST", "/admin/accounts/create", json={"user": "ana", "credits": 0})
    for amount in ("1e3", "25E-1", "1.0", '"0.5"'):
        await admin.ask("POST", "/admin/credits/grant", data=f'{{"account": "ana", "credits": {amount}}}')
    assert (await admin.ask("GET", "/admin/credits/balance", params={"account": "ana"}))["posted"] == 1004


async def test_a_repeated_name_of_a_query_is_a_list(admin: Admin) -> None:
    """Where a list is meant; where one value is meant, two are refused."""
    await admin.ask("POST", "/admin/accounts/create", json={"user": "ana"})
    query = "user=ana&model=video-generator:wan2.2&unit=duration_seconds=10&unit=pixels=5"
    assert (await admin.ask("GET", f"/admin/policy/explain?{query}"))["credits"] == 10
    assert (await admin.ask("GET", "/admin/accounts/show?account=ana&account=budi", 400))["field"] == "account"


async def test_an_explanation_of_a_refusal_is_an_answer(admin: Admin) -> None:
    """200: the question was answered, whatever the answer is."""
    await admin.ask("POST", "/admin/accounts/create", json={"user": "ana"})
    told = await admin.ask("GET", "/admin/policy/explain?user=ana&model=video-generator:veo3")
    assert (told["passes"], told["required_tier"]) == (False, "enterprise")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/admin/accounts/show?account=nobody", None, 404, "not_found"),
        ("GET", "/admin/accounts/show", None, 400, "invalid_request"),
        ("GET", "/admin/accounts/list?limit=none", None, 400, "invalid_request"),
        ("GET", "/admin/accounts/list?lmit=1", None, 400, "invalid_request"),
        ("POST", "/admin/accounts/create", "", 400, "invalid_request"),
        ("POST", "/admin/accounts/create", "[]", 400, "invalid_request"),
        ("POST", "/admin/accounts/create", '"ana"', 400, "invalid_request"),
        ("POST", "/admin/accounts/create", "{", 400, "invalid_request"),
        ("POST", "/admin/accounts/create", "[" * 50_000, 400, "invalid_request"),
        ("POST", "/admin/accounts/create", b"\xff\xfe", 400, "invalid_request"),
        ("POST", "/admin/accounts/create", '{"user": "a\\u0000b"}', 400, "invalid_request"),
        ("POST", "/admin/accounts/create", '{"user": "\\ud800"}', 400, "invalid_request"),
        ("POST", "/admin/accounts/create", '{"\\ud800": "ana"}', 400, "invalid_request"),
        ("POST", "/admin/accounts/create", '{"user": "ana", "email": "a\\u0000b"}', 400, "invalid_request"),
        ("POST", "/admin/accounts/create", '{"user": "ana", "user": "budi"}', 400, "invalid_request"),
        ("POST", "/admin/accounts/create?user=ana", "{}", 400, "invalid_request"),
        ("POST", "/admin/accounts/create", '{"user": "ana", "credits": NaN}', 400, "invalid_request"),
        ("POST", "/admin/accounts/create", '{"user": "budi"}', 409, "conflict"),
        ("POST", "/admin/credits/deduct", '{"account": "budi", "credits": 101}', 402, "insufficient_credits"),
    ],
)
async def test_a_refusal_has_a_status_and_a_code(
    admin: Admin, method: str, path: str, body: str | bytes | None, status: int, code: str
) -> None:
    """The statuses and bodies of the public refusals, also here; and nothing was done."""
    await admin.ask("POST", "/admin/accounts/create", json={"user": "budi"})
    answer = await admin.ask(method, path, status, data=body)
    assert (answer["code"], bool(answer["error"]), bool(answer["request_id"])) == (code, True, True)
    assert len((await admin.ask("GET", "/admin/accounts/list"))["accounts"]) == 1


async def test_changes_are_logged_with_their_actor(admin: Admin, caplog: pytest.LogCaptureFixture) -> None:
    """Who granted what to whom; also what was refused; and never the key that was made."""
    caplog.set_level(logging.INFO, "proxy.operations")
    await admin.ask("POST", "/admin/accounts/create", json={"user": "ana"})
    await admin.ask("POST", "/admin/credits/deduct", 402, json={"account": "ana", "credits": 500})
    key = (await admin.ask("POST", "/admin/keys/create", json={"user": "ana"}))["key"]
    await admin.ask("GET", "/admin/accounts/list")
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == 'admin: accounts create {"user":"ana"}: done'
    assert lines[1].startswith("admin: credits deduct ")
    assert '"credits":500' in lines[1]
    assert lines[1].endswith("refused: Insufficient credits")
    assert len(lines) == 3
    assert key not in json.dumps(lines)


async def test_a_store_that_is_gone_answers_503(admin: Admin) -> None:
    """With when to try again, as everywhere; nothing of the reason leaves the log."""
    await admin.services.store.database.close()
    (admin.services.settings.folder / "farebox.db").write_bytes(b"no database any more")
    async with admin.client.get("/admin/accounts/list", headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert (await answer.json())["code"] == "store_unavailable"

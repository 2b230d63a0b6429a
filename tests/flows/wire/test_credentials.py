"""Credentials on the wire: forged tokens, wrong keys and guesses reach no backend and take nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from store import api_keys
from tests.flows.house import SECRET, token
from tests.flows.raw import Message
from tests.flows.wire.wire import CHEAP, SETTINGS, Wire, running_wire
from tests.proxy.identity.tokens import b64, jwk, pem, private_key
from tests.proxy.identity.tokens import token as made

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOON = 4102444800
"""An `exp` in the year 2100."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_wire(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    """Where a hundred may fail in a second, but the public key of an issuer is known to everybody."""
    folder = tmp_path_factory.mktemp("wire")
    (folder / "issuer.pem").write_text(pem("RS256"))
    issuer = '{name: idp, algorithms: [RS256], public_keys: [issuer.pem], user_prefix: "idp:", user: userId}'
    text = SETTINGS.replace("user: userId}]}", f"user: userId}}, {issuer}], failures: {{limit: 1000, per: 1s}}}}")
    async with running_wire(migrated_file, folder, text) as running:
        yield running
        await running.verify()


async def refused(wire: Wire, answer: Message, *statuses: int) -> None:
    assert answer.status in statuses, answer
    assert json.loads(answer.body)["code"]
    assert not wire.backend.requests
    assert await wire.spent() == 0


def forged(user: str) -> dict[str, str]:
    """Tokens that name a user who exists, by what is wrong with them."""
    claims = {"userId": user, "exp": SOON}
    honest = token(user)
    head, payload, end = honest.split(".")
    secret = SECRET.encode()
    later = [("J04 over", {"exp": 1}), ("J04 not yet", {"nbf": SOON}), ("J04 a date in a text", {"exp": "soon"})]
    later += [
        ("J04 no number", {"exp": float("nan")}),
        ("J04 no user", {"userId": None}),
        ("J04 a list", {"userId": [user]}),
    ]
    return {
        "J01 none": f"{b64(json.dumps({'alg': 'none'}).encode())}.{payload}.",
        "J01 NONE": f"{b64(json.dumps({'alg': 'NONE'}).encode())}.{payload}.{end}",
        "J01 the public key as a secret": made(claims, "HS256", key=pem("RS256").encode()),
        "J01 the published key as a secret": made(claims, "HS256", key=json.dumps(jwk("RS256")).encode()),
        "J01 the secret for another algorithm": made(claims, "HS512", key=secret),
        "J02 critical": made(claims, "HS256", key=secret, header={"crit": ["x"], "x": 1}),
        "J03 its own key": made(claims, "RS256", key=private_key("RS256", 1), header={"jwk": jwk("RS256", 1)}),
        "J03 its own URL": made(claims, "RS256", key=private_key("RS256", 1), header={"jku": "http://127.0.0.1:9/"}),
        "J03 a path for a key": made(claims, "HS256", key=b"", header={"kid": "../../../dev/null"}),
        "J03 a list for a key": made(claims, "HS256", key=secret, header={"kid": ["a"]}),
        **{name: made(claims | changed, "HS256", key=secret) for name, changed in later},
        "J05 padding": f"{head}=.{payload}.{end}",
        "J05 a part more": f"{honest}.x",
        "J05 another payload": f"{head}.{b64(json.dumps(claims | {'userId': 'root'}).encode())}.{end}",
        "J05 a space": f"{head}. {payload}.{end}",
        "J06 a long one": honest + "a" * 9000,
    }


FORGED = sorted(forged("x"))


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize("line", ["POST /flat", "GET /mine/x"])
async def test_a_forged_token_is_401(wire: Wire, name: str, line: str) -> None:
    """J01 to J06: whatever is wrong with it, and in the same words; the honest one beside it is served."""
    answer = await wire.ask(line, f"Authorization: Bearer {forged(wire.name('ann'))[name]}")
    await refused(wire, answer, 401)
    assert answer.values(b"www-authenticate") == [b'Bearer realm="farebox"']
    assert (await wire.ask("GET /mine/x", user="ann")).status == 200


async def test_j06_a_token_beyond_the_bound_is_431(wire: Wire) -> None:
    """Before it is looked at."""
    answer = await wire.ask("POST /flat", "Authorization: Bearer " + "a" * 20_000)
    await refused(wire, answer, 431)


async def _key(wire: Wire, user: str = "ann", ends_in: timedelta | None = None) -> tuple[str, str]:
    """The id of a new key of a user, and the key."""
    assert (await wire.ask("GET /mine/x", user=user)).status == 200
    wire.backend.requests.clear()
    now = wire.services.now()
    ends = None if ends_in is None else now + ends_in
    details = (wire.name(user), await wire.account(user), "test", (), ends, now)
    return await wire.services.store.database.write(api_keys.create, *details)  # type: ignore[arg-type]


async def test_k01_a_key_works_as_it_is_and_in_no_other_way(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """In either header; not in the URL, in another case, cut, longer, or by its id. It is in no answer and no log."""
    caplog.set_level(logging.DEBUG)
    key_id, key = await _key(wire)
    wrong = [key[:-1], key + "x", key.swapcase(), key.upper(), key_id, f"fbx_{key_id}", "fbx_", key[:8] + "0" * 40]
    for text in wrong:
        answer = await wire.ask("POST /flat", f"X-Api-Key: {text}")
        await refused(wire, answer, 401)
        assert key.encode() not in answer.body
    await refused(wire, await wire.ask(f"POST /flat?api_key={key}&key={key}"), 401)
    assert (await wire.ask("POST /flat", f"X-Api-Key: {key}")).status == 200
    assert (await wire.ask("POST /flat", f"Authorization: Bearer {key}")).status == 200
    assert await wire.spent() == 2 * CHEAP
    assert all(key not in str(arrived) for arrived in wire.backend.requests)
    assert all(key not in record.getMessage() for record in caplog.records)


async def test_k01_an_expired_key_and_an_unknown_one_are_alike(wire: Wire) -> None:
    """Nothing tells which of both it was."""
    _, expired = await _key(wire, ends_in=timedelta(microseconds=1))
    answers = [await wire.ask("POST /flat", f"X-Api-Key: {key}") for key in (expired, "fbx_unknown")]
    bodies = [{**json.loads(answer.body), "request_id": ""} for answer in answers]
    assert bodies[0] == bodies[1]
    for answer in answers:
        await refused(wire, answer, 401)


async def test_k01_two_keys_work_while_one_follows_the_other(wire: Wire) -> None:
    """Until the old one is revoked, which is at once for what costs something."""
    (old_id, old), (_, new) = await _key(wire), await _key(wire)
    for key in (old, new):
        assert (await wire.ask("POST /flat", f"X-Api-Key: {key}")).status == 200
    await wire.services.store.database.write(api_keys.revoke, old_id, wire.services.now())
    statuses = [(await wire.ask("POST /flat", f"X-Api-Key: {key}")).status for key in (old, new)]
    assert statuses == [401, 200]
    assert await wire.spent() == 3 * CHEAP


async def test_k04_a_refusal_tells_nothing_of_users(wire: Wire) -> None:
    """Of a user who exists and of one who does not: the same status, words and headers."""
    await _key(wire)
    names = [wire.name("ann"), "nobody-has-this-name"]
    tokens = [made({"userId": name, "exp": SOON}, "HS256", key=b"x" * 32) for name in names]
    answers = [await wire.ask("POST /flat", f"Authorization: Bearer {text}") for text in tokens]
    for answer in answers:
        await refused(wire, answer, 401)
        answer.headers = [header for header in answer.headers if header[0] != b"X-Request-Id"]
        answer.body = json.dumps({**json.loads(answer.body), "request_id": ""}).encode()
    assert answers[0] == answers[1]

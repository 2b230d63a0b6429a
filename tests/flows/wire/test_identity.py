"""Who a request is from, at the level of bytes: what a backend sees of it, and that what is refused leaves no trace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests import canaries
from tests.flows.house import token
from tests.flows.raw import Message
from tests.flows.wire.wire import CHEAP, SETTINGS, Wire, order, running_wire
from tests.proxy.identity.tokens import jwk, private_key
from tests.proxy.identity.tokens import token as signed_token

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROOF = "X-Proxy-Secret: " + canaries.PROXY_SECRET
IDENTITY = f"""
identity:
  jwt:
    - {{name: app, algorithms: [HS256], secret: "${{JWT_SECRET}}", user: userId}}
    - {{name: idp, algorithms: [RS256, ES256], jwks_url: "%s", issuer: "https://id/", user_prefix: "idp:"}}
    - {{name: gone, algorithms: [RS256], jwks_url: "http://127.0.0.1:9/", issuer: "https://gone/"}}
  trusted_header: {{name: X-User-Id, peers: [127.0.0.0/8], secret: "{canaries.PROXY_SECRET}"}}
  cookie: {{name: session}}
  failures: {{limit: 1000, per: 1s}}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_wire(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    """With every way in open."""
    app = web.Application()
    app.router.add_get("/jwks.json", published)
    async with TestServer(app) as provider:
        text = IDENTITY % provider.make_url("/jwks.json") + SETTINGS.strip().partition("\n")[2]
        async with running_wire(migrated_file, tmp_path_factory.mktemp("wire"), text) as running:
            yield running
            await running.verify()


async def published(request: web.Request) -> web.Response:
    """The keys of the identity provider."""
    return web.json_response({"keys": [jwk("RS256", kid="one"), jwk("ES256", kid="two")]})


def seen(wire: Wire) -> Message:
    (request,) = wire.backend.requests
    return request


def by(issuer: str, user: str, algorithm: str, key: int = 0) -> str:
    """The header with a token of an identity provider."""
    claims = {"sub": user, "iss": issuer, "exp": 4102444800}
    key_id = {"RS256": "one", "ES256": "two"}[algorithm]
    text = signed_token(claims, algorithm, key=private_key(algorithm, key), header={"kid": key_id})
    return f"Authorization: Bearer {text}"


async def refused(wire: Wire, answer: Message, status: int) -> None:
    """The answer has this status; the backend has not been asked, and nothing was taken."""
    assert answer.status == status
    assert wire.backend.requests == []
    assert await wire.spent() == 0


async def test_a_user_whom_the_proxy_names_pays(wire: Wire) -> None:
    """The name travels on to a backend that knew it before there was Farebox; the secret does not."""
    answer = await wire.ask("POST /flat", f"X-User-Id: {wire.name('ann')}", PROOF, body=order())
    assert answer.status == 200
    assert await wire.spent() == CHEAP
    named = [wire.name("ann").encode()]
    assert seen(wire).values(b"x-user-id") == seen(wire).values(b"x-farebox-user") == named
    assert canaries.PROXY_SECRET not in str(seen(wire))


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_a_token_of_a_published_key_pays(wire: Wire, algorithm: str) -> None:
    """Of a user who is another one than the app's user of the same name."""
    answer = await wire.ask("POST /flat", by("https://id/", wire.name("ann"), algorithm), body=order())
    assert answer.status == 200
    assert (await wire.spent("idp:ann"), await wire.spent("ann")) == (CHEAP, 0)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_j01_a_token_of_another_key_is_401(wire: Wire, algorithm: str) -> None:
    """Under the name of the right one."""
    answer = await wire.ask("POST /flat", by("https://id/", wire.name("ann"), algorithm, key=1), body=order())
    await refused(wire, answer, 401)
    assert await wire.spent("idp:ann") == 0


async def test_j07_a_token_that_nobody_can_verify_is_503(wire: Wire) -> None:
    """Its issuer has been away since the start. It is not the client's fault, and nothing is taken or forwarded."""
    answer = await wire.ask("POST /flat", by("https://gone/", wire.name("ann"), "RS256"), body=order())
    await refused(wire, answer, 503)
    assert b"identity_unavailable" in answer.body
    assert answer.values(b"retry-after") == [b"5"]


@pytest.mark.parametrize("proof", [[], ["X-Proxy-Secret: wrong"], [PROOF, PROOF], ["X_Proxy_Secret" + PROOF[14:]]])
@pytest.mark.parametrize("line", ["POST /flat", "GET /mine/x"])
async def test_k03_a_name_without_proof_is_401(wire: Wire, line: str, proof: list[str]) -> None:
    """From the right address, and never an anonymous caller."""
    await refused(wire, await wire.ask(line, f"X-User-Id: {wire.name('ann')}", *proof), 401)


@pytest.mark.parametrize("spelling", ["X_User_Id", "x.user.id", "X-USER_ID", "XUserId"])
async def test_h03_no_unproven_name_reaches_a_backend(wire: Wire, spelling: str) -> None:
    """On open routes too, where nobody is asked who they are; and beside a name that is proven it is refused."""
    for header in ("X-User-Id", spelling):
        wire.backend.reset()
        assert (await wire.ask("GET /open/x", f"{header}: root")).status == 200
        assert "root" not in str(seen(wire))
    wire.backend.reset()
    await refused(wire, await wire.ask("POST /flat", f"X-User-Id: {wire.name('ann')}", f"{spelling}: root", PROOF), 400)


async def test_h02_a_nomination_takes_no_proof_away(wire: Wire) -> None:
    """A client that nominates the header in `Connection` has neither its name nor another one forwarded."""
    answer = await wire.ask("GET /open/x", "Connection: close, X-User-Id", "X-User-Id: root")
    assert answer.status == 200
    assert "root" not in str(seen(wire))


async def test_k02_two_ways_in_are_refused(wire: Wire) -> None:
    """A token beside a name, a token beside a cookie: 400."""
    bearer = wire.bearer()
    named, cookie = f"X-User-Id: {wire.name('ann')}", f"Cookie: session={token(wire.name('ann'))}"
    await refused(wire, await wire.ask("POST /flat", bearer, named, PROOF, body=order()), 400)
    await refused(
        wire, await wire.ask("POST /flat", bearer, cookie, "Origin: http://app.example.com", body=order()), 400
    )


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("Origin: http://app.example.com", 200),
        ("Origin: http://evil.example", 403),
        ("Sec-Fetch-Site: cross-site", 403),
    ],
)
async def test_a02_a_cookie_pays_for_our_own_pages_only(wire: Wire, origin: str, status: int) -> None:
    """The page of another site spends nothing of whoever looks at it."""
    cookie = f"Cookie: session={token(wire.name('ann'))}"
    answer = await wire.ask("POST /flat", cookie, origin, body=order())
    if status == 200:
        assert answer.status == 200
        assert await wire.spent() == CHEAP
    else:
        await refused(wire, answer, status)

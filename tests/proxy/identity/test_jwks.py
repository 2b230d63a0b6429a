"""J07: the keys that an issuer publishes, on a real endpoint that rotates, fails, lies and stays silent."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer

from config.findings import InvalidDocument
from config.settings import LoadedSettings, load_settings
from policies.refusals import Reason, Refusal
from proxy.identity import jwks as module
from proxy.identity.jwks import MAX_BYTES, Jwks, findings_of, open_issuers
from proxy.identity.jwt import Claims, Issuer, verify
from proxy.identity.keys import MAX_SET, UnusableKey, key_set
from tests.proxy.identity.tokens import jwk, private_key, token

NOW = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)


@dataclass
class Provider:
    """An identity provider on a socket, and a clock that moves only when a test moves it."""

    keys: list[dict[str, object]] = field(default_factory=lambda: [jwk("RS256", kid="one")])
    body: bytes | None = None
    status: int = 200
    fetches: int = 0
    silent: asyncio.Event | None = None
    now: datetime = NOW

    async def answer(self, request: web.Request) -> web.Response:
        self.fetches += 1
        if self.silent is not None:
            await self.silent.wait()
        body = json.dumps({"keys": self.keys}).encode() if self.body is None else self.body
        headers = {"Location": "/elsewhere"} if 300 <= self.status < 400 else {}
        return web.Response(status=self.status, body=body, headers=headers)

    async def elsewhere(self, request: web.Request) -> web.Response:
        raise AssertionError("a redirect was followed")

    async def serve(self, context: ssl.SSLContext | None = None) -> TestServer:
        app = web.Application()
        app.router.add_get("/jwks.json", self.answer)
        app.router.add_get("/elsewhere", self.elsewhere)
        server = TestServer(app, scheme="https" if context else "http")
        await server.start_server(ssl=context)
        return server


@dataclass
class Door:
    """What verifies, on the provider's keys."""

    provider: Provider
    issuers: list[Issuer]

    @property
    def source(self) -> Jwks:
        source = self.issuers[0].source
        assert isinstance(source, Jwks)
        return source

    async def verify(self, key_id: str | None = "one", algorithm: str = "RS256", key: Any = None) -> Claims | Refusal:
        text = token({"sub": "ann"}, algorithm, key=key, header={"kid": key_id})
        return await verify(text, self.issuers, self.provider.now)

    async def accepts(self, *arguments: Any) -> bool:
        return isinstance(await self.verify(*arguments), Claims)


def written(folder: Path, url: str, **more: object) -> LoadedSettings:
    issuer = {"name": "idp", "algorithms": ["RS256", "ES256"], "jwks_url": url} | more
    (folder / "farebox.yaml").write_text(json.dumps({
        "identity": {"jwt": [issuer]},
        "upstreams": {"u": {"url": "http://u"}},
        "routes": [{"id": "r", "match": "GET /", "upstream": "u", "access": "open"}],
    }))  # fmt: skip
    return load_settings(folder / "farebox.yaml", {})


@pytest.fixture
async def provider() -> Provider:
    return Provider()


@pytest.fixture
async def door(provider: Provider, tmp_path: Path) -> AsyncIterator[Door]:
    """With the keys of the start fetched."""
    async with AsyncExitStack() as stack:
        server = await provider.serve()
        stack.push_async_callback(server.close)
        settings = written(tmp_path, str(server.make_url("/jwks.json")))
        issuers = await stack.enter_async_context(open_issuers(settings, lambda: provider.now))
        door = Door(provider, issuers)
        assert await door.accepts()
        yield door


def after(door: Door, **duration: float) -> None:
    door.provider.now += timedelta(**duration)


async def test_a_published_key_verifies(door: Door) -> None:
    """The token names its key, or none, and then each that fits is tried."""
    assert await door.accepts("one")
    assert await door.accepts(None)
    assert door.provider.fetches == 1


async def test_j07_a_rotated_key_is_fetched_once(door: Door) -> None:
    """A name that nobody knows may be new: one fetch, and everybody who asks meanwhile waits for the same."""
    door.provider.keys = [jwk("RS256", kid="one"), jwk("ES256", kid="two")]
    after(door, seconds=31)
    outcomes = await asyncio.gather(*(door.accepts("two", "ES256") for _ in range(50)))
    assert outcomes == [True] * 50
    assert door.provider.fetches == 2


async def test_j07_made_up_keys_cause_one_fetch_in_a_cool_down(door: Door) -> None:
    """A thousand unknown names within it are refused from memory."""
    after(door, seconds=31)
    for number in range(1000):
        assert not await door.accepts(f"made up {number}")
    assert door.provider.fetches == 2
    after(door, seconds=29)
    assert not await door.accepts("another")
    assert door.provider.fetches == 2
    after(door, seconds=1)
    assert not await door.accepts("another")
    assert door.provider.fetches == 3


async def test_a_clock_that_was_set_back_does_not_keep_keys_away(door: Door) -> None:
    """Else nothing would be fetched until it is as late again."""
    after(door, days=-1)
    assert not await door.accepts("unknown")
    assert door.provider.fetches == 2


async def test_a_known_key_with_a_wrong_signature_causes_no_fetch(door: Door) -> None:
    """Whoever forges has the names of all keys; they are public."""
    after(door, minutes=1)
    assert not await door.accepts("one", "RS256", private_key("RS256", 7))
    assert door.provider.fetches == 1


async def test_j07_a_key_that_was_taken_back_stops_with_the_next_fetch(door: Door) -> None:
    """Regularly made; here one that another key asks for."""
    door.provider.keys = [jwk("ES256", kid="two")]
    after(door, seconds=31)
    assert await door.accepts("two", "ES256")
    assert not await door.accepts("one")


async def test_j07_keys_are_fetched_regularly(provider: Provider, tmp_path: Path) -> None:
    """Without any request that asks for it: what was taken back is noticed."""
    server = await provider.serve()
    settings = written(tmp_path, str(server.make_url("/jwks.json")), jwks_refresh="1ms", jwks_cooldown="1ms")

    def moving() -> datetime:
        provider.now += timedelta(seconds=1)
        return provider.now

    async with open_issuers(settings, moving):
        while provider.fetches < 5:
            await asyncio.sleep(0.001)
    await server.close()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, None),
        (302, None),
        (404, b"{}"),
        (204, b""),
        (200, b""),
        (200, b"<html>maintenance</html>"),
        (200, b"{}"),
        (200, b'{"keys": {}}'),
        (200, b'{"keys": []}'),
        (200, b'{"keys": [1, null, [], {}, {"kty": "RSA"}, {"kty": 5}, {"kty": "RSA", "n": 5, "e": "AQAB"}]}'),
        (200, json.dumps({"keys": [jwk("RS256", kid="one")]}).encode() + b" " * MAX_BYTES),
        (200, b'{"keys": ' + b"[" * 5000),
    ],
)
async def test_j07_the_last_good_keys_are_kept(
    door: Door, caplog: pytest.LogCaptureFixture, status: int, body: bytes | None
) -> None:
    """While the endpoint fails, redirects or answers garbage, of any size; it is told once and not with every try."""
    door.provider.status, door.provider.body = status, body
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            after(door, minutes=1)
            assert not await door.accepts("unknown")
    assert door.provider.fetches == 4
    assert await door.accepts("one")
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    door.provider.status, door.provider.body = 200, None
    after(door, minutes=1)
    assert not await door.accepts("unknown")
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


async def test_j07_kept_keys_end_some_day(door: Door) -> None:
    """Keys that could not be confirmed for `jwks_keep` are no longer trusted: 503, for it is not the client's fault."""
    door.provider.status = 500
    after(door, hours=23, minutes=59)
    assert await door.accepts("one")
    after(door, minutes=1)
    refusal = await door.verify("one")
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.retry_after_s) == (Reason.IDENTITY_UNAVAILABLE, 5)


async def test_a_start_does_not_wait_for_the_issuer(tmp_path: Path) -> None:
    """Where nothing listens Farebox starts; tokens of that issuer get 503, and garbage still gets 401."""
    settings = written(tmp_path, "http://127.0.0.1:9/jwks.json", issuer="https://id/")
    async with open_issuers(settings, lambda: NOW) as issuers:
        missing = await verify(token({"sub": "ann", "iss": "https://id/"}), issuers, NOW)
        others = await verify(token({"sub": "ann", "iss": "https://other/"}), issuers, NOW)
    assert isinstance(missing, Refusal)
    assert isinstance(others, Refusal)
    assert (missing.reason, others.reason) == (Reason.IDENTITY_UNAVAILABLE, Reason.UNAUTHORIZED)


async def test_j07_a_silent_endpoint_blocks_nobody_who_is_known(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a fetch hangs, known keys verify at once; the fetch ends by itself, and a client that left took it not."""
    monkeypatch.setattr(module, "FETCH_S", 0.2)
    door.provider.silent = asyncio.Event()
    after(door, minutes=1)
    waiting = [asyncio.create_task(door.accepts("unknown")) for _ in range(3)]
    while door.provider.fetches < 2:
        await asyncio.sleep(0)
    waiting[0].cancel()
    assert await door.accepts("one")
    assert not waiting[1].done()
    assert await asyncio.gather(*waiting[1:]) == [False, False]
    assert door.provider.fetches == 2
    door.provider.silent.set()


async def test_leaving_ends_a_fetch_that_hangs(door: Door) -> None:
    """Nothing is left running, and who waited is told."""
    door.provider.silent = asyncio.Event()
    after(door, minutes=1)
    waiting = asyncio.create_task(door.accepts("unknown"))
    while door.provider.fetches < 2:
        await asyncio.sleep(0)
    await door.source.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    door.provider.silent.set()


async def test_j07_keys_come_by_https(provider: Provider, tmp_path: Path) -> None:
    """With the authorities of `jwks_ca`; an endpoint that they do not vouch for is not believed."""
    authority, stranger = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ours.pem"))
    stranger.cert_pem.write_to_path(str(tmp_path / "others.pem"))
    server = await provider.serve(context)
    url = f"https://127.0.0.1:{server.port}/jwks.json"
    for name, believed in (("ours.pem", True), ("others.pem", False)):
        settings = written(tmp_path, url, jwks_ca=name)
        assert list(findings_of(settings)) == []
        async with open_issuers(settings, lambda: NOW) as issuers:
            assert await Door(provider, issuers).accepts() is believed
    await server.close()
    assert provider.fetches == 1


def test_the_authorities_are_looked_at_before_the_start(tmp_path: Path) -> None:
    """A file that is missing, or holds no certificate, is told with its place."""
    (tmp_path / "empty.pem").write_text("nothing")
    for name, reason in (("none.pem", "No such file or directory"), ("empty.pem", "it holds no certificate")):
        (finding,) = findings_of(written(tmp_path, "https://id/", jwks_ca=name))
        assert (finding.code, finding.line) == ("unusable-authorities", 1)
        assert finding.message == f"cannot use {name!r}: {reason}"


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example.com/jwks.json",
        "http://127.0.0.1.example.com/",
        "http://localhost.example.com/",
        "http://169.254.169.254/latest",
        "http://[::2]/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "https://user:pw@id.example.com/",
        "https://id.example.com/#x",
        "https:///x",
        "https://id.example.com:0/",
        "//id.example.com/",
        "jwks.json",
        "",
    ],
)
def test_j07_keys_are_never_fetched_in_the_clear(tmp_path: Path, url: str) -> None:
    """A plain connection is for loopback addresses only; and what is no URL is told."""
    with pytest.raises(InvalidDocument) as refused:
        written(tmp_path, url)
    assert refused.value.findings[0].code == "invalid-value"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://[::1]:1/", "http://localhost/x?y=1", "https://id/"])
def test_where_keys_may_come_from(tmp_path: Path, url: str) -> None:
    assert written(tmp_path, url).values.identity.jwt[0].jwks_url == url


# The set itself.


def keys_of(*entries: object) -> int:
    """How many of the entries can be used."""
    try:
        return len(key_set(json.dumps({"keys": list(entries)}).encode(), ["RS256", "PS256", "ES256", "EdDSA"]))
    except UnusableKey:
        return 0


def test_keys_of_every_kind() -> None:
    """RSA, P-256 and Ed25519, with or without an id, a use and an algorithm; foreign members do not matter."""
    entries = [jwk("RS256"), jwk("ES256", kid="a", use="sig"), jwk("EdDSA", alg="EdDSA", key_ops=["verify"], x5t="x")]
    assert keys_of(*entries) == 3


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": "c2VjcmV0"},
        jwk("RS256", d="AQAB"),
        jwk("RS256", k="AQAB"),
        jwk("RS256", use="enc"),
        jwk("RS256", key_ops=["encrypt"]),
        jwk("RS256", key_ops="verify"),
        jwk("RS256", alg="ES256"),
        jwk("RS256", alg="HS256"),
        jwk("RS256", alg="none"),
        jwk("RS256", alg="RS512"),
        jwk("ES256", alg="RS256"),
        jwk("ES256", x="AAAA"),
        jwk("ES256", crv="P-384"),
        jwk("ES384"),
        jwk("RS256", kid=5),
        jwk("RS256", kid="k" * 501),
        jwk("RS256", n="AQAB"),
        jwk("RS256", n="_" * 3000),
        jwk("RS256", kty="EC"),
        jwk("EdDSA", x="AAAA"),
        jwk("EdDSA", crv="X25519"),
    ],
    # The keys are new in each process, and would be other names in each.
    ids=map(str, range(21)),
)
def test_j07_what_is_no_key_to_verify_with_is_left_out(entry: object) -> None:
    """Secrets, private keys, other uses, other curves, RSA keys that are too short or too long; the others remain."""
    assert keys_of(entry, jwk("EdDSA", 5)) == 1


def test_a_key_is_bound_to_the_algorithm_it_states() -> None:
    """An RSA key for PS256 verifies nothing that says RS256."""
    (key,) = key_set(json.dumps({"keys": [jwk("RS256", alg="PS256")]}).encode(), ["RS256", "PS256"])
    assert (key.fits("PS256", None), key.fits("RS256", None)) == (True, False)


def test_j07_two_keys_of_one_name_both_count() -> None:
    """As RFC 7517 §4.5 allows for different kinds; which one a token means its algorithm says."""
    keys = key_set(json.dumps({"keys": [jwk("RS256", kid="a"), jwk("ES256", kid="a")]}).encode(), ["RS256", "ES256"])
    assert [key.fits("ES256", "a") for key in keys] == [False, True]


def test_j07_a_set_is_bounded() -> None:
    """More keys than any issuer has are no key set."""
    entry = jwk("EdDSA")
    assert keys_of(*[entry] * MAX_SET) == MAX_SET
    assert keys_of(*[entry] * (MAX_SET + 1)) == 0
    body = b'{"keys": [], "keys": [' + json.dumps(entry).encode() + b"]}"
    with pytest.raises(UnusableKey):
        key_set(body, ["EdDSA"])


def test_a_key_does_not_show_itself() -> None:
    """Also not a secret one, wherever its representation ends up."""
    (key,) = key_set(json.dumps({"keys": [jwk("EdDSA")]}).encode(), ["EdDSA"])
    assert "material" not in repr(key)

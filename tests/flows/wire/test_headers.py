"""Headers on the wire: what stays on its connection, who may speak of whom, and what is left for the next one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from proxy.sharing import EXPOSED
from tests.canaries import BACKEND_KEY
from tests.flows.raw import Message, answering, json_answer, request
from tests.flows.wire.wire import CHEAP, SETTINGS, Wire, order, running_wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROXY = "127.0.0.2"
"""Where connections of the trusted proxy come from; all of 127.0.0.0/8 is this machine."""

MORE = f"""
proxies: {{peers: [{PROXY}]}}
cors: {{origins: ["https://app.example.com"], max_age: 1h}}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_wire(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    """Behind a proxy, and with pages of another origin."""
    text = MORE + SETTINGS.replace("userId}]}", "userId}], failures: {limit: 3, per: 1h}}")
    async with running_wire(migrated_file, tmp_path_factory.mktemp("wire"), text) as running:
        yield running
        await running.verify()


def seen(wire: Wire) -> Message:
    """The one request that the backend has seen since this was called last."""
    (found,) = wire.backend.requests
    wire.backend.requests.clear()
    return found


def named(message: Message, *names: bytes) -> dict[bytes, list[bytes]]:
    return {name: message.values(name) for name in names}


# H01, H02: what belongs to one connection.

HOP_BY_HOP = ["Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "TE"]
HOP_BY_HOP += ["Trailer", "Upgrade"]
SPELLINGS = [str, str.lower, str.upper, str.swapcase, lambda name: name.replace("-", "_")]


@pytest.mark.parametrize("name", HOP_BY_HOP)
async def test_h01_a_hop_by_hop_header_stays_on_its_connection(wire: Wire, name: str) -> None:
    """In each direction, in each mix of capitals, and with an underscore that a backend might fold; the rest passes."""
    for spell in SPELLINGS:
        spelled = spell(name)
        wire.backend.script = answering(
            f"HTTP/1.1 200 OK\r\n{spelled}: x\r\nX-Near: 1\r\nContent-Length: 0\r\n\r\n".encode()
        )
        answer = await wire.ask("GET /open/x", f"{spelled}: x", "X-Near: 1")
        for message in (seen(wire), answer):
            assert not message.values(spelled.encode())
            assert message.values(b"X-Near") == [b"1"]


async def test_h01_a_backend_shows_no_way_around(wire: Wire) -> None:
    """`Alt-Svc` would send clients past Farebox (RFC 7838); a nominated header of an answer is its connection's."""
    sent = [b'Alt-Svc: h3=":443"', b"Connection: X-Hop", b"X-Hop: 1", b"X-Kept: 1"]
    wire.backend.script = answering(json_answer(b"{}", *sent))
    answer = await wire.ask("GET /open/x")
    assert named(answer, b"alt-svc", b"x-hop", b"x-kept") == {b"alt-svc": [], b"x-hop": [], b"x-kept": [b"1"]}


async def test_h02_what_decides_cannot_be_nominated_away(wire: Wire) -> None:
    """The backend has ours: credential, host, cookie, type and names. What has no such part in it is nominated away."""
    nominated = "Connection: close, Authorization, Host, Cookie, Content-Type, Content-Length, X-User-Id"
    more = "Connection: X-Farebox-User, X-Request-Id, X-Forwarded-For, X-Forwarded-Host, Via, X-Backend-Key"
    sent = [nominated, more, "Cookie: a=1", "X-User-Id: theirs", "Content-Type: application/json"]
    answer = await wire.ask("POST /flat", *sent, body=order(), user="ann")
    assert (answer.status, answer.values(b"x-farebox-charged")) == (200, [b"1"])
    arrived = seen(wire)
    assert arrived.body == order()
    assert all(len(arrived.values(name)) == 1 for name in (b"authorization", b"host", b"cookie", b"content-type"))
    assert named(arrived, b"x-user-id", b"x-backend-key") == {
        b"x-user-id": [],
        b"x-backend-key": [BACKEND_KEY.encode()],
    }
    assert arrived.values(b"x-farebox-user") == [wire.name("ann").encode()]
    assert arrived.values(b"x-forwarded-for") == [b"127.0.0.1"]
    assert len(arrived.values(b"x-request-id")) == len(arrived.values(b"via")) == 1


# H03, H04, H05: who may speak of whom.

OURS = ["X-Farebox-User", "X-Farebox-Account", "X-Farebox-Tier", "X-Farebox-Model", "X-Request-Id"]
VARIANTS = {
    "as it is": lambda name: f"{name}: root",
    "in capitals": lambda name: f"{name.upper()}: root",
    "underscores": lambda name: f"{name.replace('-', '_')}: root",
    "one underscore": lambda name: f"{name[::-1].replace('-', '_', 1)[::-1]}: root",
    "dots": lambda name: f"{name.replace('-', '.')}: root",
    "another tchar": lambda name: f"{name.replace('-', '~')}: root",
    "none at all": lambda name: f"{name.replace('-', '')}: root",
    "a list": lambda name: f"{name}: root, admin",
    "spaces around": lambda name: f"{name}: \t root \t ",
    "twice": lambda name: f"{name}: root\r\n{name.lower()}: root",
}


@pytest.mark.parametrize("variant", VARIANTS)
async def test_h03_only_farebox_names_the_caller(wire: Wire, variant: str) -> None:
    """Each protected name, in each variant: the backend has Farebox's own value of it, once, or none."""
    spoofed = [VARIANTS[variant](name) for name in OURS]
    await wire.ask("GET /open/x", *spoofed)
    unmetered = seen(wire)
    await wire.ask("POST /flat", *spoofed, user="ann")
    metered = seen(wire)
    for arrived in (unmetered, metered):
        assert b"root" not in b"".join(name + value for name, value in arrived.headers)
        assert len(arrived.values(b"x-request-id")) == 1
    assert [name for name, _ in unmetered.headers if b"farebox" in name.lower()] == []
    assert [name.decode() for name, _ in metered.headers if b"farebox" in name.lower()] == OURS[:-1]
    assert await wire.spent() == CHEAP


SPOOFED = [
    "Forwarded: for=6.6.6.6;host=evil;proto=https",
    "X-Forwarded-For: 6.6.6.6",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: evil",
    "X-Forwarded-Port: 666",
    "X-Forwarded-Prefix: /evil",
    "X-Forwarded-Uri: /evil",
    "X-Forwarded-Method: EVIL",
    "X-Real-IP: 6.6.6.6",
    "X-Original-URL: /evil",
    "X-Rewrite-URL: /evil",
    "X-HTTP-Method-Override: EVIL",
    "X_Forwarded_For: 6.6.6.6",
    "x.forwarded.host: evil",
    "True-Client-IP: 6.6.6.6",
]
TOLD = [b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"]


@pytest.mark.parametrize("line", ["GET /open/x", "POST /flat"])
async def test_h04_nobody_speaks_of_themselves(wire: Wire, line: str) -> None:
    """What an untrusted peer says of address, scheme, host, path or method reaches no backend, and Farebox tells it
    the truth instead: once each.
    """
    answer = await wire.ask(line, *SPOOFED, *SPOOFED, user="ann")
    assert answer.status == 200
    arrived = seen(wire)
    text = b"".join(b"%b: %b\n" % header for header in arrived.headers).lower()
    assert not any(word in text for word in (b"evil", b"6.6.6.6", b"666", b"https"))
    assert named(arrived, *TOLD) == {TOLD[0]: [b"127.0.0.1"], TOLD[1]: [b"http"], TOLD[2]: [b"app.example.com"]}


async def test_h04_a_trusted_proxy_is_believed(wire: Wire) -> None:
    """Its client, scheme and host travel on, with what it says of port and prefix; never another path or method."""
    answer = await wire.ask("GET /open/x", *SPOOFED[:12], source=PROXY)
    assert answer.status == 200
    arrived = seen(wire)
    assert named(arrived, *TOLD) == {TOLD[0]: [b"6.6.6.6, 127.0.0.2"], TOLD[1]: [b"https"], TOLD[2]: [b"evil"]}
    assert arrived.values(b"x-forwarded-prefix") == [b"/evil"]
    assert not [
        name for name, _ in arrived.headers if name.lower() in (b"forwarded", b"x-forwarded-uri", b"x-original-url")
    ]


async def test_h05_a_guesser_cannot_change_address(wire: Wire) -> None:
    """Failures count by the address that trusted proxies tell: whoever makes addresses up is one and the same."""

    async def guess(forwarded: str, source: str | None = None) -> int:
        headers = ["Authorization: Bearer wrong", f"X-Forwarded-For: {forwarded}", f"Forwarded: for={forwarded}"]
        return (await wire.ask("GET /mine/x", *headers, source=source)).status

    assert [await guess(f"6.6.6.{number}") for number in range(6)] == [401] * 4 + [429] * 2
    assert [await guess(f"6.6.6.{number}, 7.7.7.7:8{number}", PROXY) for number in range(6)] == [401] * 4 + [429] * 2
    assert await guess("7.7.7.8", PROXY) == 401
    assert not wire.backend.requests
    assert await wire.spent() == 0


# H06, A04: no header chooses a backend.


@pytest.mark.parametrize("host", ["169.254.169.254", "localhost:8081", "[::1]:8081", "evil.example.com:443", "admin"])
async def test_h06_a04_no_host_chooses_a_backend(wire: Wire, host: str) -> None:
    """The route's upstream is asked, and sees the host as a name; where the settings say so, it sees its own."""
    assert (await wire.ask("GET /open/x", f"Host: {host}", f"X-Forwarded-Host: {host}")).status == 200
    assert seen(wire).values(b"host") == [host.encode()]
    assert (await wire.ask("GET /quick/x", f"Host: {host}")).status == 200
    assert seen(wire).values(b"host") == [wire.backend.url.removeprefix("http://").encode()]


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("http://169.254.169.254/open/x", "app.example.com"),
        ("http://user@evil/open/x", "app.example.com"),
        ("//evil/open/x", "app.example.com"),
        ("@evil/open/x", "app.example.com"),
        ("/open/x", "user@evil"),
        ("/open/x", "user:password@evil:80"),
        ("/open/x", "evil/open"),
        ("/open/x", "evil?x"),
        ("/open/x", "evil#x"),
        ("/open/x", "a, b"),
        ("/open/x", "a b"),
        ("/open/x", "a\\b"),
    ],
)
async def test_h06_a04_no_target_names_a_backend(wire: Wire, target: str, host: str) -> None:
    """400: the absolute form, a user, and whatever else an authority is not (RFC 9112 §3.2)."""
    answer = await wire.raw(request(f"GET {target}", f"Host: {host}", "Connection: close"))
    assert answer.split(b" ")[1] == b"400"
    assert not wire.backend.requests


async def test_a04_a_redirect_is_not_followed(wire: Wire) -> None:
    """It is the client's to follow: Farebox asks nobody whom an answer names."""
    wire.backend.script = answering(
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: %b/flat\r\nContent-Length: 0\r\n\r\n" % wire.backend.url.encode()
    )
    answer = await wire.ask("POST /flat", body=order(), user="ann")
    assert (answer.status, answer.values(b"location")) == (307, [f"{wire.backend.url}/flat".encode()])
    assert len(wire.backend.requests) == 1
    await wire.settled_at(0)


# H08, H10, H11: what passes, and what one request leaves for the next.


async def test_h08_unknown_headers_pass_in_their_order(wire: Wire) -> None:
    """Repeated ones too, both ways, and nothing is invented: no server, date, agent, type or accepted coding."""
    sent = ["X-B: 2", "Via: 1.1 first", "X-A: 1", "Via: 1.0 second", "X-B: 3"]
    back = [b"X-B: 2", b"Set-Cookie: a=1", b"Via: 1.1 x", b"X-A: 1", b"Set-Cookie: b=2", b"Via: 1.1 y"]
    wire.backend.script = answering(b"\r\n".join([b"HTTP/1.1 200 OK", *back, b"Content-Length: 2", b"", b"ok"]))
    answer = await wire.ask("GET /open/x", *sent)
    arrived = [b"%b: %b" % header for header in seen(wire).headers]
    assert arrived[:6] == [b"Host: app.example.com", *(line.encode() for line in sent)]
    names = {line.partition(b":")[0].lower() for line in arrived[6:]}
    assert names == {*TOLD, b"via", b"x-backend-key", b"x-request-id"}
    assert [b"%b: %b" % header for header in answer.headers if header[0] != b"X-Request-Id"] == [
        *back,
        b"Content-Length: 2",
    ]


async def test_h10_a_cookie_is_its_owners_alone(wire: Wire) -> None:
    """Cookies pass both ways as they are, and none is kept: the next user brings their own, or none."""
    cookies = [b"Set-Cookie: session=anns; Path=/; HttpOnly", b"Set-Cookie: session=x; Domain=example.com"]
    wire.backend.script = answering(json_answer(b"{}", *cookies))
    answer = await wire.ask("POST /flat", 'Cookie: a=1; b="2"', "cookie: c=3", user="ann")
    assert [b"Set-Cookie: " + value for value in answer.values(b"set-cookie")] == cookies
    assert seen(wire).values(b"cookie") == [b'a=1; b="2"', b"c=3"]
    for user in ("bob", "ann"):
        await wire.ask("POST /flat", user=user)
        assert seen(wire).values(b"cookie") == []


async def test_h11_what_only_the_backend_is_told_stays_with_it(wire: Wire) -> None:
    """A backend that repeats the headers of a request does not show its key, or Farebox's names, to clients."""
    repeated = [
        b"x-backend-key: " + BACKEND_KEY.encode(),
        b"X-Farebox-User: ann",
        b"X-Farebox-Account: 1",
        b"X_Farebox_Tier: pro",
    ]
    for status in (b"200 OK", b"500 Oops"):
        wire.backend.script = answering(json_answer(b"{}", *repeated, b"X-Backend-Key: another", status=status))
        answer = await wire.ask("POST /flat", user="ann")
        names = {name.lower() for name, _ in answer.headers if b"farebox" in name.lower()}
        assert names <= {b"x-farebox-funding", b"x-farebox-charged", b"x-farebox-credits-remaining"}
        assert answer.values(b"x-backend-key") == [b"another"]


# H12: preflights.

PREFLIGHT = ["Origin: https://app.example.com", "Access-Control-Request-Method: POST"]


@pytest.mark.parametrize("line", ["OPTIONS /flat", "OPTIONS /buy", "OPTIONS /mine/x", "OPTIONS /api/quote"])
async def test_h12_a_preflight_is_answered_for_nothing(wire: Wire, line: str) -> None:
    """2xx without a credential, a model or credits, for what is served here; the backend hears nothing of it."""
    asked = "Access-Control-Request-Headers: authorization, x-a"
    answer = await wire.ask(line, *PREFLIGHT, asked)
    assert (answer.status, answer.body, wire.backend.requests) == (204, b"", [])
    allowed = {name.removeprefix(b"Access-Control-"): value for name, value in answer.headers if b"Access" in name}
    assert allowed == {
        b"Allow-Origin": b"https://app.example.com",
        b"Expose-Headers": EXPOSED.encode(),
        b"Allow-Methods": b"POST",
        b"Allow-Headers": b"authorization, x-a",
        b"Max-Age": b"3600",
    }
    assert len(answer.headers) == len(allowed) + 3, "the id, and what the answer varies by"
    assert await wire.usage() == []


async def test_h12_a_preflight_of_an_open_route_is_the_backends(wire: Wire) -> None:
    """It passes as it is, and so does the backend's answer."""
    wire.backend.script = answering(b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: x\r\nContent-Length: 0\r\n\r\n")
    answer = await wire.ask("OPTIONS /open/x", *PREFLIGHT)
    assert answer.values(b"access-control-allow-origin") == [b"x"]
    assert seen(wire).values(b"origin") == [b"https://app.example.com"]


@pytest.mark.parametrize(
    ("line", "headers", "body"),
    [
        ("OPTIONS /flat", ["Origin: https://evil.example", PREFLIGHT[1]], b""),
        ("OPTIONS /flat", [PREFLIGHT[1]], b""),
        ("OPTIONS /flat", [*PREFLIGHT, PREFLIGHT[0]], b""),
        ("OPTIONS /flat", PREFLIGHT[:1], b""),
        ("OPTIONS /flat", [PREFLIGHT[0], "Access-Control-Request-Method: TRACE"], b""),
        ("OPTIONS /flat", [PREFLIGHT[0], "Access-Control-Request-Method: DELETE"], b""),
        ("OPTIONS /flat", PREFLIGHT, b"abc"),
        ("OPTIONS /nowhere", PREFLIGHT, b""),
        ("GET /nowhere", PREFLIGHT, b""),
    ],
)
async def test_h12_what_is_no_preflight_is_a_request(wire: Wire, line: str, headers: list[str], body: bytes) -> None:
    """Of another origin, of none, for what is not served, or with a body: refused like others, and nothing passes."""
    answer = await wire.ask(line, *headers, body=body)
    assert answer.status in (401, 404)
    assert not answer.values(b"access-control-allow-methods")
    assert not wire.backend.requests


async def test_h12_options_without_a_preflight_keep_their_rule(wire: Wire) -> None:
    """Where a route serves OPTIONS it is what the route says: here, only for those who have an account."""
    assert (await wire.ask("OPTIONS /mine/x", PREFLIGHT[0])).status == 401
    assert (await wire.ask("OPTIONS /mine/x", user="ann")).status == 200


async def test_h12_a_page_can_read_why_it_was_refused(wire: Wire) -> None:
    """Our own answers say that the pages of the settings may read them, and no others; the backend's say their own."""
    for origin, allowed in ((PREFLIGHT[0], [b"https://app.example.com"]), ("Origin: https://evil.example", [])):
        refused = await wire.ask("POST /flat", origin)
        assert (refused.status, refused.values(b"access-control-allow-origin")) == (401, allowed)
        assert refused.values(b"vary") == [b"Origin"]
        assert bool(refused.values(b"access-control-expose-headers")) == bool(allowed)
        assert json.loads(refused.body)["code"] == "unauthorized"
        assert not (await wire.ask("POST /flat", origin, user="ann")).values(b"access-control-allow-origin")

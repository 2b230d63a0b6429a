"""Who a request comes from, and what its backend is told of that."""

from __future__ import annotations

import sys
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import FareboxSettings
from proxy.chain import MAX_HOPS, Chain, marker
from proxy.headers import HeaderList
from proxy.identity.credentials import Shown

HOST = ("Host", "app.example.com")


def settings(url: str = "http://u", **more: object) -> FareboxSettings:
    document = {
        "identity": {},
        "upstreams": {"u": {"url": url}},
        "routes": [{"id": "r", "match": "GET /", "upstream": "u", "access": "open"}],
    }
    return FareboxSettings.model_validate(document | more)


def chain(header: str = "X-Forwarded-For", *peers: str) -> Chain:
    return Chain(settings(proxies={"peers": list(peers or ["10.0.0.0/8", "fd00::/8"]), "header": header}))


def client(peer: str | None, *forwarded: str) -> str | None:
    shown = Shown("GET", [("X-Forwarded-For", value) for value in forwarded], peer)
    return chain().client(shown).address


@pytest.mark.parametrize(
    ("peer", "forwarded", "said"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("::ffff:192.0.2.1", [], "192.0.2.1"),
        ("2001:DB8:0::1", [], "2001:db8::1"),
        ("fe80::1%eth0", [], "fe80::1"),
        (None, ["1.1.1.1"], None),
        ("a socket", ["1.1.1.1"], None),
        ("192.0.2.1", ["198.51.100.1"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 10.0.0.3, 198.51.100.1, fd00::2,10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["1.1.1.1, garbage"], None),
        ("10.0.0.1", ["1.1.1.1, unknown"], None),
        ("10.0.0.1", ["garbage, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1", ["10.0.0.9:80, 198.51.100.1, [fd00::2]:80"], "198.51.100.1"),
        ("10.0.0.1", [""], None),
    ],
)
def test_h05_a_client_does_not_choose_its_address(peer: str | None, forwarded: list[str], said: str | None) -> None:
    """What trusted proxies have appended is read from the right; what a client wrote left of it never counts."""
    assert client(peer, *forwarded) == said


@pytest.mark.parametrize(
    ("forwarded", "said"),
    [
        (["for=198.51.100.1"], ("198.51.100.1", None, None)),
        (["For=198.51.100.1;Proto=HTTPS;host=a.example"], ("198.51.100.1", "https", "a.example")),
        (['for="[2001:db8::1]:4711";proto=https'], ("2001:db8::1", "https", None)),
        (["for=[2001:db8::1]"], ("2001:db8::1", None, None)),
        (['for="198.51.100.1:80";by=10.0.0.1'], ("198.51.100.1", None, None)),
        (["for=1.1.1.1, for=198.51.100.1;proto=http"], ("198.51.100.1", "http", None)),
        (["for=1.1.1.1;proto=x", "for=198.51.100.1;proto=https, for=10.0.0.2"], ("198.51.100.1", "https", None)),
        (['for="a, for=1.1.1.1"; proto=http , for=198.51.100.1'], ("198.51.100.1", None, None)),
        (["for=1.1.1.1, for=_hidden"], (None, None, None)),
        (["for=unknown"], (None, None, None)),
        (["proto=https"], (None, "https", None)),
        (['for="1.1.1.1, for=198.51.100.1'], (None, None, None)),
        (["for=1.1.1.1;for=198.51.100.1"], (None, None, None)),
        (["for=1.1.1.1 for=198.51.100.1"], (None, None, None)),
        (['"', "for=198.51.100.1"], ("198.51.100.1", None, None)),
        (['for=198.51.100.1;proto=gopher;host="a/b"'], ("198.51.100.1", None, None)),
        ([], ("10.0.0.1", None, None)),
    ],
)
def test_h05_the_standard_header_is_read_alike(forwarded: list[str], said: tuple[str | None, ...]) -> None:
    """RFC 7239: quoted or not, over several lines; of a malformed line nothing is known, nor of those before it."""
    headers = [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-Proto", "http"), ("X-Forwarded-Host", "evil")]
    shown = Shown("GET", [*headers, *(("Forwarded", value) for value in forwarded)], "10.0.0.1")
    found = chain("Forwarded").client(shown)
    assert (found.address, found.scheme, found.host) == said


@given(
    st.lists(st.sampled_from(["6.6.6.6", "10.0.0.7", "garbage", "", "[::1]:1", "unknown"]), max_size=6), st.booleans()
)
def test_h05_what_a_client_writes_changes_nothing(written: list[str], lines: bool) -> None:
    """However it is mixed, in one line or several: behind two proxies of ours the client's address is the client's."""
    header = [*written, "198.51.100.1", "10.0.0.2"]
    assert client("10.0.0.1", *(header if lines else [", ".join(header)])) == "198.51.100.1"


def test_h05_an_endless_chain_ends() -> None:
    """A client that makes up a chain of our own proxies' addresses is nobody."""
    shown = Shown("GET", [("X-Forwarded-For", ", ".join(["6.6.6.6", *["10.0.0.2"] * 2000]))], "10.0.0.1")
    found = chain().client(shown)
    assert (found.address, len(found.addresses)) == (None, MAX_HOPS + 2)


@pytest.mark.parametrize(("header", "hop"), [("X-Forwarded-For", "a"), ("Forwarded", "for=a")])
def test_d03_a_long_chain_is_no_more_work_than_a_short_one(header: str, hop: str) -> None:
    """A head has room for thirty thousand hops, and nobody needs a credential to send it."""
    assert _calls_made(header, [hop] * 10_000) == _calls_made(header, [hop] * 100)
    assert _calls_made(header, [hop] * 100, lines=100) == _calls_made(header, [hop] * 100, lines=10)


def _calls_made(header: str, hops: list[str], lines: int = 1) -> int:
    """Calls of the module's functions while a chain is read: the machine's pace makes no difference to them."""
    shown = Shown("GET", [(header, ", ".join(hops))] * lines, "10.0.0.1")
    made, reading = 0, chain(header)

    def count(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal made
        made += event == "call" and frame.f_globals["__name__"] == Chain.__module__

    sys.setprofile(count)
    try:
        reading.client(shown)
    finally:
        sys.setprofile(None)
    return made


def onward(peer: str, *headers: tuple[str, str], **more: object) -> HeaderList:
    shown = Shown("GET", [HOST, *headers], peer)
    own = settings(proxies={"peers": ["10.0.0.0/8"]}, **more)
    return [header for header in Chain(own).onward([HOST, *headers], shown, HOST[1], "1.1") if header[0] != "Via"]


SPOOFED = [
    ("Forwarded", "for=6.6.6.6;host=evil;proto=https"),
    ("X-Forwarded-For", "6.6.6.6"),
    ("x_forwarded_for", "6.6.6.6"),
    ("X.Forwarded.Host", "evil"),
    ("X-Forwarded-Host", "evil"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Scheme", "https"),
    ("X-Forwarded-Port", "6666"),
    ("X-Forwarded-Prefix", "/evil"),
    ("X-Forwarded-User", "root"),
    ("X-Real-IP", "6.6.6.6"),
    ("X_Real_IP", "6.6.6.6"),
    ("True-Client-IP", "6.6.6.6"),
    ("CF-Connecting-IP", "6.6.6.6"),
    ("Client-IP", "6.6.6.6"),
]
TOLD = [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Proto", "http"), ("X-Forwarded-Host", "app.example.com")]


@pytest.mark.parametrize("header", SPOOFED, ids=lambda header: header[0])
def test_h04_nobody_speaks_of_themselves(header: tuple[str, str]) -> None:
    """Under none of these names, in none of their spellings, once or twice, before or after others."""
    for headers in ([header], [header, header], [("A", "1"), header], SPOOFED):
        kept = [other for other in headers if other[0] == "A"]
        assert onward("192.0.2.1", *headers) == [HOST, *kept, *TOLD]


def test_h04_a_trusted_peer_is_believed() -> None:
    """About address, scheme and host; and what else it says in its own spelling passes as it is."""
    said = [
        ("X-Forwarded-For", "6.6.6.6, 198.51.100.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "a:8443"),
    ]
    passed = [("X-Forwarded-Port", "8443"), ("X-Forwarded-Prefix", "/shop"), ("X-Real-IP", "198.51.100.1")]
    assert onward("10.0.0.1", *said, *passed) == [
        HOST,
        *passed,
        ("X-Forwarded-For", "198.51.100.1, 10.0.0.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "a:8443"),
    ]


@pytest.mark.parametrize(
    "said",
    [
        [("X-Real-IP", "1.1.1.1"), ("X-Real-IP", "6.6.6.6")],
        [("X-Real-IP", "1.1.1.1"), ("X_Real_IP", "6.6.6.6")],
        [("X_Real_IP", "6.6.6.6")],
        [("X.Forwarded.Port", "6666")],
        [("Forwarded", "for=6.6.6.6")],
        [("X-Forwarded-Proto", "gopher"), ("X-Forwarded-Host", "a/b")],
        [("X-Forwarded-Host", "evil, also")],
    ],
)
def test_h04_what_a_trusted_peer_lets_through_is_not_believed(said: HeaderList) -> None:
    """A second value, or another spelling, beside the peer's own is the client's; and so is the header of the other
    kind. `X-Forwarded-Host` is what the peer wrote last.
    """
    told = {name: value for name, value in onward("10.0.0.1", *said) if name.startswith("X")}
    assert told.pop("X-Forwarded-For") == "10.0.0.1"
    assert told.pop("X-Forwarded-Host") == "app.example.com"
    assert told == {"X-Forwarded-Proto": "http"}


def test_scheme_and_host_are_those_of_the_first_trusted_hop() -> None:
    """Where each proxy appends them; where they set them anew, the one value counts for all."""
    addresses = ("X-Forwarded-For", "6.6.6.6, 198.51.100.1, 10.0.0.2")
    each = [("X-Forwarded-Proto", "gopher, https, http"), ("X-Forwarded-Host", "evil, shop.example, inner")]
    once = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "shop.example")]
    for said in (each, once):
        told = dict(onward("10.0.0.1", addresses, *said))
        assert told["X-Forwarded-For"] == "198.51.100.1, 10.0.0.2, 10.0.0.1"
        assert (told["X-Forwarded-Proto"], told["X-Forwarded-Host"]) == ("https", "shop.example")


def test_a_name_that_the_settings_give_a_meaning_keeps_it() -> None:
    """`X-Forwarded-User` may be the header of a trusted name; whether it travels on is judged elsewhere."""
    trusted = {"identity": {"trusted_header": {"name": "X-Forwarded-User", "peers": ["127.0.0.1"]}}}
    assert ("X-Forwarded-User", "ann") in onward("127.0.0.1", ("X-Forwarded-User", "ann"), **trusted)
    assert ("X-Forwarded-User", "ann") not in onward("127.0.0.1", ("X-Forwarded-User", "ann"))


def test_h09_a_request_is_marked_and_known_again() -> None:
    """In whatever company; a name that merely contains ours, or a comment with it, is another's."""
    own = settings()
    mine, name = Chain(own), marker(own)
    (via,) = [value for key, value in mine.onward([HOST], Shown("GET", [HOST], "::1"), HOST[1], "1.0") if key == "Via"]
    assert via == f"1.0 {name}"
    for value in (via, f"1.1 a, {via} (note) , 1.1 b", f"HTTP/1.1   {name}"):
        assert mine.is_loop(["1.1 other", value])
    for value in ("", ",", "1.1", name, f"1.1 x{name}", f"1.1 {name}x", f"1.1 other ({name})"):
        assert not mine.is_loop([value])


def test_h09_one_farebox_before_another_is_no_loop() -> None:
    """What forwards elsewhere has another name; processes and nodes with the same settings have the same."""
    assert marker(settings()) == marker(settings(listen="127.0.0.1:9"))
    assert marker(settings()) != marker(settings("http://other"))

"""Exactly one credential counts, in the ways that the settings allow; two are no choice to make for the client."""

from __future__ import annotations

from itertools import combinations

import pytest

from config.identity import Identity
from policies.refusals import Reason, Refusal
from policies.terms import Credential
from proxy.identity.credentials import MAX_TOKEN, Credentials, Presented, Shown

SECRET = "a-secret-that-only-tests-know-of-32-bytes"


def presented(authorization: list[str], api_key: list[str]) -> Presented | Refusal:
    headers = [*(("Authorization", value) for value in authorization), *(("x-api-key", value) for value in api_key)]
    return Credentials(Identity()).find(Shown("GET", headers, "192.0.2.1"))


@pytest.mark.parametrize(
    ("authorization", "api_key", "text"),
    [
        (["Bearer abc"], [], "abc"),
        (["bearer abc"], [], "abc"),
        (["BEARER   abc  "], [], "abc"),
        (["Bearer fbx_key"], [], "fbx_key"),
        ([], ["fbx_key"], "fbx_key"),
        ([], ["  fbx_key "], "fbx_key"),
        (["Bearer a b"], [], "a b"),
        (["Bearer " + "x" * MAX_TOKEN], [], "x" * MAX_TOKEN),
    ],
)
def test_one_credential_is_found(authorization: list[str], api_key: list[str], text: str) -> None:
    """As a bearer token in any case of the scheme, or as an API key in its own header."""
    kind = Credential.API_KEY if text.startswith("fbx_") else Credential.JWT
    assert presented(authorization, api_key) == Presented(kind, text)


@pytest.mark.parametrize(
    ("authorization", "api_key"),
    [
        ([], []),
        ([""], []),
        (["Bearer"], []),
        (["Bearer "], []),
        (["abc"], []),
        (["Basic dXNlcjpwYXNz"], []),
        (["Bearer\tabc"], []),
        (["Bearerabc"], []),
        (["Token abc"], []),
        ([], [""]),
        ([], ["  "]),
    ],
)
def test_no_bearer_token_is_no_token(authorization: list[str], api_key: list[str]) -> None:
    """401 in the origin's words, for a missing credential and for one of another scheme."""
    refusal = presented(authorization, api_key)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.error) == (Reason.UNAUTHORIZED, "Unauthorized - No token provided")


@pytest.mark.parametrize(
    ("authorization", "api_key"),
    [
        (["Bearer a", "Bearer b"], []),
        (["Bearer a", "Bearer a"], []),
        (["Bearer a", "Basic b"], []),
        (["Bearer a"], ["fbx_b"]),
        (["Bearer a"], [""]),
        ([], ["fbx_a", "fbx_b"]),
    ],
)
def test_several_credentials_are_refused(authorization: list[str], api_key: list[str]) -> None:
    """K02: 400, also when they agree: the backend might follow the other one."""
    refusal = presented(authorization, api_key)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.fields["field"]) == (Reason.INVALID_REQUEST, "Authorization")


def test_an_endless_token_is_refused_early() -> None:
    """J06: longer than any token that carries claims, before anything looks into it."""
    refusal = presented(["Bearer " + "x" * (MAX_TOKEN + 1)], [])
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.error) == (Reason.UNAUTHORIZED, "Unauthorized - Invalid token")


@pytest.mark.parametrize(("text", "kind"), [("fbx_abc", "api_key"), ("FBX_abc", "jwt"), ("eyJhbGciOi.e30.x", "jwt")])
def test_a_key_is_known_by_its_prefix(text: str, kind: str) -> None:
    """Whatever header it came in; everything else is taken for a token."""
    for found in (presented([f"Bearer {text}"], []), presented([], [text])):
        assert isinstance(found, Presented)
        assert found.kind == kind


def test_a_credential_does_not_show_itself() -> None:
    """A03: its representation may end up in a log."""
    assert "secret" not in repr(presented(["Bearer secret"], []))


# K03: a header of a trusted proxy.


def trusting(**more: object) -> Credentials:
    header = {"name": "X-User-Id", "email": "X-User-Email", "peers": ["10.0.0.0/8", "::1"], "secret": SECRET}
    return Credentials(Identity.model_validate({"trusted_header": header | more}))


def named(*headers: tuple[str, str], peer: str | None = "10.1.2.3", secret: str | None = SECRET) -> Shown:
    proof = [] if secret is None else [("x-proxy-secret", secret)]
    return Shown("GET", [*headers, *proof], peer)


ANN = ("x-user-id", "ann")


@pytest.mark.parametrize("peer", ["10.1.2.3", "::ffff:10.1.2.3", "::1"])
def test_k03_a_trusted_proxy_names_the_user(peer: str) -> None:
    """From one of its addresses and with its secret; an address of the user may come along."""
    found = trusting().find(named(ANN, ("X-User-Email", "ann@example.com"), peer=peer))
    assert found == Presented(Credential.TRUSTED_HEADER, "ann", "ann@example.com")


@pytest.mark.parametrize("peer", ["192.0.2.1", "11.0.0.1", "::2", "", None, "10.1.2", "unix", "::ffff:192.0.2.1"])
def test_k03_nobody_else_names_users(peer: str | None) -> None:
    """Not even with the secret: what they say is as good as nothing, and no credential is 401, never an anonymous."""
    found = trusting().find(named(ANN, peer=peer))
    assert isinstance(found, Refusal)
    assert found.error == "Unauthorized - No token provided"


@pytest.mark.parametrize("space", ["\xa0", "\u2003", "\x1f", "\u200b"])
def test_k03_another_name_is_not_trimmed_to_this_one(space: str) -> None:
    """What Python calls white space is a part of the name for the backend, which sees it as it came."""
    assert isinstance(trusting().find(named(("x-user-id", f"ann{space}"))), Refusal)
    found = presented([f"Bearer fbx_abc{space}"], [])
    assert isinstance(found, Presented)
    assert found.text == f"fbx_abc{space}"


@pytest.mark.parametrize(
    "shown",
    [
        named(ANN, secret=None),
        named(ANN, secret=""),
        named(ANN, secret=SECRET[:-1]),
        named(ANN, secret=SECRET + " "),
        named(ANN, ("X-Proxy-Secret", SECRET)),
        named(ANN, ("x_proxy_secret", SECRET), secret=None),
        named(("x-user-id", "")),
        named(("x-user-id", "  ")),
        named(("x-user-id", "ann, root")),
        named(("x-user-id", "a\tb")),
        named(("x-user-id", "a" * 201)),
    ],
)
def test_k03_a_proxy_that_does_not_prove_itself_is_not_believed(shown: Shown) -> None:
    """The secret missing, wrong, twice or in another spelling; and names that are none."""
    found = trusting().find(shown)
    assert isinstance(found, Refusal)
    assert (found.reason, found.error) == (Reason.UNAUTHORIZED, "Unauthorized - Invalid token")


@pytest.mark.parametrize("spelling", ["X_User_Id", "x.user.id", "XUserId", "X-User_Id", "x-user-id", "X--User-Id"])
def test_h03_a_second_spelling_is_refused(spelling: str) -> None:
    """The proxy in front may know one spelling only, and let a client's other one through."""
    for shown in (named(ANN, (spelling, "root")), named((spelling, "root"), ANN)):
        found = trusting().find(shown)
        assert isinstance(found, Refusal)
        assert found.reason is Reason.INVALID_REQUEST
    if spelling != "x-user-id":
        assert isinstance(trusting().find(named((spelling, "root"))), Refusal)


def test_k03_only_a_proven_name_travels_on() -> None:
    """Neither the secret nor a name that nobody vouches for reaches a backend, in any spelling; on any route."""
    other = ("Accept", "*/*")
    headers = [other, ("X-User-Id", "ann"), ("X-User-Email", "a@b"), ("X-Proxy-Secret", SECRET)]
    door = trusting()
    assert door.travelling(headers, Shown("GET", headers, "10.1.2.3")) == headers[:3]
    for odd in (("x_user_id", "root"), ("X.User.Email", "r@b"), ("X_Proxy_Secret", "s")):
        both = [*headers, odd]
        assert odd not in door.travelling(both, Shown("GET", both, "10.1.2.3"))
        assert door.travelling(both, Shown("GET", both, "192.0.2.1")) == [other]
    wrong = [*headers[:3], ("X-Proxy-Secret", "wrong")]
    assert door.travelling(wrong, Shown("GET", wrong, "10.1.2.3")) == [other]


def test_a_proxy_on_this_machine_needs_no_secret() -> None:
    """As a sidecar's neighbour; the settings allow it for loopback addresses only."""
    settings = Identity.model_validate({"trusted_header": {"name": "X-User-Id", "peers": ["127.0.0.1/32"]}})
    door = Credentials(settings)
    assert isinstance(door.find(named(ANN, peer="127.0.0.1", secret=None)), Presented)
    with pytest.raises(ValueError, match="need a `secret`"):
        Identity.model_validate({"trusted_header": {"name": "X-User-Id", "peers": ["127.0.0.1/32", "10.0.0.1"]}})


@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key", "Host", "x-forwarded-for", "X-Farebox-User", "Cookie"])
def test_a_header_with_a_meaning_names_no_user(name: str) -> None:
    """Else a client's own header, or ours, would."""
    with pytest.raises(ValueError, match="a name of its own"):
        trusting(name=name)


# Cookies.


def with_cookie(cookie: str, *headers: tuple[str, str], method: str = "POST", **more: object) -> Presented | Refusal:
    settings = {
        "jwt": [{"name": "app", "algorithms": ["HS256"], "secret": SECRET}],
        "cookie": {"name": "session"} | more,
    }
    own = [("Host", "app.example.com"), ("Cookie", cookie), *headers]
    return Credentials(Identity.model_validate(settings)).find(Shown(method, own, "192.0.2.1"))


HERE = ("Origin", "https://app.example.com")


@pytest.mark.parametrize(
    "cookie", ["session=abc", "a=b; session=abc; c=d", 'session="abc"', "session=abc;", "a;session=abc"]
)
def test_a_token_comes_in_a_cookie(cookie: str) -> None:
    """Among others; the one of the settings is the one that counts."""
    assert with_cookie(cookie, HERE) == Presented(Credential.JWT, "abc")


@pytest.mark.parametrize("cookie", ["Session=abc", "sessions=abc", "session", "x=session=abc", ""])
def test_another_cookie_is_none(cookie: str) -> None:
    refusal = with_cookie(cookie, HERE)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.UNAUTHORIZED


def test_cookies_count_where_they_are_configured() -> None:
    """A cookie that nobody configured is the app's, and no credential."""
    door = Credentials(Identity.model_validate({}))
    assert isinstance(door.find(Shown("GET", [("Cookie", "session=abc")], None)), Refusal)
    with pytest.raises(ValueError, match="without `jwt` none is accepted"):
        Identity.model_validate({"cookie": {"name": "session"}})


@pytest.mark.parametrize(
    ("method", "headers", "ours"),
    [
        ("POST", [HERE], True),
        ("POST", [("Origin", "https://APP.example.com")], True),
        ("POST", [("Sec-Fetch-Site", "same-origin")], True),
        ("GET", [("Sec-Fetch-Site", "none")], True),
        ("GET", [], True),
        ("POST", [], False),
        ("POST", [("Origin", "https://evil.example")], False),
        ("POST", [("Origin", "https://app.example.com.evil.example")], False),
        ("POST", [("Origin", "https://app.example.com:444")], False),
        ("POST", [("Origin", "null")], False),
        ("POST", [("Origin", "")], False),
        ("POST", [("Origin", "https://[")], False),
        ("POST", [HERE, ("Origin", "https://evil.example")], False),
        ("POST", [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "same-origin")], False),
        ("POST", [("Sec-Fetch-Site", "cross-site")], False),
        ("GET", [("Sec-Fetch-Site", "cross-site")], False),
        ("GET", [("Sec-Fetch-Site", "same-site")], False),
        ("GET", [("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "none")], False),
        ("GET", [("Origin", "https://evil.example")], False),
    ],
)
def test_a02_a_cookie_counts_for_our_own_pages(method: str, headers: list[tuple[str, str]], ours: bool) -> None:
    """A browser sends it for the pages of anybody; those spend nothing and change nothing."""
    found = with_cookie("session=abc", *headers, method=method)
    assert isinstance(found, Presented) is ours
    assert ours or (isinstance(found, Refusal) and found.reason is Reason.FORBIDDEN)


def test_other_origins_may_be_allowed() -> None:
    """Exactly those, with their scheme."""
    origins = ["https://shop.example.com"]
    for origin, allowed in (("https://shop.example.com", True), ("http://shop.example.com", False)):
        found = with_cookie("session=abc", ("Origin", origin), origins=origins)
        assert isinstance(found, Presented) is allowed


# K02: several at once, of any two kinds.


def test_k02_no_kind_of_credential_wins_over_another() -> None:
    """400 for each pair, also when both say the same."""
    settings = Identity.model_validate({
        "jwt": [{"name": "app", "algorithms": ["HS256"], "secret": SECRET}],
        "cookie": {"name": "session"},
        "trusted_header": {"name": "X-User-Id", "peers": ["10.0.0.0/8"], "secret": SECRET},
    })  # fmt: skip
    ways = [
        ("Authorization", "Bearer abc"), ("Authorization", "Basic abc"), ("X-Api-Key", "fbx_a"),
        ("Cookie", "session=abc"), ("Cookie", "session=abc; session=abc"), ("X-User-Id", "ann"),
    ]  # fmt: skip
    proof = [("X-Proxy-Secret", SECRET), ("Host", "h"), ("Origin", "https://h")]
    for one, other in combinations(ways, 2):
        found = Credentials(settings).find(Shown("POST", [one, other, *proof], "10.0.0.1"))
        assert isinstance(found, Refusal)
        assert (found.reason, found.error) == (Reason.INVALID_REQUEST, "Several credentials were sent")

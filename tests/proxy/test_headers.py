"""What travels between client and backend, and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.headers import HeaderList, end_to_end, folded, is_protected, readable_codings, without


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "Content-Length",
        "Expect",
    ],
)
@pytest.mark.parametrize("spell", [str, str.lower, str.upper, lambda name: name.replace("-", "_")])
def test_what_belongs_to_one_connection_stays_on_it(name: str, spell: object) -> None:
    """Hop-by-hop and framing headers are dropped, in any spelling that a backend might fold into the same name."""
    assert end_to_end([("A", "1"), (spell(name), "x"), ("B", "2")]) == [("A", "1"), ("B", "2")]  # type: ignore[operator]


def test_everything_else_travels_in_order_and_spelling() -> None:
    """Unknown names, repeated ones and odd spellings pass as they came."""
    headers = [("hOST", "a"), ("X-Unknown", ""), ("cookie", "a=1"), ("Via", "1"), ("Cookie", "b=2"), ("via", "2")]
    assert end_to_end(headers) == headers


def test_nominated_headers_stay_on_their_connection() -> None:
    """RFC 9110 §7.6.1: what `Connection` names is dropped, over several headers, in any case and spacing."""
    headers = [
        ("Connection", "close, x-hop"),
        ("X-HOP", "1"),
        ("connection", " , Other ,,"),
        ("other", "2"),
        ("X-Kept", "3"),
    ]
    assert end_to_end(headers) == [("X-Kept", "3")]


@pytest.mark.parametrize(
    "name", ["Authorization", "Host", "Cookie", "Content-Type", "Content-Encoding", "Set-Cookie", "X-Api-Key"]
)
def test_what_decides_cannot_be_nominated_away(name: str) -> None:
    """A client does not take a credential or a content type off a request by naming it in `Connection`."""
    assert end_to_end([("Connection", f"close, {name.lower()}"), (name, "x")]) == [(name, "x")]


PROTECTED = ["X-Farebox-User", "X-Farebox-Account", "X-Farebox-Charged", "X-Farebox-Anything", "X-Request-Id"]


@pytest.mark.parametrize("name", PROTECTED)
@pytest.mark.parametrize("separator", ["-", "_", ".", "", "~", "!", "|", "--", "-_-"])
def test_protected_names_are_removed_in_every_spelling(name: str, separator: str) -> None:
    """Case, underscores, dots and every other character of a token are no way to a header that only Farebox writes."""
    for spelled in (name, name.lower(), name.upper()):
        spelled = spelled.replace("-", separator)
        assert is_protected(spelled)
        assert end_to_end([(spelled, "admin"), ("Connection", spelled), (spelled, "root")]) == []


@pytest.mark.parametrize("name", ["X-Fare-Box2", "Farebox-User", "X-Request", "Request-Id", "X-Far", "X-My-Farebox"])
def test_other_names_are_not_protected(name: str) -> None:
    """Only Farebox's own prefix is reserved (`X-Fare-Box…` reads the same without its punctuation)."""
    assert is_protected(name) == folded(name).startswith("xfarebox")


@pytest.mark.parametrize(
    "name",
    [
        "X-Original-URL",
        "X-Original-URI",
        "X-Original-Method",
        "X-Rewrite-URL",
        "X-Forwarded-Uri",
        "X-Forwarded-Path",
        "X-Forwarded-Method",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "x_rewrite_url",
    ],
)
def test_a_request_cannot_be_swapped_for_another(name: str) -> None:
    """Headers by which some backends replace the path or the method do not reach them."""
    assert end_to_end([(name, "/admin"), ("Accept", "*/*")]) == [("Accept", "*/*")]


NAMES = st.sampled_from([*PROTECTED, "Connection", "Te", "X-A", "x_farebox_user", "Cookie", "Content-Length", "Host"])
VALUES = st.sampled_from(["", "x", "close", "x-a, host", "cookie, X-Farebox-User", "keep-alive"])


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_stripping_keeps_order_and_is_done_at_once(headers: HeaderList) -> None:
    """What remains is a subsequence without protected or hop-by-hop names, and stripping it again changes nothing."""
    kept = end_to_end(headers)
    rest = iter(headers)
    assert all(header in rest for header in kept)
    assert not any(is_protected(name) or folded(name) in ("connection", "te", "contentlength") for name, _ in kept)
    assert end_to_end(kept) == kept


def test_without_ignores_case() -> None:
    assert without([("A", "1"), ("b", "2"), ("a", "3")], ["a", "C"]) == [("b", "2")]


@pytest.mark.parametrize(
    ("asked", "leaves"),
    [
        ([], None),
        (["gzip"], "gzip"),
        (["gzip, deflate, br, zstd"], "gzip, deflate"),
        (["br;q=1.0, GZIP;q=0.8, *;q=0.1"], "GZIP;q=0.8"),
        (["br"], "identity"),
        (["*"], "identity"),
        ([""], "identity"),
        (["br", "x-gzip"], "x-gzip"),
        (["identity;q=0, br"], "identity"),
    ],
)
def test_an_answer_that_decides_is_asked_for_in_a_coding_that_can_be_read(asked: list[str], leaves: str | None) -> None:
    """Of the codings that a client accepts only gzip and deflate are offered; none at all becomes plain."""
    headers = [("A", "1"), *(("accept-encoding", value) for value in asked), ("B", "2")]
    expected = [("A", "1"), ("B", "2")] + ([("Accept-Encoding", leaves)] if leaves is not None else [])
    assert readable_codings(headers) == expected

"""Request paths: one canonical reading or none, and the most specific route by it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.refusals import Reason, Refusal
from proxy.paths import PathTable, Target, lenient, parse_target


@pytest.mark.parametrize(
    ("raw", "segments", "query"),
    [
        ("/", ("",), ""),
        ("/v1/chat", ("v1", "chat"), ""),
        ("/v1/chat/", ("v1", "chat", ""), ""),
        ("/v1/chat?", ("v1", "chat"), ""),
        ("/v1/chat?model=a&model=%2e%2e", ("v1", "chat"), "model=a&model=%2e%2e"),
        ("/a?b?c=/../d", ("a",), "b?c=/../d"),
        ("/a%20b/%C3%A9/%e2%84%aa", ("a b", "é", "\u212a"), ""),
        ("/%63hat", ("chat",), ""),
        ("/a;v=1/b,c/(d)/e:f/@g/$h/!'*+=", ("a;v=1", "b,c", "(d)", "e:f", "@g", "$h", "!'*+="), ""),
        ('/a/[x]|^"<>{}~', ("a", '[x]|^"<>{}~'), ""),
        ("/...", ("...",), ""),
        ("/.well-known/x", (".well-known", "x"), ""),
        ("/%2541%252f;b", ("%41%2f;b",), ""),
        ("/%25zz", ("%zz",), ""),
    ],
)
def test_a_path_is_read_in_one_way(raw: str, segments: tuple[str, ...], query: str) -> None:
    """Segments are decoded once, the target itself is kept as it came, the query stays raw."""
    assert parse_target(raw) == Target(raw, segments, query)


@pytest.mark.parametrize(
    "raw",
    [
        # P01: dot segments, in every spelling
        "/v1/x/../chat",
        "/..",
        "/.",
        "/a/.",
        "/a/..",
        "/v1/%2e%2e/chat",
        "/v1/.%2e/chat",
        "/v1/%2E./chat",
        "/%2e/chat",
        "/open/..;/v1/chat",
        "/open/..;x=1/v1/chat",
        "/open/.;/v1/chat",
        "/open/%252e%252e/v1/chat",
        "/open/..%252fv1/chat",
        "/open/x%255c..%255cchat",
        "/open/..%20/v1/chat",
        "/open/..;",
        # P02: empty segments
        "//v1/chat",
        "/v1//chat",
        "/v1/chat//",
        "///host",
        "/;x=1/v1/chat",
        "/v1/;/chat",
        # P03: what hides a slash, ends a string, or is no encoding
        "/v1%2fchat",
        "/v1%2Fchat",
        "/v1%5cchat",
        "/v1%5Cchat",
        "/v1\\chat",
        "/v1/chat%00",
        "/v1/chat%0d%0aX: y",
        "/v1/%1f",
        "/v1/%7f",
        "/v1/%zz",
        "/v1/%u002f",
        "/v1/%",
        "/v1/%2",
        "/v1/%c0%ae%c0%ae/chat",
        "/v1/%ff",
        "/v1/%ed%a0%80",
        "/v1/é",
        "/v1/\udcff",
        "/v1/a b",
        "/v1/a\tb",
        "/v1/chat\n",
        # P04: fragments
        "/v1/chat#frag",
        "/v1/chat?#",
        "/v1/chat?a=b#c",
        # P05: other forms of a target
        "",
        "*",
        "v1/chat",
        "http://evil/v1/chat",
        "http:/v1/chat",
        "ftp://evil/",
        "host:443",
        "?model=a",
        # P08: queries that cannot be in a URL
        "/v1/chat?a=\x00",
        "/v1/chat?a=é",
        "/v1/chat?a b",
        "/v1/chat?a\udcff",
    ],
)
def test_a_path_that_could_be_read_in_two_ways_is_refused(raw: str) -> None:
    """400 that names the path; nothing is guessed or repaired."""
    refusal = parse_target(raw)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.INVALID_REQUEST
    assert refusal.fields == {"field": "path"}


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8") | st.sampled_from("/%.2eEfF5cC;?#\\"), max_size=30))
def test_every_target_is_read_or_refused(raw: str) -> None:
    """No text raises, and what is accepted has no segment that a backend might climb or split at."""
    target = parse_target(raw)
    if isinstance(target, Target):
        assert target.raw == raw
        assert not {".", ".."} & set(target.segments)
        assert "" not in target.segments[:-1]
        assert not any(re.search(r"[/\\\x00-\x1f\x7f]", segment) for segment in target.segments)


@pytest.mark.parametrize(
    ("strict", "loose"),
    [
        (("V1", "Chat"), ("v1", "chat")),
        (("v1", "chat", ""), ("v1", "chat")),
        (("v1;a", "chat;jsessionid=1"), ("v1", "chat")),
        (("v1", "%63hat"), ("v1", "chat")),
        (("v1", "chat. "), ("v1", "chat")),
        (("\u212aelvin",), ("kelvin",)),
        (("",), ("",)),
        (("{projectId}", "Generate", "**"), ("{projectId}", "generate", "**")),
    ],
)
def test_the_lenient_reading(strict: tuple[str, ...], loose: tuple[str, ...]) -> None:
    """Case, a slash at the end, parameters, a second decoding and trailing dots make no difference to it."""
    assert lenient(strict) == loose


# Patterns and paths over a tiny alphabet, so that they meet often.
SEGMENT = st.sampled_from(["a", "b", "c"])
PATTERN = st.builds(
    lambda segments, tail: (*segments, "**") if tail else tuple(segments) or ("",),
    st.lists(SEGMENT | st.sampled_from(["{x}", "*"]), max_size=4),
    st.booleans(),
)
METHODS = ("GET", "HEAD", "POST", "*")


def matches(pattern: Sequence[str], path: Sequence[str]) -> bool:
    if pattern[-1] == "**":
        return len(path) >= len(pattern) - 1 and matches_each(pattern[:-1], path[: len(pattern) - 1])
    return len(path) == len(pattern) and matches_each(pattern, path)


def matches_each(pattern: Sequence[str], path: Sequence[str]) -> bool:
    return all(
        segment != "" if wanted in ("*", "{x}") else wanted == segment
        for wanted, segment in zip(pattern, path, strict=True)
    )


def specificity(pattern: Sequence[str]) -> list[int]:
    """From left to right: a text before a parameter before the tail."""
    return [2 if segment == "**" else 1 if segment in ("*", "{x}") else 0 for segment in pattern]


def oracle(patterns: Sequence[tuple[str, tuple[str, ...]]], method: str, path: Sequence[str]) -> object:
    """The best of all patterns, tried one by one: the path decides, and then the method."""
    methods = {"HEAD": ["HEAD", "GET", "*"]}.get(method, [method, "*"])
    found = [(specificity(p), methods.index(m), m, p) for m, p in patterns if m in methods and matches(p, path)]
    return min(found, default=(None, None, None, None))[2:]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(METHODS), PATTERN), max_size=12, unique=True).flatmap(
        lambda patterns: st.tuples(st.just(patterns), st.permutations(patterns))
    ),
    st.sampled_from(("GET", "HEAD", "POST")),
    st.lists(SEGMENT, max_size=5).map(lambda segments: tuple(segments) or ("",)),
)
def test_the_most_specific_pattern_wins_in_any_order(
    patterns: tuple[list[tuple[str, tuple[str, ...]]], list[tuple[str, tuple[str, ...]]]],
    method: str,
    path: tuple[str, ...],
) -> None:
    """The table finds what a naive search over all patterns finds, however they were added."""
    # `{x}` and `*` match the same requests; settings with both at one place are refused.
    first, second = ({(m, tuple("*" if s == "{x}" else s for s in p)): None for m, p in some} for some in patterns)
    answers = []
    for order in (first, second):
        table: PathTable[object] = PathTable()
        for key in order:
            table.add(*key, key)
        found = table.find(method, path)
        answers.append((None, None) if found is None else found.value)
    assert answers == [oracle(list(first), method, path)] * 2


def table_of(*patterns: str) -> PathTable[str]:
    table: PathTable[str] = PathTable()
    for pattern in patterns:
        method, path = pattern.split(" ")
        table.add(method, path[1:].split("/"), pattern)
    return table


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("GET", "/jobs/1", "GET /jobs/{id}"),
        ("HEAD", "/jobs/1", "GET /jobs/{id}"),
        ("POST", "/jobs/1", "* /jobs/{id}"),
        ("GET", "/jobs/new", "GET /jobs/new"),
        ("POST", "/jobs/new", "* /jobs/{id}"),
        ("HEAD", "/ping", "HEAD /ping"),
        ("GET", "/ping", "GET /**"),
        ("GET", "/", "GET /**"),
        ("GET", "/jobs/", "GET /**"),
        ("GET", "/jobs/1/x", "GET /**"),
        ("PUT", "/ping", None),
    ],
)
def test_methods_and_specificity(method: str, path: str, found: str | None) -> None:
    """A more specific path wins over a broader one; HEAD has the route of GET; a parameter is never empty."""
    table = table_of("GET /jobs/{id}", "* /jobs/{id}", "GET /jobs/new", "HEAD /ping", "GET /**")
    answer = table.find(method, path[1:].split("/"))
    assert (answer.value if answer else None) == found


def test_parameters_are_the_decoded_segments() -> None:
    """`{name}` stands for its segment, `*` and `**` for nothing that has a name."""
    found = table_of("GET /{a}/*/{b}/**").find("GET", ("x y", "skip", "z", "tail", ""))
    assert found is not None
    assert found.parameters == {"a": "x y", "b": "z"}


def test_a_dead_end_is_left_again() -> None:
    """A text that leads nowhere does not hide a parameter that would lead to a route."""
    table = table_of("GET /a/b/c", "GET /{x}/b/d", "GET /{x}/**")
    assert [table.find("GET", path).value for path in (("a", "b", "d"), ("a", "q"))] == [  # type: ignore[union-attr]
        "GET /{x}/b/d",
        "GET /{x}/**",
    ]

"""Headers between client and backend. Pure.

Hop-by-hop headers and those that `Connection` nominates stay on their connection (RFC 9110 §7.6.1). Farebox's own
headers are written after the client's are stripped, in any spelling that a backend might fold into the same name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

HeaderList = list[tuple[str, str]]

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

# Not hop-by-hop, but about a message that Farebox frames anew.
_FRAMING = frozenset({"content-length", "expect"})

# Nominating one of these would let a client switch off what decides about it.
_NEVER_NOMINATED = frozenset(
    {"authorization", "host", "cookie", "content-type", "content-length", "content-encoding", "set-cookie", "x-api-key"}
)


def _folded(name: str) -> str:
    """As CGI and its descendants see a name: `X-Farebox-User`, `x_farebox_user` and `X.Farebox.User` are one."""
    return "".join(character for character in name.lower() if character.isalnum())


def is_protected(name: str) -> bool:
    """Headers that only Farebox may set on a forwarded request or on an answer."""
    folded = _folded(name)
    return folded.startswith("xfarebox") or folded == "xrequestid"


def _nominated(headers: Iterable[tuple[str, str]]) -> frozenset[str]:
    names = (
        part.strip().lower() for name, value in headers if name.lower() == "connection" for part in value.split(",")
    )
    return frozenset(name for name in names if name not in _NEVER_NOMINATED and not is_protected(name))


def end_to_end(headers: Sequence[tuple[str, str]]) -> HeaderList:
    """The headers that travel on, in their order and spelling, without framing and without Farebox's names."""
    dropped = _HOP_BY_HOP | _FRAMING | _nominated(headers)
    return [(name, value) for name, value in headers if name.lower() not in dropped and not is_protected(name)]


def without(headers: Iterable[tuple[str, str]], names: Iterable[str]) -> HeaderList:
    """`headers` without these names."""
    dropped = {name.lower() for name in names}
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def with_forwarded_for(headers: HeaderList, peer: str | None) -> HeaderList:
    """The peer's address appended to `X-Forwarded-For`, as proxies do; one header however many came."""
    if peer is None:
        return headers
    seen = [value for name, value in headers if name.lower() == "x-forwarded-for"]
    return [*without(headers, ["x-forwarded-for"]), ("X-Forwarded-For", ", ".join([*seen, peer]))]

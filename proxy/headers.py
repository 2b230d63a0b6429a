"""Headers between client and backend. Pure.

Hop-by-hop headers and those that `Connection` nominates stay on their connection (RFC 9110 §7.6.1). Farebox's own
headers are written after the client's are stripped, in any spelling that a backend might fold into the same name.
What would make a backend serve another request than the one that was judged does not travel on.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TypeVar

HeaderList = list[tuple[str, str]]

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keepalive",
        "proxyauthenticate",
        "proxyauthorization",
        "proxyconnection",
        "te",
        "trailer",
        "transferencoding",
        "upgrade",
    }
)

# Not hop-by-hop, but about a message that Farebox frames anew.
_FRAMING = frozenset({"contentlength", "expect"})

# Where else a backend can be reached (RFC 7838): a client that went there would go past Farebox.
_SIDE_DOORS = frozenset({"altsvc", "alternateprotocol"})

# Some backends take the path or the method from these instead of from the request line.
_OVERRIDES = frozenset(
    {"xoriginalurl", "xoriginaluri", "xrewriteurl", "xforwardeduri", "xforwardedpath", "xforwardedmethod"}
    | {"xhttpmethod", "xhttpmethodoverride", "xmethodoverride", "xoriginalmethod"}
)

_DROPPED = _HOP_BY_HOP | _FRAMING | _SIDE_DOORS | _OVERRIDES

# Nominating one of these would let a client switch off what decides about it.
_NEVER_NOMINATED = frozenset(
    {"authorization", "host", "cookie", "content-type", "content-length", "content-encoding", "set-cookie", "x-api-key"}
)


READABLE_CODINGS = frozenset({"gzip", "x-gzip", "deflate"})
"""Content codings that Farebox can decode aside (RFC 9110 §8.4.1)."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)

Answer = TypeVar("Answer")

_LONG = 64
"""Characters of a name; longer ones are rare, and are not remembered."""

_REMEMBERED = 2048
"""Names that are remembered with what they fold into: everything that real clients and backends send."""


def remembering(function: Callable[[str], Answer]) -> Callable[[str], Answer]:
    """`function` of a header's name, with its answers remembered: the same few names come with every message."""
    remembered = lru_cache(_REMEMBERED)(function)
    return lambda name: remembered(name) if len(name) <= _LONG else function(name)


@remembering
def folded(name: str) -> str:
    """As CGI and its descendants see a name: `X-Farebox-User`, `x_farebox_user` and `X.Farebox.User` are one."""
    return name.translate(_PUNCTUATION).lower()


def is_protected(name: str) -> bool:
    """Headers that only Farebox may set on a forwarded request or on an answer."""
    return _is_ours(folded(name))


def _is_ours(name: str) -> bool:
    return name.startswith("xfarebox") or name == "xrequestid"


def _nominated(headers: Iterable[tuple[str, str]]) -> frozenset[str]:
    names = (part.strip().lower() for _, value in _named(headers, "connection") for part in value.split(","))
    return frozenset(name for name in names if name not in _NEVER_NOMINATED and not is_protected(name))


def end_to_end(headers: Sequence[tuple[str, str]]) -> HeaderList:
    """The headers that travel on, in their order and spelling, without framing and without Farebox's names."""
    result = [header for header in headers if _travels(header[0])]
    # Most messages nominate nothing.
    nominated = _nominated(headers) if len(result) < len(headers) else ()
    return [header for header in result if header[0].lower() not in nominated] if nominated else result


@remembering
def _travels(name: str) -> bool:
    plain = folded(name)
    return plain not in _DROPPED and not _is_ours(plain)


def _named(headers: Iterable[tuple[str, str]], name: str) -> HeaderList:
    return [(key, value) for key, value in headers if key.lower() == name]


def without(headers: Iterable[tuple[str, str]], names: Iterable[str]) -> HeaderList:
    """`headers` without these names."""
    dropped = {name.lower() for name in names}
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def readable_codings(headers: HeaderList) -> HeaderList:
    """`headers` that ask for an answer which Farebox can read: of the codings in `Accept-Encoding`, gzip and deflate.

    For routes whose answers decide what is charged. Otherwise a client could have them coded beyond our reading.
    """
    offered = [part.strip() for _, value in _named(headers, "accept-encoding") for part in value.split(",")]
    if not offered:
        return headers
    kept = [part for part in offered if part.partition(";")[0].strip().lower() in READABLE_CODINGS]
    return [*without(headers, ["accept-encoding"]), ("Accept-Encoding", ", ".join(kept) or "identity")]


def lines_bytes(lines: Sequence[str]) -> bytes:
    """The lines of a head, each but the last with its end. Bytes that are not UTF-8 come out as they came in.

    Raises ValueError when a line has a line end in it: the parsers let none through, and if one did, what follows would
    be a message of somebody else's (RFC 9112 §11.1).
    """
    text = "\n".join(lines)
    if text.count("\n") >= len(lines) or "\r" in text or "\0" in text:
        raise ValueError("a line of a head has a line end in it")
    return text.replace("\n", "\r\n").encode("utf-8", "surrogateescape")

"""Request targets: what is accepted is read alike by everybody, and has only one spelling of its segments' places."""

from __future__ import annotations

import posixpath
from urllib.parse import quote, unquote, urlsplit

from yarl import URL

from policies.refusals import Reason, Refusal
from proxy.paths import Target, lenient, parse_target

WORDS = b"/ . .. // ? # ; %2e %2F %5c %00 %25 %C3%A9 %c0%ae %ed%a0%80 \\ : @ // /v1/chat ;a=b /.. /. %7f %zz".split()
SEEDS = [b"/v1/chat/completions?model=a", b"/a/b;c=d/e%20f/%C3%A9", b"/a/./b", b"/a/../b", b"/a//b/", b"/%252e/x?y?z#w"]


def check(data: bytes) -> None:
    raw = data.decode("utf-8", "surrogateescape")
    found = parse_target(raw)
    if isinstance(found, Refusal):
        assert found.reason is Reason.INVALID_REQUEST
        return
    path, _, query = raw.partition("?")
    decoded = "/" + "/".join(found.segments)
    assert (found.raw, found.query) == (raw, query)
    assert not {".", ".."} & set(found.segments), "nothing to climb"
    assert not any(not char.isprintable() and ord(char) < 128 for char in decoded)
    assert decoded.count("/") == path.count("/"), "nothing hides a slash"
    # What servers, clients and file systems make of it.
    assert unquote(path, errors="strict") == decoded
    assert urlsplit(f"http://host{raw}")[2:4] == (path, query)
    assert URL(f"http://host{raw}", encoded=True).path == decoded
    assert posixpath.normpath(decoded) == (decoded.rstrip("/") or "/")
    # The same segments written in the one canonical way are the same segments.
    canonical = parse_target("/" + "/".join(quote(segment, safe="") for segment in found.segments))
    assert isinstance(canonical, Target)
    assert canonical.segments == found.segments
    assert all(segment == segment.casefold() for segment in lenient(found.segments) if not segment.startswith("{"))

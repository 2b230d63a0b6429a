"""The chain of proxies that a request comes through: who its client is, and what its backend is told of that. Pure.

Every proxy appends whom it was asked by, so a chain is read from the right, and only as far as the settings trust its
links (`proxies`): what stands left of the first address that is nobody's proxy was written by the client, and may be
anything. A backend is told the trusted part alone, and in one way: `X-Forwarded-For`, `-Proto` and `-Host`, written
anew. Whatever else speaks of the client under such a name travels on only when a trusted peer says it (RFC 7239 §8.1).

Used by `receiving` for what travels on, and by the identifier for where failed credentials come from.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from config.proxies import Network
from config.settings import FareboxSettings
from proxy.headers import HeaderList, folded, remembering
from proxy.identity.credentials import Shown, is_in

MAX_HOPS = 20
"""Proxies in a row that are believed; a longer chain is one that a client has made up of their addresses."""

LOOKED_AT = MAX_HOPS + 1
"""Hops from the right that can make a difference."""

REMEMBERED = 4096
"""Peers that are remembered with what they are: more than there are clients at a time."""

LONG_HOST = 100
"""Characters of a host; longer ones are rare, and are not remembered."""

_SPEAKING = frozenset(
    {"forwarded", "clientip", "xclientip", "xrealip", "xclusterclientip", "xoriginalhost", "trueclientip"}
    | {"cfconnectingip", "fastlyclientip", "xazureclientip", "xenvoyexternaladdress", "xscheme", "xurlscheme"}
    | {"xoriginalforwardedfor", "frontendhttps"}
)
"""Names by which backends commonly learn of a client, besides `X-Forwarded-…`, as `folded` has them."""

_REPLACED = frozenset({"forwarded", "xforwardedfor", "xforwardedproto", "xforwardedhost"})

_PAIR = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=(?:([!#$%&\'*+.^_`|~0-9A-Za-z:\[\]-]+)|"((?:[^"\\]|\\.)*)")\s*')
"""One `name=value` of `Forwarded` (RFC 7239 §4). An unquoted `[::1]:80` is wrong, common and clear."""

_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")


class Hop(NamedTuple):
    """What one proxy says of whom it was asked by. An `address` of None is one that it does not tell."""

    address: str | None
    scheme: str | None = None
    host: str | None = None


class Client(NamedTuple):
    """Who asks, with the proxies in between: `addresses` begin with the client's and end with the peer's."""

    addresses: tuple[str | None, ...]
    scheme: str | None
    host: str | None

    @property
    def address(self) -> str | None:
        return self.addresses[0]


class Chain:
    """Reads chains as the settings say."""

    def __init__(self, settings: FareboxSettings) -> None:
        self._peers: Sequence[Network] = settings.proxies.peers
        self._header = settings.proxies.header
        self._marker = marker(settings)
        trusted = settings.identity.trusted_header
        named = () if trusted is None else (trusted.name, trusted.email, trusted.secret_header)
        # Whether those travel on is decided where they are judged.
        theirs = frozenset(folded(name) for name in named if name is not None)
        self._speaks = remembering(lambda name: _speaks(folded(name)) and folded(name) not in theirs)
        self._address = lru_cache(REMEMBERED)(canonical)
        self._is_trusted = lru_cache(REMEMBERED)(lambda address: is_in(address, self._peers))
        # Nearly all requests come from nobody's proxy, and many from the same peer.
        self._told_of_peer = lru_cache(REMEMBERED)(self._told_anew)

    def client(self, shown: Shown) -> Client:
        """Who asks, as far as trusted proxies tell."""
        at = self._address(shown.peer or "")
        if not (self._peers and self._is_trusted(at)):
            return Client((at,), None, None)
        hops = _forwarded(shown) if self._header == "Forwarded" else _x_forwarded(shown)
        addresses, hop = [at], Hop(at)
        while hops and self._is_trusted(at):
            hop = hops.pop()
            at = hop.address if len(addresses) <= MAX_HOPS else None
            addresses.append(at)
        return Client(tuple(reversed(addresses)), hop.scheme, hop.host)

    def onward(self, headers: HeaderList, shown: Shown, host: str, version: str) -> HeaderList:
        """`headers` with what the backend is told of the chain, and without what nobody trusted has said of it.

        `host` and `version` (of HTTP) are those of the request.
        """
        kept = [header for header in headers if not self._speaks(header[0])]
        peer = self._address(shown.peer or "")
        if not (self._peers and self._is_trusted(peer)):
            tell = self._told_of_peer if len(host) <= LONG_HOST else self._told_anew
            return kept + tell(peer, host, version)
        if len(kept) < len(headers):
            kept = [header for header in headers if not self._speaks(header[0]) or _is_passed(header[0], headers)]
        return kept + self._told(self.client(shown), host, version)

    def _told_anew(self, peer: str | None, host: str, version: str) -> HeaderList:
        return self._told(Client((peer,), None, None), host, version)

    def _told(self, client: Client, host: str, version: str) -> HeaderList:
        return [
            ("X-Forwarded-For", ", ".join(address or "unknown" for address in client.addresses)),
            ("X-Forwarded-Proto", client.scheme or "http"),
            ("X-Forwarded-Host", client.host or host),
            ("Via", f"{version} {self._marker}"),
        ]

    def is_loop(self, vias: Sequence[str]) -> bool:
        """Whether a request with these values of `Via` has passed here before (RFC 9110 §7.6.3)."""
        return any(self._marker in part.lower().split()[1:2] for value in vias for part in value.split(","))


def marker(settings: FareboxSettings) -> str:
    """The name under which one Farebox, with all its processes and nodes, marks what it forwards.

    Made of what it forwards where, so that one in front of another is not taken for a loop.
    """
    places = {name: upstream.targets for name, upstream in settings.upstreams.items()}
    text = json.dumps([places, [[str(match) for match in route.match] for route in settings.routes]], sort_keys=True)
    return "farebox-" + hashlib.sha256(text.encode()).hexdigest()[:12]


def _speaks(plain: str) -> bool:
    """Whether a header tells, or may be taken for one that tells, where a request comes from; by its folded name."""
    return plain.startswith("xforwarded") or plain in _SPEAKING


def _is_passed(name: str, headers: HeaderList) -> bool:
    """Whether what a trusted peer says goes on as it is: once, and in the spelling that it knows as its own."""
    plain = folded(name)
    is_known = plain not in _REPLACED and re.fullmatch("[A-Za-z-]+", name) is not None
    return is_known and sum(folded(other) == plain for other, _ in headers) == 1


def canonical(text: str) -> str | None:
    """An address as it is usually written, without a port; None for what is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        # The zone of a link-local address means something on one machine only.
        parsed: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def _x_forwarded(shown: Shown) -> list[Hop]:
    """What proxies have appended, by hop. Most of them set scheme and host anew instead, which then counts for all."""
    addresses, schemes, hosts = (_listed(shown, f"x-forwarded-{name}") for name in ("for", "proto", "host"))
    # The rest of a long chain is of no use, and a head has room for thirty thousand of them.
    addresses = addresses[-LOOKED_AT:]
    return [
        Hop(canonical(address), _scheme(_beside(schemes, at)), _host(_beside(hosts, at)))
        for at, address in zip(range(-len(addresses), 0), addresses, strict=True)
    ]


def _listed(shown: Shown, name: str) -> list[str]:
    return [part.strip() for value in shown.values(name) for part in value.split(",")]


def _beside(values: list[str], at: int) -> str | None:
    """The value at a place that is counted from the right, or the first one."""
    return values[max(at, -len(values))] if values else None


def _forwarded(shown: Shown) -> list[Hop]:
    """The elements of `Forwarded`, by hop. Of one that is malformed nothing is known, nor of what stands left of it."""
    hops: list[Hop] = []
    for value in reversed(shown.values("forwarded")):
        elements = _elements(value)
        hops[:0] = [
            Hop(None)
            if element is None
            else Hop(canonical(element.get("for", "")), _scheme(element.get("proto")), _host(element.get("host")))
            for element in elements[-LOOKED_AT:]
        ]
        if None in elements or len(hops) >= LOOKED_AT:
            break
    return hops


def _elements(value: str) -> list[dict[str, str] | None]:
    """Each element as its pairs, in order; None in place of the whole value where that is malformed."""
    elements: list[dict[str, str] | None] = []
    current: dict[str, str] = {}
    at, end = 0, "," if value.strip() else ""
    while end:
        pair = _PAIR.match(value, at)
        if pair is None or pair[1].lower() in current:
            return [None]
        current[pair[1].lower()] = pair[2] or re.sub(r"\\(.)", r"\1", pair[3] or "")
        at, end = pair.end() + 1, value[pair.end() : pair.end() + 1]
        if end not in (",", ";", ""):
            return [None]
        if end != ";":
            elements.append(current)
            current = {}
    return elements


def _scheme(value: str | None) -> str | None:
    return value.lower() if value is not None and value.lower() in ("http", "https") else None


def _host(value: str | None) -> str | None:
    return value if value is not None and _HOST.fullmatch(value) else None

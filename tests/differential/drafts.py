"""Odd requests: ordinary ones that are bent in one to three ways, by a generator that the same seed repeats.

A `Draft` is a request in its parts, so that each part can be bent by itself: request line, hosts, header lines, line
ends, body. What bends it is a `Bend` of some kind. `cases` puts them together, in rows, with an ordinary last one
behind them that asks Farebox to close, so that it shows where the others have ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random


@dataclass(slots=True)
class Draft:
    """A request in its parts. `prefix` is the path below which the route of the one who sends it is."""

    prefix: bytes
    method: bytes = b"GET"
    path: bytes = b"/open/x"
    version: bytes = b"HTTP/1.1"
    spaces: tuple[bytes, bytes] = (b" ", b" ")
    hosts: list[bytes] = field(default_factory=lambda: [b"Host: app.example.com"])
    lines: list[bytes] = field(default_factory=list)
    framing: list[bytes] = field(default_factory=list)
    body: bytes = b""
    end: bytes = b"\r\n"
    before: bytes = b""
    target: bytes | None = None

    @property
    def smuggled(self) -> bytes:
        """A request that stands in bodies, where it has to stay."""
        return b"POST %b/open/smuggled HTTP/1.1\r\nHost: app\r\nContent-Length: 0\r\n\r\n" % self.prefix

    def text(self) -> bytes:
        first, second = self.spaces
        target = self.prefix + self.path if self.target is None else self.target
        line = self.method + first + target + second + self.version
        return self.before + self.end.join([line, *self.hosts, *self.lines, *self.framing, b"", b""]) + self.body


Bend = Callable[[Draft, Random], None]

KINDS: dict[str, list[Bend]] = {}
"""Every way to bend a request, by kind."""


def bends(kind: str) -> Callable[[Bend], Bend]:
    def register(bend: Bend) -> Bend:
        KINDS.setdefault(kind, []).append(bend)
        return bend

    return register


def ordinary(prefix: bytes, credential: bytes, random: Random) -> Draft:
    """One of the requests that clients send every day, some of them paid for."""
    draft, shape = Draft(prefix), random.randrange(6)
    body = random.choice([b"", b"abc", draft.smuggled, bytes(range(256)), b"0\r\n\r\n" + draft.smuggled])
    if shape >= 2:
        draft.method, draft.path = b"POST", random.choice([b"/open/x?y=1", b"/flat", b"/flat"])
        draft.lines += [b"Content-Type: text/plain"]
    if draft.path == b"/flat":
        draft.lines += [credential]
    if shape in (2, 3):
        draft.body, draft.framing = body, [b"Content-Length: %d" % len(body)]
    elif shape in (4, 5):
        draft.body, draft.framing = chunks(body, random), [b"Transfer-Encoding: chunked"]
    elif random.random() < 0.3:
        draft.method = random.choice([b"HEAD", b"DELETE", b"PUT", b"PATCH"])
    return draft


def chunks(body: bytes, random: Random) -> bytes:
    """A chunked body, in up to three chunks."""
    cuts = sorted(random.randrange(len(body) + 1) for _ in range(2))
    pieces = [body[: cuts[0]], body[cuts[0] : cuts[1]], body[cuts[1] :]]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Case:
    """What one client sends on one connection, and what was bent in it."""

    number: int
    kinds: tuple[str, ...]
    pieces: tuple[bytes, ...]
    """As they are sent, one after the other."""

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)


def cases(seed: int, count: int, prefix: Callable[[int], bytes], credential: Callable[[int], bytes]) -> Iterator[Case]:
    """Of client `number`, each its own; the case of a number is the same whatever `count` is."""
    for number in range(count):
        random = Random(f"{seed} {number}")
        rows, kinds = list[bytes](), list[str]()
        for _ in range(random.choice([1, 1, 1, 2, 3])):
            draft = ordinary(prefix(number), credential(number), random)
            if not rows or random.random() < 0.3:
                for _ in range(random.choice([1, 1, 1, 2, 3])):
                    kind = random.choice(sorted(KINDS))
                    kinds.append(kind)
                    random.choice(KINDS[kind])(draft, random)
            rows.append(draft.text())
        if len(rows) > 1:
            kinds.append("rows of requests")
        data = b"".join(rows)
        if random.random() < 0.08:
            data = _noise(data, random)
            kinds.append("noise")
        last = b"GET %b/open/last HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\r\n" % prefix(number)
        yield Case(number, tuple(dict.fromkeys(kinds)), _pieces(data + last, random))


def _pieces(data: bytes, random: Random) -> tuple[bytes, ...]:
    """Half of the time all at once, else cut at up to three places."""
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.choice([0, 0, 0, 1, 2, 3])))
    return tuple(data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True) if start < end)


def _noise(data: bytes, random: Random) -> bytes:
    """A byte more, a byte less, or another one, anywhere."""
    at, byte = random.randrange(len(data)), bytes([random.randrange(256)])
    return data[:at] + random.choice([byte + data[at:], data[at + 1 :], byte + data[at + 1 :]])

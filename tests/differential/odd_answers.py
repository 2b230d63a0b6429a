"""Odd answers of a backend: ordinary ones with one or two odd parts, by a generator that the same seed repeats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class OddAnswer:
    """What a backend answers to which method, and whether it closes the connection then."""

    number: int
    kinds: tuple[str, ...]
    method: str
    data: bytes
    closes: bool


CONTROLS = [bytes([byte]) for byte in (*range(0x20), 0x7F, 0x80, 0x85, 0xA0, 0xFF)] + [
    b"\xc3\xa9",
    b"\xe2\x80\xa8",
    b"\xc2\x85",
]
STATUS_LINES = [b"HTTP/1.1 200 OK", b"HTTP/1.1 200 ", b"HTTP/1.1 200", b"HTTP/1.0 200 OK", b"HTTP/1.1 404 Not Found"]
STATUS_LINES += [
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.1 206 Partial Content",
    b"HTTP/1.1 599 x",
]
ODD_LINES = [
    b"HTTP/1.1 20 OK",
    b"HTTP/1.1 2000 OK",
    b"HTTP/1.1  200 OK",
    b"HTTP/1.1\t200 OK",
    b"HTTP/1.1 -200 OK",
    b"200 OK",
]
ODD_LINES += [
    b"HTTP/2 200",
    b"HTTP/1.2 200 OK",
    b"ICY 200 OK",
    b"HTTP/1.1 099 x",
    b"HTTP/1.1 101 x",
    b"http/1.1 200 OK",
    b"",
]
ODD_LINES += [
    b"HTTP/1.1 200 caf\xe9",
    b"HTTP/1.1 200 a\x00b",
    b"HTTP/1.1 200 a\rb",
    b"HTTP/1.1 200 \xe2\x80\xa8",
    b"HTTP/1.1 200\x0bOK",
]
INTERIM = [
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n",
    b"HTTP/1.1 102 x\r\nX: \x85\r\n\r\n",
]
LINES = [
    b"X-A: 1",
    b"X-A:",
    b"x-a: 2",
    b"Set-Cookie: a=1",
    b"Set-Cookie: b=2",
    b"Content-Type: text/plain",
    b"X-A: caf\xe9",
]
LINES += [
    b"X-A: \t a \t",
    b"X_A: 1",
    b"X-A: a  b",
    b"Connection: close",
    b"Connection: keep-alive, X-A",
    b"Keep-Alive: 5",
    b"Date: x",
]
ODD_HEADERS = [
    b"X-A : 1",
    b" X-A: 1",
    b"X-A: a\r\n b",
    b"X-A",
    b": 1",
    b"X-A: a\nX-B: b",
    b"X-A: a\rX-B: b",
    b"X-A: a\r\r\n",
    b"X\xff: 1",
]
ODD_HEADERS += [
    b"Trailer: X",
    b"Upgrade: h2c\r\nConnection: upgrade",
    b"X-A: a\x0bX-B: b",
    b"X-A: a\x1cb",
    b"X-A: a\xc2\x85b",
    b"X-A: a\x85b",
]
FRAMINGS = [b"Content-Length: 2", b"Transfer-Encoding: chunked", b"Content-Length: 0", b"", b"Content-Length: 5"]
ODD_FRAMINGS = [
    b"Content-Length: +2",
    b"Content-Length: 2, 2",
    b"Content-Length: 2\r\nContent-Length: 2",
    b"Content-Length: 0x2",
]
ODD_FRAMINGS += [
    b"Content-Length: 2\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity",
]
ODD_FRAMINGS += [
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: xchunked",
    b"Content-Length:",
]
ODD_FRAMINGS += [
    b"Content-Length: 2\r\ncontent-length: 3",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer_Encoding: chunked",
]
ODD_FRAMINGS += [
    b"Content-Length: 99999999999999999999",
    b"Content-Length : 2",
    b"Transfer-Encoding:\x0bchunked",
    b"Content-Length: 02",
]
BODIES = [
    b"ok",
    b"",
    b"2\r\nok\r\n0\r\n\r\n",
    b"2\r\nok\r\n",
    b"2;a=b\r\nok\r\n0\r\n\r\n",
    b"2\r\nok\r\n0\r\nX-T: 1\r\n\r\n",
    b"okokok",
]
ODD_BODIES = [
    b"2 \r\nok\r\n0\r\n\r\n",
    b"0x2\r\nok\r\n0\r\n\r\n",
    b"2\nok\n0\n\n",
    b"2\r\nokok\r\n0\r\n\r\n",
    b"+2\r\nok\r\n0\r\n\r\n",
]
ODD_BODIES += [
    b"ok" + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    b"2;a\nb\r\nok\r\n0\r\n\r\n",
    b"0\r\n\r\n" * 2,
    b"x" * 70_000,
]
ODD_BODIES += [
    b"ffffffffffffffff2\r\nok\r\n0\r\n\r\n",
    b"2\r\nok\r\n0\r\nContent-Length: 9\r\n\r\n",
    b"2\r\nok\r\n0\r\n X: a\r\n\r\n",
]


def odd_answers(seed: int, count: int) -> Iterator[OddAnswer]:
    """Answers with one or two odd parts, the same for the same seed and number."""
    for number in range(count):
        random = Random(f"answer {seed} {number}")
        parts = {"status line": random.choice(STATUS_LINES), "framing": random.choice(FRAMINGS)}
        parts |= {
            "headers": b"\r\n".join(random.sample(LINES, random.randrange(4))),
            "body": random.choice(BODIES),
            "interim": b"",
        }
        odd = {
            "status line": ODD_LINES,
            "framing": ODD_FRAMINGS,
            "headers": ODD_HEADERS,
            "body": ODD_BODIES,
            "interim": INTERIM,
        }
        kinds = tuple(sorted(random.sample([*odd, "bytes"], random.choice([1, 1, 2]))))
        for kind in kinds:
            if kind != "bytes":
                parts[kind] = random.choice(odd[kind])
        head = b"\r\n".join(part for part in (parts["status line"], parts["headers"], parts["framing"]) if part)
        data = parts["interim"] + head + b"\r\n\r\n" + parts["body"]
        if "bytes" in kinds:
            at, byte = random.randrange(len(data)), random.choice(CONTROLS)
            data = data[:at] + byte + data[at + random.choice([0, 1]) :]
        yield OddAnswer(number, kinds, random.choice(["GET", "GET", "GET", "HEAD"]), data, random.random() < 0.7)

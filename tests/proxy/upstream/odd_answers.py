"""Answers that backends send, and some that they should not: the bytes, and what is to come of them.

`BROKEN` stands for an answer that must not be passed on: not HTTP, or with an end that two readers could see in two
places. `differs` says why aiohttp's client, which reads leniently, makes something else of the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

BROKEN = "broken"

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 2\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Odd:
    """`body` is what is read, or BROKEN; `reused` whether the connection may carry another exchange after it."""

    data: bytes
    body: bytes | str = b"ok"
    status: int = 200
    reused: bool = False
    method: str = "GET"
    differs: str = ""


LENIENT = "aiohttp's parser is lenient with answers"
SURPLUS = "aiohttp gives a complete answer up for what arrives together with its end; we give up its connection"

ODD = {
    # Framing (RFC 9112 §6).
    "a length": Odd(OK + LENGTH + b"\r\nok", reused=True),
    "no body": Odd(OK + b"Content-Length: 0\r\n\r\n", b"", reused=True),
    "chunks": Odd(CHUNKED + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n", reused=True),
    "chunks in capitals": Odd(OK + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n2\r\nok\r\n0\r\n\r\n", reused=True),
    "to the end": Odd(OK + b"\r\nok"),
    "to the end, with nothing": Odd(OK + b"\r\n", b""),
    "a length that is too long": Odd(OK + b"Content-Length: 3\r\n\r\nok", BROKEN),
    "two equal lengths": Odd(OK + LENGTH + LENGTH + b"\r\nok", BROKEN),
    "two lengths": Odd(OK + LENGTH + b"Content-Length: 3\r\n\r\nok", BROKEN),
    "a list of lengths": Odd(OK + b"Content-Length: 2, 2\r\n\r\nok", BROKEN),
    "a length with a sign": Odd(OK + b"Content-Length: +2\r\n\r\nok", BROKEN),
    "a negative length": Odd(OK + b"Content-Length: -2\r\n\r\nok", BROKEN),
    "a hexadecimal length": Odd(OK + b"Content-Length: 0x2\r\n\r\nok", BROKEN),
    "an empty length": Odd(OK + b"Content-Length: \r\n\r\nok", BROKEN),
    "a length with a zero": Odd(OK + b"Content-Length: 02\r\n\r\nok", reused=True),
    "a length beyond all numbers": Odd(OK + b"Content-Length: 99999999999999999999\r\n\r\nok", BROKEN),
    "a length and chunks": Odd(OK + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", BROKEN),
    "chunks and a length": Odd(OK + b"Transfer-Encoding: chunked\r\n" + LENGTH + b"\r\n2\r\nok\r\n0\r\n\r\n", BROKEN),
    "another coding": Odd(OK + b"Transfer-Encoding: gzip\r\n\r\nok", BROKEN, differs=LENIENT),
    "another coding and chunks": Odd(
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", BROKEN, differs=LENIENT
    ),
    "chunks twice": Odd(
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        BROKEN,
        differs=LENIENT,
    ),
    "identity": Odd(OK + b"Transfer-Encoding: identity\r\n\r\nok", BROKEN, differs=LENIENT),
    "almost chunks": Odd(OK + b"Transfer-Encoding: xchunked\r\n\r\nok", BROKEN, differs=LENIENT),
    "chunks, and a comma": Odd(OK + b"Transfer-Encoding: chunked,\r\n\r\nok", BROKEN, differs=LENIENT),
    "an empty coding": Odd(OK + b"Transfer-Encoding: \r\n\r\nok", BROKEN, differs=LENIENT),
    "chunks in HTTP/1.0": Odd(
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        BROKEN,
        differs="RFC 9112 §6.1 has such an answer treated as faulty",
    ),
    # Chunks (RFC 9112 §7.1).
    "chunks with zeros": Odd(CHUNKED + b"0002\r\nok\r\n000\r\n\r\n", reused=True),
    "chunks in hexadecimal": Odd(CHUNKED + b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", reused=True),
    "a chunk extension": Odd(CHUNKED + b'2;a=b;c="d;\\"";e\r\nok\r\n0;f\r\n\r\n', reused=True),
    "a trailer": Odd(CHUNKED + b"2\r\nok\r\n0\r\nX-Trailer: 1\r\n\r\n", reused=True),
    "a trailer that names an end": Odd(CHUNKED + b"2\r\nok\r\n0\r\nContent-Length: 9\r\n\r\n", BROKEN),
    "a folded trailer": Odd(CHUNKED + b"2\r\nok\r\n0\r\nX: a\r\n b\r\n\r\n", BROKEN, differs=LENIENT),
    "too many trailers": Odd(CHUNKED + b"2\r\nok\r\n0\r\n" + b"X: a\r\n" * 600 + b"\r\n", BROKEN),
    "a chunk of a signed size": Odd(CHUNKED + b"+2\r\nok\r\n0\r\n\r\n", BROKEN),
    "a chunk of a marked size": Odd(CHUNKED + b"0x2\r\nok\r\n0\r\n\r\n", BROKEN),
    "a chunk of no size": Odd(CHUNKED + b"\r\nok\r\n0\r\n\r\n", BROKEN),
    "a chunk beyond all numbers": Odd(CHUNKED + b"10000000000000002\r\nok\r\n0\r\n\r\n", BROKEN),
    "a chunk size and a space": Odd(CHUNKED + b"2 \r\nok\r\n0\r\n\r\n", BROKEN, differs=LENIENT),
    "a chunk that is too long": Odd(CHUNKED + b"2\r\noks\r\n0\r\n\r\n", BROKEN),
    "a chunk without its end": Odd(CHUNKED + b"2\r\nok0\r\n\r\n", BROKEN),
    "chunks with bare line feeds": Odd(CHUNKED + b"2\nok\n0\n\n", BROKEN),
    "an extension with a line feed": Odd(CHUNKED + b"2;a\nok\r\n0\r\n\r\n", BROKEN, differs=LENIENT),
    "no last chunk": Odd(CHUNKED + b"2\r\nok\r\n", BROKEN),
    "half a last chunk": Odd(CHUNKED + b"2\r\nok\r\n0\r\n", BROKEN),
    # The head (RFC 9112 §2 to §5).
    "nothing": Odd(b"", BROKEN),
    "half a head": Odd(OK + b"X: ", BROKEN),
    "an empty line first": Odd(b"\r\n" + OK + LENGTH + b"\r\nok", BROKEN, differs=LENIENT),
    "another protocol": Odd(b"SSH-2.0-OpenSSH_9\r\n\r\n", BROKEN),
    "an older protocol": Odd(b"ok", BROKEN),
    "RTSP": Odd(b"RTSP/1.0 200 OK\r\n" + LENGTH + b"\r\nok", BROKEN, differs="llhttp reads RTSP as well"),
    "HTTP/1.0": Odd(b"HTTP/1.0 200 OK\r\n" + LENGTH + b"\r\nok"),
    "HTTP/1.0 to the end": Odd(b"HTTP/1.0 200 OK\r\n\r\nok"),
    "HTTP/1.0 kept alive": Odd(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + LENGTH + b"\r\nok", reused=True),
    "HTTP/1.2": Odd(b"HTTP/1.2 200 OK\r\n" + LENGTH + b"\r\nok", BROKEN),
    "HTTP/2.0": Odd(b"HTTP/2.0 200 OK\r\n" + LENGTH + b"\r\nok", BROKEN, differs="llhttp knows 2.0 and 0.9"),
    "HTTP/0.9": Odd(b"HTTP/0.9 200 OK\r\n" + LENGTH + b"\r\nok", BROKEN, differs="llhttp knows 2.0 and 0.9"),
    "small letters": Odd(b"http/1.1 200 OK\r\n" + LENGTH + b"\r\nok", BROKEN),
    "no reason": Odd(b"HTTP/1.1 200 \r\n" + LENGTH + b"\r\nok", reused=True),
    "no space for a reason": Odd(b"HTTP/1.1 200\r\n" + LENGTH + b"\r\nok", reused=True),
    "a reason in Latin-1": Odd(b"HTTP/1.1 200 caf\xe9\r\n" + LENGTH + b"\r\nok", reused=True),
    "NUL in the reason": Odd(b"HTTP/1.1 200 O\0K\r\n" + LENGTH + b"\r\nok", BROKEN, differs=LENIENT),
    "CR in the reason": Odd(b"HTTP/1.1 200 O\rK\r\n" + LENGTH + b"\r\nok", BROKEN),
    "no status": Odd(b"HTTP/1.1 OK\r\n\r\n", BROKEN),
    "a short status": Odd(b"HTTP/1.1 20 OK\r\n\r\n", BROKEN),
    "a long status": Odd(b"HTTP/1.1 2000 OK\r\n\r\n", BROKEN),
    "a status below all": Odd(b"HTTP/1.1 099 OK\r\n" + LENGTH + b"\r\nok", BROKEN, differs=LENIENT),
    "a status of nobody's": Odd(b"HTTP/1.1 799 X\r\n" + LENGTH + b"\r\nok", status=799, reused=True),
    "a folded header": Odd(OK + b"X: a\r\n b\r\n" + LENGTH + b"\r\nok", BROKEN, differs=LENIENT),
    "a fold at once": Odd(OK + b" X: a\r\n" + LENGTH + b"\r\nok", BROKEN, differs=LENIENT),
    "bare line feeds": Odd(b"HTTP/1.1 200 OK\n" + LENGTH + b"\nok", BROKEN, differs=LENIENT),
    "a bare line feed in a header": Odd(OK + b"X: a\n" + LENGTH + b"\r\nok", BROKEN, differs=LENIENT),
    "a bare CR in a header": Odd(OK + b"X: a\rY: b\r\n" + LENGTH + b"\r\nok", BROKEN),
    "NUL in a header": Odd(OK + b"X: a\0b\r\n" + LENGTH + b"\r\nok", BROKEN),
    "a control character in a header": Odd(OK + b"X: a\x01b\r\n" + LENGTH + b"\r\nok", BROKEN, differs=LENIENT),
    "a tab in a header": Odd(OK + b"X: a\tb\r\n" + LENGTH + b"\r\nok", reused=True),
    "Latin-1 in a header": Odd(OK + b"X: caf\xe9\r\n" + LENGTH + b"\r\nok", reused=True),
    "space around a value": Odd(OK + b"X: \t a \t \r\n" + LENGTH + b"\r\nok", reused=True),
    "an empty value": Odd(OK + b"X:\r\n" + LENGTH + b"\r\nok", reused=True),
    "a space before the colon": Odd(OK + b"X : a\r\n" + LENGTH + b"\r\nok", BROKEN),
    "a space in a name": Odd(OK + b"X y: a\r\n" + LENGTH + b"\r\nok", BROKEN),
    "an empty name": Odd(OK + b": a\r\n" + LENGTH + b"\r\nok", BROKEN),
    "a name in Latin-1": Odd(OK + b"caf\xe9: a\r\n" + LENGTH + b"\r\nok", BROKEN),
    "no colon": Odd(OK + b"Xa\r\n" + LENGTH + b"\r\nok", BROKEN),
    "a header for each of two cookies": Odd(
        OK + b"Set-Cookie: a=1\r\nset-cookie: b=2\r\n" + LENGTH + b"\r\nok", reused=True
    ),
    "too many headers": Odd(OK + b"X: a\r\n" * 600 + LENGTH + b"\r\nok", BROKEN),
    "a header that is too long": Odd(OK + b"X: " + b"a" * 2**17 + b"\r\n" + LENGTH + b"\r\nok", BROKEN),
    "a head that is too long": Odd(
        OK + b"".join(b"X%d: %b\r\n" % (number, b"a" * 5000) for number in range(20)) + LENGTH + b"\r\nok",
        BROKEN,
        differs="aiohttp bounds each line and the number of lines, and not the whole",
    ),
    # What follows.
    "closed": Odd(OK + b"Connection: close\r\n" + LENGTH + b"\r\nok"),
    "more than was asked for": Odd(OK + LENGTH + b"\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
    "bytes after a length": Odd(OK + LENGTH + b"\r\nok!", differs=SURPLUS),
    "bytes after the last chunk": Odd(CHUNKED + b"2\r\nok\r\n0\r\n\r\n!", differs=SURPLUS),
    # Interim answers, and those without a body (RFC 9110 §15.2, §6.4.1).
    "100 first": Odd(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + LENGTH + b"\r\nok", reused=True),
    "103 first": Odd(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + LENGTH + b"\r\nok", reused=True),
    "many first": Odd(b"HTTP/1.1 102 Processing\r\n\r\n" * 20 + OK + LENGTH + b"\r\nok", reused=True),
    "chunks of an interim answer": Odd(
        b"HTTP/1.1 103 Hints\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + OK + LENGTH + b"\r\nok",
        BROKEN,
    ),
    "an interim answer to the end": Odd(
        b"HTTP/1.1 199 X\r\nTransfer-Encoding: x\r\n\r\n" + OK + LENGTH + b"\r\nok", BROKEN
    ),
    "endless interim answers": Odd(
        b"HTTP/1.1 102 Processing\r\nX: a\r\n\r\n" * 3000 + OK + LENGTH + b"\r\nok",
        BROKEN,
        differs="aiohttp reads any number of them",
    ),
    "only 100": Odd(b"HTTP/1.1 100 Continue\r\n\r\n", BROKEN),
    "101 unasked": Odd(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nbytes",
        BROKEN,
        differs="aiohttp leaves it to its caller to see what it got",
    ),
    "an upgrade that is none": Odd(OK + b"Connection: upgrade\r\nUpgrade: h2c\r\n" + LENGTH + b"\r\nok", reused=True),
    "204": Odd(b"HTTP/1.1 204 No Content\r\n\r\n", b"", 204, reused=True),
    "204 with a length": Odd(b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", b"", 204, reused=True),
    "204 with a body": Odd(b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", b"", 204, differs=SURPLUS),
    "304": Odd(b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n', b"", 304, reused=True),
    "304 with a length": Odd(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b"", 304, reused=True),
    "HEAD": Odd(OK + b"Content-Length: 9\r\n\r\n", b"", reused=True, method="HEAD"),
    "HEAD without a length": Odd(OK + b"\r\n", b"", method="HEAD"),
    "HEAD of chunks": Odd(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"", reused=True, method="HEAD"),
    "HEAD with a body": Odd(OK + LENGTH + b"\r\nok", b"", method="HEAD", differs=SURPLUS),
    "HEAD with chunks": Odd(CHUNKED + b"2\r\nok\r\n0\r\n\r\n", b"", method="HEAD", differs=SURPLUS),
}

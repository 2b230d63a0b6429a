"""Reading the answer to one request from bytes in arbitrary pieces: strict, bounded, sans-I/O.

llhttp does the reading, without any of its leniencies: it refuses by itself obsolete line folding, bare CR and LF,
control characters, repeated or malformed lengths, a length beside chunks, and malformed chunks. What it lets pass
and would let two parties disagree about where an answer ends (RFC 9112 §6, §11.2) is refused here: transfer codings
other than `chunked`, or in HTTP/1.0; other protocols and versions; a switch of protocols that nobody asked for. After
one that was asked for, what has come already of the other protocol is in `pieces`, and no more may be fed.

Interim answers are handed on, but for 100, which answers an `Expect` that is never sent. Chunk extensions and trailers
are dropped: they belong to one connection, or would arrive after the decision that they could have changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from proxy.headers import HeaderList

MAX_HEAD = 64 * 2**10
"""Bytes in a row that bring no body: a head with large cookies and policies, interim answers, trailers."""

MAX_HEADERS = 500
"""Headers of one answer, its trailers included."""

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


Interim = Callable[[int, str, HeaderList], None]
"""Hears of an interim answer: its status, its reason and its headers."""


class MalformedAnswer(Exception):
    """Not HTTP, or no answer to what was asked. The text repeats nothing of what was received."""


class AnswerParser:
    """Reads one answer. `feed` it what arrives and tell it the `end` of the connection; it never waits.

    `pieces` collects the body; who takes pieces out leaves the list empty. Whatever follows a complete answer is
    `surplus`: nobody asked for it, so the connection is of no more use.
    """

    # What most answers leave as it is stands here: one of these is made for each answer.
    status = 0
    reason = ""
    length: int | None = None
    headers_complete = False
    complete = False
    surplus = False
    reusable = False
    switched = False
    _reason = b""
    _problem: str | None = None
    _until_end = False
    _dry = _size = _names = 0

    def __init__(self, *, is_head: bool, may_switch: bool = False, interim: Interim | None = None) -> None:
        """`is_head` for the answer to a HEAD request, which has no body whatever its headers say; `may_switch` for
        one that may be 101. `interim` is called for each interim answer.
        """
        self.headers: HeaderList = []
        self.pieces: list[bytes] = []
        self._is_head = is_head
        self._may_switch = may_switch
        self._interim = interim
        self._http: HttpResponseParser | None = HttpResponseParser(self)

    def feed(self, data: bytes | memoryview) -> None:
        """Read what has arrived. Raises MalformedAnswer."""
        if self._http is None:
            self.surplus, self.reusable = True, False
            return
        if not self._dry and not self.headers_complete and data[0] != ord("H"):
            # llhttp would skip empty lines, and read RTSP and ICE as well.
            raise MalformedAnswer("what it sent is not HTTP")
        self._dry += len(data)
        try:
            self._http.feed_data(data)
        except HttpParserUpgrade as switch:
            self._switch(data[switch.args[0] :])
            return
        except HttpParserError as error:
            if self.complete:
                self.surplus = True
            else:
                raise MalformedAnswer(self._problem or f"what it sent is not HTTP: {error}") from None
        if self.complete:
            if self._is_head and data[-1] != ord("\n"):
                # The beginning of a chunk, of which llhttp tells nothing yet.
                self.surplus = True
            self._finish()
        elif self._dry > MAX_HEAD:
            raise MalformedAnswer(f"it sent more than {MAX_HEAD} bytes without any body")

    @property
    def began(self) -> bool:
        """Whether a byte of the answer has come."""
        return self._dry > 0 or self.headers_complete

    def end(self) -> bool:
        """The connection was ended in an orderly way: whether the answer is complete by that (RFC 9112 §6.3)."""
        if self._until_end and not self.complete:
            self.complete = True
            self._finish()
        return self.complete

    def _switch(self, rest: bytes | memoryview) -> None:
        """The head of an answer 101 is over; all others were refused at their head."""
        self.switched, self._http = True, None
        if rest:
            self.pieces.append(bytes(rest))

    def _finish(self) -> None:
        # The two know each other: parted now, or only the garbage collector would find them.
        self._http = None
        self.reusable = self.reusable and not self.surplus

    def _refuse(self, problem: str) -> None:
        self._problem = problem
        raise MalformedAnswer(problem)

    # What llhttp calls. An exception stops it and comes out of `feed_data` as a HttpParserError.

    def on_message_begin(self) -> None:
        if self.complete:
            self._refuse("it sent more than one answer")

    def on_status(self, reason: bytes) -> None:
        if _CONTROL.search(reason):
            self._refuse("its reason phrase has control characters")
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._names += 1
        self._size += len(name) + len(value)
        if self._names > MAX_HEADERS or self._size > MAX_HEAD:
            self._refuse(f"it sent more than {MAX_HEADERS} headers, or {MAX_HEAD} bytes of them")
        if not self.headers_complete:
            # The bytes as they came, also those that are not UTF-8. Names are ASCII, or llhttp had refused them.
            self.headers.append((name.decode(), value.rstrip(b" \t").decode("utf-8", "surrogateescape")))

    def on_headers_complete(self) -> None:
        assert self._http is not None, "called while it is fed"
        self.status = self._http.get_status_code()
        if self.status == 101 and not (self._may_switch and self._http.should_upgrade()):
            self._refuse("it switched to a protocol that nobody asked for")
        if self.status < 200 and self.status != 101:
            self._read_interim()
            return
        version, codings = self._http.get_http_version(), []
        for name, value in self.headers:
            # Only two names decide, and few others are as long.
            if len(name) == 14 and name.lower() == "content-length":
                self.length = int(value)
            elif len(name) == 17 and name.lower() == "transfer-encoding":
                codings.append(value.lower())
        if version not in ("1.1", "1.0"):
            self._refuse("it answered in an unknown version of HTTP")
        if codings and (codings != ["chunked"] or version == "1.0"):
            self._refuse("it answered with a transfer encoding other than chunked")
        self.reason = self._reason.decode("utf-8", "surrogateescape")
        # Who was asked to switch may take what follows for the other protocol, whatever its answer (RFC 9110 §7.8).
        self.reusable = self._http.should_keep_alive() and not self._may_switch
        self._until_end = self.length is None and not codings
        self.headers_complete = True
        if self._is_head:
            self.complete = True

    def _read_interim(self) -> None:
        """RFC 9110 §15.2: the answer itself is still to come."""
        if self.status < 100:
            self._refuse("it answered with a status below 100")
        if self._interim is not None and self.status != 100:
            self._interim(self.status, self._reason.decode("utf-8", "surrogateescape"), list(self.headers))
        self.headers.clear()
        self._reason = b""

    def on_body(self, data: bytes) -> None:
        if self.complete or not self.headers_complete:
            # Of an answer to HEAD, since llhttp does not know the request; or of an interim one (RFC 9110 §15.2).
            self._refuse("it sent a body that nobody asked for")
        self._dry = 0
        self.pieces.append(data)

    def on_chunk_header(self) -> None:
        if self.complete or not self.headers_complete:
            self._refuse("it sent a body that nobody asked for")

    def on_message_complete(self) -> None:
        # Also after an interim answer, which completes nothing.
        if self.status >= 200:
            self.complete = True

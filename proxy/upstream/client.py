"""One interface to backends, and what can go wrong with them.

A request is sent once. Nobody can know whether a backend that ended the connection has acted on it, and a pooled
connection is given up before backends usually end theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Protocol, Self

import aiohttp
from yarl import URL

from config.settings import Upstream as UpstreamSettings
from proxy.headers import HeaderList, without

MAX_HEAD_LINE = 64 * 2**10
"""Bytes of one line of an answer's head: large cookies and policies fit."""

MAX_HEADERS = 500
"""Headers of one answer."""


class UpstreamUnreachable(Exception):
    """No connection: the backend has not seen the request."""


class UpstreamTimeout(Exception):
    """Connected, and then silent for too long."""


class UpstreamBroken(Exception):
    """The connection ended, or what came over it is not HTTP."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request to a backend. `body` is bytes, a stream of pieces, or None; `length` is known or None.

    What the stream raises is raised by `Upstream.send` as it is.
    """

    method: str
    target: str
    headers: HeaderList
    body: bytes | AsyncIterator[bytes] | None
    length: int | None


class UpstreamAnswer(Protocol):
    """The head of an answer, with its body still to come."""

    status: int
    reason: str
    headers: HeaderList
    length: int | None

    async def read(self) -> bytes:
        """The next piece as it arrived; empty at the end. Raises UpstreamBroken when the answer is cut short."""

    def abort(self) -> None:
        """Give the answer up, and the connection with it."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Upstream:
    """One backend."""

    def __init__(self, name: str, settings: UpstreamSettings, session: aiohttp.ClientSession) -> None:
        self.name = name
        self._settings = settings
        self._session = session
        self._base = URL(settings.url)
        self._prefix = self._base.raw_path.rstrip("/")
        self._response_timeout_s = settings.response_timeout.total_seconds()
        self._set_headers = [(name, value.get_secret_value()) for name, value in settings.headers.items()]
        self._timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=settings.connect_timeout.total_seconds(),
            sock_read=settings.idle_timeout.total_seconds(),
        )

    async def send(self, outgoing: Outgoing) -> UpstreamAnswer:
        """The head of the backend's answer. Raises UpstreamUnreachable, UpstreamTimeout, UpstreamBroken."""
        upload = None if outgoing.body is None or isinstance(outgoing.body, bytes) else _Upload(outgoing.body)
        try:
            async with asyncio.timeout(self._response_timeout_s) as patience:
                if upload is not None:
                    upload.wait(patience, self._response_timeout_s)
                response = await self._session.request(
                    outgoing.method,
                    # Query and all as the path: yarl then changes nothing about it, not even a bare `?`.
                    self._base.with_path(self._prefix + outgoing.target, encoded=True),
                    headers=self._headers(outgoing),
                    data=upload or outgoing.body,
                    allow_redirects=False,
                    timeout=self._timeout,
                )
        except aiohttp.ClientConnectorError as error:
            raise UpstreamUnreachable(f"cannot connect to upstream {self.name!r}") from error
        except (TimeoutError, aiohttp.ServerTimeoutError) as error:
            raise UpstreamTimeout(f"upstream {self.name!r} did not answer in time") from error
        except (aiohttp.ClientError, ConnectionError, ValueError) as error:
            if upload is not None and upload.error is not None:
                raise upload.error from error
            # Not the error's text: it may hold the request's headers.
            raise UpstreamBroken(f"upstream {self.name!r} broke the connection ({type(error).__name__})") from error
        finally:
            if upload is not None:
                upload.wait(None, 0)
        return self._checked(response, upload)

    def _checked(self, response: aiohttp.ClientResponse, upload: _Upload | None) -> UpstreamAnswer:
        """The answer, unless it is one that no request asked for or nobody could read."""
        encodings = response.headers.getall("Transfer-Encoding", [])
        if response.status < 200:
            # A switch of protocols that nobody asked for (RFC 9110 §15.2.2).
            problem = f"answered {response.status} to a request for no such thing"
        elif [value.lower() for value in encodings] not in ([], ["chunked"]):
            problem = "answered with a transfer encoding other than chunked"
        else:
            return _Answer(self.name, response, upload)
        response.close()
        raise UpstreamBroken(f"upstream {self.name!r} {problem}")

    def _headers(self, outgoing: Outgoing) -> HeaderList:
        replaced = [name for name, _ in self._set_headers]
        if self._settings.host == "upstream":
            replaced.append("Host")
        headers = [*without(outgoing.headers, replaced), *self._set_headers]
        if outgoing.length is not None:
            headers.append(("Content-Length", str(outgoing.length)))
        return _in_one_spelling(headers)


def _in_one_spelling(headers: HeaderList) -> HeaderList:
    """Headers that repeat, all spelled as the first of them: of `X-A` and `x-a` aiohttp would send only the last."""
    spelling: dict[str, str] = {}
    return [(spelling.setdefault(name.lower(), name), value) for name, value in headers]


class _Upload:
    """A body on its way to the backend. While the client delivers, the backend is not late with its answer."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._patience: asyncio.Timeout | None = None
        self._seconds = 0.0
        self.error: Exception | None = None
        """What the body itself has raised; aiohttp reports it as a failure of the connection."""
        self.complete = False

    def wait(self, patience: asyncio.Timeout | None, seconds: float) -> None:
        """From now on each piece prolongs `patience` to `seconds` after it."""
        self._patience, self._seconds = patience, seconds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        # An empty piece makes aiohttp send the head, which would else wait for the body: a backend may answer before.
        yield b""
        try:
            async for piece in self._pieces:
                if self._patience is not None and not self._patience.expired():
                    self._patience.reschedule(asyncio.get_running_loop().time() + self._seconds)
                yield piece
            self.complete = True
        except Exception as error:
            self.error = error
            raise


class _Answer:
    def __init__(self, name: str, response: aiohttp.ClientResponse, upload: _Upload | None) -> None:
        self._name = name
        self._response = response
        self._upload = upload
        self.status = response.status
        self.reason = response.reason or ""
        # As they were spelled; bytes that are not UTF-8 survive as surrogates.
        self.headers: HeaderList = [
            (name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape"))
            for name, value in response.raw_headers
        ]
        length = response.headers.get("Content-Length")
        self.length = int(length) if length is not None and length.isdigit() else None

    async def read(self) -> bytes:
        try:
            return await self._response.content.readany()
        except (TimeoutError, aiohttp.ServerTimeoutError) as error:
            raise UpstreamTimeout(f"upstream {self._name!r} fell silent in the middle of its answer") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise UpstreamBroken(f"upstream {self._name!r} cut its answer short") from error

    def abort(self) -> None:
        self._response.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A connection that still carries the rest of an answer, or of a request, must never be used again.
        if self._response.content.at_eof() and (self._upload is None or self._upload.complete):
            self._response.release()
        else:
            self._response.close()


def new_session(keepalive: timedelta) -> aiohttp.ClientSession:
    """A client that adds, follows, keeps, repeats and decodes nothing by itself."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=keepalive.total_seconds()),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        max_line_size=MAX_HEAD_LINE,
        max_field_size=MAX_HEAD_LINE,
        max_headers=MAX_HEADERS,
    )
    # There is no public way; aiohttp's own test client does the same.
    session._retry_connection = False
    return session

"""One interface to backends, and what can go wrong with them.

A request is sent once: aiohttp's own retry of idempotent requests on a connection that proved dead is the only one,
and it happens before any byte of an answer.
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


class UpstreamUnreachable(Exception):
    """No connection: the backend has not seen the request."""


class UpstreamTimeout(Exception):
    """Connected, and then silent for too long."""


class UpstreamBroken(Exception):
    """The connection ended, or what came over it is not HTTP."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request to a backend. `body` is bytes, a stream of pieces, or None; `length` is known or None."""

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
        self._base = settings.url.rstrip("/")
        self._set_headers = [(name, value.get_secret_value()) for name, value in settings.headers.items()]
        self._timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=settings.connect_timeout.total_seconds(),
            sock_read=settings.idle_timeout.total_seconds(),
        )

    async def send(self, outgoing: Outgoing) -> UpstreamAnswer:
        """The head of the backend's answer. Raises UpstreamUnreachable, UpstreamTimeout, UpstreamBroken."""
        try:
            async with asyncio.timeout(self._settings.response_timeout.total_seconds()):
                response = await self._session.request(
                    outgoing.method,
                    URL(self._base + outgoing.target, encoded=True),
                    headers=self._headers(outgoing),
                    data=outgoing.body,
                    allow_redirects=False,
                    timeout=self._timeout,
                )
        except aiohttp.ClientConnectorError as error:
            raise UpstreamUnreachable(f"cannot connect to upstream {self.name!r}") from error
        except (TimeoutError, aiohttp.ServerTimeoutError) as error:
            raise UpstreamTimeout(f"upstream {self.name!r} did not answer in time") from error
        except (aiohttp.ClientError, ConnectionError, ValueError) as error:
            # Not the error's text: it may hold the request's headers.
            raise UpstreamBroken(f"upstream {self.name!r} broke the connection ({type(error).__name__})") from error
        if response.status < 200:
            # A switch of protocols that nobody asked for (RFC 9110 §15.2.2).
            response.close()
            raise UpstreamBroken(f"upstream {self.name!r} answered {response.status} to a request for no such thing")
        return _Answer(self.name, response)

    def _headers(self, outgoing: Outgoing) -> HeaderList:
        replaced = [name for name, _ in self._set_headers]
        if self._settings.host == "upstream":
            replaced.append("Host")
        headers = [*without(outgoing.headers, replaced), *self._set_headers]
        if outgoing.length is not None:
            headers.append(("Content-Length", str(outgoing.length)))
        return headers


class _Answer:
    def __init__(self, name: str, response: aiohttp.ClientResponse) -> None:
        self._name = name
        self._response = response
        self.status = response.status
        self.reason = response.reason or ""
        self.headers: HeaderList = list(response.headers.items())
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
        # A connection that still carries the rest of an answer must never be used again.
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


def new_session(keepalive: timedelta) -> aiohttp.ClientSession:
    """A client that adds, follows, keeps and decodes nothing by itself."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=keepalive.total_seconds()),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
    )

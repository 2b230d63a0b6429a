"""The keys that an issuer publishes (RFC 7517), fetched beside the requests that need them.

One fetch at a time, whoever asks; it is bounded in size and time, follows no redirect, and is made by our own client,
which never blocks the event loop. Keys are fetched regularly, so that one that was taken back stops working, and once
more when a token names an unknown one, though not again within the cool-down: a flood of made-up names causes one
fetch. While fetching fails the last good keys stay in force, for `jwks_keep`; what is no key set counts as a failure.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from config.clock import Clock
from config.findings import Finding
from config.identity import Jwt
from config.settings import LoadedSettings
from config.upstreams import Upstream as UpstreamSettings
from proxy.identity.jwt import Fixed, Issuer
from proxy.identity.keys import Key, UnusableKey, key_set, static_keys
from proxy.upstream import trust
from proxy.upstream.client import (
    Outgoing,
    Upstream,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamTimeout,
    UpstreamUnreachable,
)

log = logging.getLogger(__name__)

MAX_BYTES = 256 * 2**10
"""Of a key set: a hundred keys with their certificate chains."""

FETCH_S = 5
"""For one fetch from the first look-up of the name to the last byte: requests may be waiting for it."""


class Unfetched(Exception):
    """The keys could not be had; the message says why."""


class Jwks:
    """The published keys of one issuer. Use it in `async with`, which starts and ends its fetching."""

    def __init__(self, issuer: Jwt, upstream: Upstream, clock: Clock) -> None:
        assert issuer.jwks_url is not None, "an issuer without one has other keys"
        parts = urlsplit(issuer.jwks_url)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._issuer = issuer
        self._upstream = upstream
        self._clock = clock
        self._keys: Sequence[Key] = ()
        self._fetched_at: datetime | None = None
        self._tried_at: datetime | None = None
        self._flight: asyncio.Task[bool] | None = None
        self._trouble: str | None = None

    @property
    def keys(self) -> Sequence[Key]:
        """The last good ones, unless they are too old to be trusted."""
        fresh = self._fetched_at is not None and self._clock() - self._fetched_at < self._issuer.jwks_keep
        return self._keys if fresh else ()

    async def fetched_again(self) -> bool:
        """Fetch them, unless that was tried within the cool-down. Who asks meanwhile waits for the same fetch."""
        if self._flight is None:
            now = self._clock()
            # A clock that was set back must not keep the keys from being fetched.
            if self._tried_at is not None and timedelta(0) <= now - self._tried_at < self._issuer.jwks_cooldown:
                return False
            self._tried_at = now
            self._flight = asyncio.create_task(self._fetch(), name=f"keys of {self._issuer.name}")
            self._flight.add_done_callback(self._landed)
        # A request that is cancelled must not take the fetch of all others with it.
        return await asyncio.shield(self._flight)

    def _landed(self, _flight: asyncio.Task[bool]) -> None:
        self._flight = None

    async def keep_fresh(self) -> None:
        """Fetch for ever: at once, then as often as the settings say, or after the cool-down where it failed."""
        while True:
            pause = self._issuer.jwks_refresh if await self.fetched_again() else self._issuer.jwks_cooldown
            await asyncio.sleep(pause.total_seconds())

    async def close(self) -> None:
        if self._flight is not None:
            flight = self._flight
            flight.cancel()
            with suppress(asyncio.CancelledError):
                await flight

    async def _fetch(self) -> bool:
        """Whether the keys were fetched. A change of that is logged, and not every try."""
        try:
            async with asyncio.timeout(FETCH_S):
                self._keys = key_set(await self._body(), self._issuer.algorithms)
        except (Unfetched, UnusableKey, UpstreamUnreachable, UpstreamBusy, UpstreamTimeout, UpstreamBroken) as error:
            return self._failed(str(error))
        except TimeoutError:
            return self._failed(f"no complete answer within {FETCH_S} s")
        self._fetched_at = self._clock()
        if self._trouble is not None:
            log.warning("the keys of issuer %r are fetched again", self._issuer.name)
        self._trouble = None
        return True

    def _failed(self, trouble: str) -> bool:
        if self._trouble is None:
            kept = "the last good ones stay in force" if self._keys else "its tokens are answered with 503"
            log.error("cannot fetch the keys of issuer %r: %s; %s", self._issuer.name, trouble, kept)
        self._trouble = trouble
        return False

    async def _body(self) -> bytes:
        headers = [("Accept", "application/jwk-set+json, application/json"), ("Accept-Encoding", "identity")]
        async with await self._upstream.send(Outgoing("GET", self._path, headers, None, None, True)) as answer:
            if answer.status != 200:
                # A redirect too: where keys come from is for the settings to say, and not for who answers.
                raise Unfetched(f"answered with {answer.status}")
            body = bytearray()
            while piece := await answer.read():
                body += piece
                if len(body) > MAX_BYTES:
                    raise Unfetched(f"the answer is longer than {MAX_BYTES} bytes")
        return bytes(body)


@asynccontextmanager
async def open_issuers(settings: LoadedSettings, clock: Clock) -> AsyncIterator[list[Issuer]]:
    """The issuers of the settings, whose published keys are being fetched until the block is left.

    A start does not wait for them: an identity provider that is away must not keep away who has an API key.
    """
    async with AsyncExitStack() as stack:
        issuers = []
        for issuer in settings.values.identity.jwt:
            if issuer.jwks_url is None:
                issuers.append(Issuer(issuer, Fixed(static_keys(issuer, settings.folder))))
                continue
            upstream = await stack.enter_async_context(_upstream(issuer, settings.folder))
            source = Jwks(issuer, upstream, clock)
            stack.push_async_callback(source.close)
            fetching = asyncio.create_task(source.keep_fresh(), name=f"keys of {issuer.name}")
            stack.callback(fetching.cancel)
            issuers.append(Issuer(issuer, source))
        yield issuers


def findings_of(settings: LoadedSettings) -> Iterator[Finding]:
    """What is wrong with the files that `jwks_ca` names, each in its place."""
    for number, issuer in enumerate(settings.values.identity.jwt):
        try:
            if issuer.jwks_url is not None:
                trust.context_of(_endpoint(issuer), settings.folder)
        except OSError as error:
            reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
            where = ("identity", "jwt", number, "jwks_ca")
            yield settings.source.finding(where, "unusable-authorities", f"cannot use {issuer.jwks_ca!r}: {reason}")


def _upstream(issuer: Jwt, folder: Path) -> Upstream:
    endpoint = _endpoint(issuer)
    return Upstream(f"keys of {issuer.name}", endpoint, trust.context_of(endpoint, folder))


def _endpoint(issuer: Jwt) -> UpstreamSettings:
    """Where the keys are, as our client knows places."""
    parts = urlsplit(issuer.jwks_url or "")
    patience = timedelta(seconds=FETCH_S)
    plain = UpstreamSettings(
        url=f"{parts.scheme}://{parts.netloc}",
        connect_timeout=patience,
        response_timeout=patience,
        idle_timeout=patience,
        max_connections=1,
    )
    return plain.model_copy(update={"ca": issuer.jwks_ca})

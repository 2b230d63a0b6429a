"""Asking backends how jobs stand, for clients that went away. The scheduler's job `watch_jobs` calls it.

A question is a GET of a `poll` route, sent straight to its backend, and its answer is read like that to a client: what
it says of the jobs of this account ends their holds. What cannot be asked or read now is asked again later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from config.clock import Clock
from config.jobs import Poll, Watch
from config.routes import Route
from config.settings import LoadedSettings
from proxy.headers import HeaderList
from proxy.identity.jwt import signed
from proxy.pipeline.jobs import observe
from proxy.pipeline.metering import reader_for
from proxy.pipeline.relay import hear_out
from proxy.upstream import trust
from proxy.upstream.client import (
    Outgoing,
    Upstream,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from store.ids import id_text
from store.job_watches import Watched
from store.opening import Store

ANSWER_S = 10
"""For a whole answer: that about a job's state is short, and a backend that lets others wait does not hold them up."""

TOKEN_LASTS = timedelta(seconds=60)
"""Of a token that is signed for one question: longer than the answer may take and than clocks usually differ."""

log = logging.getLogger(__name__)


class Asker:
    """Puts the questions of one process."""

    def __init__(self, settings: LoadedSettings, upstreams: dict[str, Upstream], store: Store, clock: Clock) -> None:
        self._routes = {route.id: route for route in settings.values.routes}
        self._issuers = {issuer.name: issuer for issuer in settings.values.identity.jwt}
        self._limit = settings.values.limits.measured
        self._upstreams = upstreams
        self._store = store
        self._clock = clock

    async def __call__(self, watched: Watched) -> bool:
        """Ask about one job, and end what the answer says has ended. False when there was no answer to read."""
        planned = self._planned(watched)
        if planned is None:
            log.warning("hold %s: nobody asks for jobs of %s any more", id_text(watched.hold_id), watched.route_id)
            return False
        watch, asked, poll = planned
        headers = self._headers(watched, watch)
        outgoing = Outgoing("GET", watched.path, headers, None, None, repeatable=True)
        try:
            async with (
                asyncio.timeout(ANSWER_S),
                await self._upstreams[asked.upstream].send(outgoing) as answer,
            ):
                reader = reader_for(answer.status, answer.headers, self._limit, ())
                await hear_out(answer, reader)
        except (UpstreamUnreachable, UpstreamBusy, UpstreamTimeout, UpstreamBroken, TimeoutError) as error:
            problem = str(error) or f"no complete answer within {ANSWER_S} s"
            log.warning("the job of hold %s could not be asked for: %s", id_text(watched.hold_id), problem)
            return False
        documents = reader.documents()
        parameters = {poll.id.path: watched.job_id} if poll.id.path is not None else {}
        await observe(poll, parameters, watched.account_id, documents, self._store)
        return bool(documents)

    def _planned(self, watched: Watched) -> tuple[Watch, Route, Poll] | None:
        """What the settings of today say of a job that was accepted under earlier ones."""
        route = self._routes.get(watched.route_id)
        watch = route.job.watch if route is not None and route.job is not None else None
        asked = self._routes.get(watch.route) if watch is not None else None
        if watch is None or asked is None or asked.poll is None:
            return None
        return watch, asked, asked.poll

    def _headers(self, watched: Watched, watch: Watch) -> HeaderList:
        headers = [(name, value.get_secret_value()) for name, value in watch.headers.items()]
        if watch.issuer is not None:
            token = signed(self._issuers[watch.issuer], watched.user_id, self._clock(), TOKEN_LASTS)
            headers.append(("Authorization", f"Bearer {token}"))
        headers += [
            ("Accept", "application/json"),
            ("Accept-Encoding", "identity"),
            ("X-Farebox-User", watched.user_id.encode("ascii", "backslashreplace").decode()),
            ("X-Farebox-Account", str(watched.account_id)),
            ("X-Request-Id", id_text(self._store.ids.next())),
        ]
        return headers


@asynccontextmanager
async def asking(settings: LoadedSettings, store: Store, clock: Clock) -> AsyncIterator[Asker | None]:
    """The questions of the scheduler; None where no route asks for any."""
    watched = [route.job.watch for route in settings.values.routes if route.job is not None and route.job.watch]
    if not watched:
        yield None
        return
    asked = {watch.route for watch in watched}
    names = {route.upstream for route in settings.values.routes if route.id in asked}
    async with AsyncExitStack() as stack:
        upstreams = {
            name: await stack.enter_async_context(Upstream(name, upstream, trust.context_of(upstream, settings.folder)))
            for name, upstream in settings.values.upstreams.items()
            if name in names
        }
        yield Asker(settings, upstreams, store, clock)

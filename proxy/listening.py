"""Both listeners: aiohttp's server, with Farebox's own words for requests that its parser refuses.

Left to itself aiohttp answers such a request with a page that repeats the bad line, which may hold a credential, and
writes a stack trace with it into the log. And once it stops it drops whatever clients still send, so that no upload
that is under way could come to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from policies.refusals import Reason, Refusal, expectation_failed, invalid_request
from proxy.errors import Answer
from proxy.pipeline.relay import Relayed
from proxy.pipeline.serve import Pipeline

CUT_S = 1
"""How long a request may take to notice that it is cut; aiohttp grants it twice."""


Refuse = Callable[[Refusal], tuple[Answer, str]]
"""Makes the answer to what could not be read as a request, and its id."""


class _QuietServer(web.Server):
    """Hands every connection to a handler of our own. The options are those of `web.Server`."""

    def __init__(self, serve: Any, refuse: Refuse, **options: Any) -> None:
        super().__init__(serve, **options)
        self._refuse = refuse

    def __call__(self) -> web.RequestHandler:
        return _Handler(self._refuse, self, loop=self._loop, **self._kwargs)


class AdminRunner(web.AppRunner):
    """Runs an application of aiohttp's on a server that repeats nothing of what it could not read."""

    def __init__(self, application: web.Application, refuse: Refuse, **options: Any) -> None:
        super().__init__(application, **options)
        self._refuse = refuse

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()

        async def serve(request: web.BaseRequest) -> web.StreamResponse:
            try:
                return await made.request_handler(request)
            except web.HTTPExpectationFailed:
                # It comes before the application's own middlewares, and would repeat the header.
                return _written(self._refuse(expectation_failed()))

        return _QuietServer(serve, self._refuse, request_factory=made.request_factory, **self._kwargs)


class PublicServer(_QuietServer):
    """Serves the pipeline. The options are those of `web.Server`."""

    def __init__(self, pipeline: Pipeline, **options: Any) -> None:
        super().__init__(pipeline.serve, pipeline.refuse_unread, **options)

    def pre_shutdown(self) -> None:
        """Nobody is let in any more: connections without a request end."""
        for connection in self.connections:
            if not connection._request_in_progress:
                connection.close()


class _Handler(web.RequestHandler):
    """One connection."""

    __slots__ = ("_refuse",)

    def __init__(self, refuse: Refuse, server: _QuietServer, **options: Any) -> None:
        super().__init__(server, **options)
        self._refuse = refuse

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - aiohttp calls it with one
        """End the connection: after the request that is running, if that ends within `timeout` seconds."""
        if self._request_in_progress:
            self._handler_waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(timeout):
                    await self._handler_waiter
            except TimeoutError:
                self._handler_waiter = None
        await super().shutdown(CUT_S)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is not a request, or to what the pipeline could not answer. The connection is closed."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is under way already; another one cannot follow it")
        return _written(self._refuse(_refusal(status, exc)))


def _written(refused: tuple[Answer, str]) -> web.StreamResponse:
    answer, request_id = refused
    headers = [*answer.headers, ("X-Request-Id", request_id)]
    response = Relayed(answer.status, None, headers, len(answer.body), answer.body)
    response.force_close()
    return response


def _refusal(status: int, error: BaseException | None) -> Refusal:
    if status != 400:
        return Refusal(Reason.INTERNAL, "Internal error", "Report the request id to the operator.")
    if isinstance(error, LineTooLong):
        return Refusal(Reason.HEADERS_TOO_LARGE, "The request line or a header is too large")
    return invalid_request("The request is not HTTP as RFC 9112 asks")

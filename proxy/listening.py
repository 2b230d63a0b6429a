"""The public listener: aiohttp's server, with Farebox's own words for requests that its parser refuses.

Left to itself aiohttp answers such a request with a page that repeats the bad line, which may hold a credential, and
writes a stack trace for each into the log. And once it stops it drops whatever clients still send, so that no upload
that is under way could come to its end.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from policies.refusals import Reason, Refusal, invalid_request
from proxy.pipeline.relay import Relayed
from proxy.pipeline.serve import Pipeline

TOO_MANY = "Too many headers received"
"""What aiohttp says of more than its 128; it has no class of its own for that."""

CUT_S = 1
"""How long a request may take to notice that it is cut; aiohttp grants it twice."""


class PublicServer(web.Server):
    """Hands every connection to a handler of the pipeline's own. The options are those of `web.Server`."""

    def __init__(self, pipeline: Pipeline, **options: Any) -> None:
        super().__init__(pipeline.serve, **options)
        self._pipeline = pipeline

    def __call__(self) -> web.RequestHandler:
        return _Handler(self._pipeline, self, loop=self._loop, **self._kwargs)

    def pre_shutdown(self) -> None:
        """Nobody is let in any more: connections without a request end."""
        for connection in self.connections:
            if not connection._request_in_progress:
                connection.close()


class _Handler(web.RequestHandler):
    """One connection."""

    __slots__ = ("_pipeline",)

    def __init__(self, pipeline: Pipeline, server: PublicServer, **options: Any) -> None:
        super().__init__(server, **options)
        self._pipeline = pipeline

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
        answer, request_id = self._pipeline.refuse_unread(refusal_of_unread(status, exc))
        headers = [*answer.headers, ("X-Request-Id", request_id)]
        response = Relayed(answer.status, None, headers, len(answer.body), answer.body)
        response.force_close()
        return response


def refusal_of_unread(status: int, error: BaseException | None) -> Refusal:
    """What is told of a request that could not be read, or answered, which repeats nothing of it."""
    if status != 400:
        return Refusal(Reason.INTERNAL, "Internal error", "Report the request id to the operator.")
    if isinstance(error, LineTooLong):
        return Refusal(Reason.HEADERS_TOO_LARGE, "The request line or a header is too large")
    if isinstance(error, BadHttpMessage) and error.message == TOO_MANY:
        return Refusal(Reason.HEADERS_TOO_LARGE, "The request has too many headers")
    return invalid_request("The request is not HTTP as RFC 9112 asks")

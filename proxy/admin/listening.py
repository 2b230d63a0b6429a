"""The server of the admin listener: aiohttp's for applications, with Farebox's own words for what is no request.

Left to itself it answers such a request with a page that repeats the bad line, and writes that line into the log. It
may be the one with an operator's token.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from policies.refusals import Refusal, expectation_failed
from proxy.errors import answer_to
from proxy.listening import refusal_of_unread
from proxy.services import Services
from store.ids import id_text

KEEPALIVE_S = 75
"""An idle connection, also one whose headers never end: aiohttp would keep it for an hour."""


class AdminRunner(web.AppRunner):
    """Runs the application of the admin listener."""

    __slots__ = ("_services",)

    def __init__(self, application: web.Application, services: Services) -> None:
        super().__init__(application, access_log=None, shutdown_timeout=1, keepalive_timeout=KEEPALIVE_S)
        self._services = services

    async def _make_server(self) -> web.Server:
        # What it has made ready stays; the server itself is another.
        await super()._make_server()
        make_request: Any = self.app._make_request
        return _Server(self._services, self._serve, request_factory=make_request, **self._kwargs)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        handle: Any = self.app._handle
        try:
            response: web.StreamResponse = await handle(request)
        except web.HTTPExpectationFailed:
            # It comes before the middlewares of the application, and would repeat the header.
            return _told(self._services, expectation_failed())
        return response


class _Server(web.Server):
    """Hands every connection to a handler that repeats nothing."""

    def __init__(self, services: Services, handle: Any, **options: Any) -> None:
        super().__init__(handle, loop=asyncio.get_running_loop(), **options)
        self._services = services

    def __call__(self) -> web.RequestHandler:
        return _Handler(self._services, self, loop=self._loop, **self._kwargs)


class _Handler(web.RequestHandler):
    """One connection."""

    __slots__ = ("_services",)

    def __init__(self, services: Services, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._services = services

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is not a request. The connection is closed."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is under way already; another one cannot follow it")
        return _told(self._services, refusal_of_unread(status, exc))


def _told(services: Services, refusal: Refusal) -> web.Response:
    request_id = id_text(services.store.ids.next())
    answer = answer_to(refusal, request_id, services.now())
    headers = {**dict(answer.headers), "X-Request-Id": request_id, "Server": "farebox"}
    response = web.Response(status=answer.status, body=answer.body, headers=headers)
    response.force_close()
    return response

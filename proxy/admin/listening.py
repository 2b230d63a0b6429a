"""The server of the admin listener: aiohttp's for applications, with Farebox's own words for what is no request.

Left to itself it answers such a request with a page that repeats the bad line, and writes that line into the log. It
may be the one with an operator's token.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from proxy.errors import answer_to
from proxy.listening import refusal_of_unread
from proxy.services import Services
from store.ids import id_text


class AdminRunner(web.AppRunner):
    """Runs the application of the admin listener."""

    __slots__ = ("_services",)

    def __init__(self, application: web.Application, services: Services) -> None:
        super().__init__(application, access_log=None, shutdown_timeout=1)
        self._services = services

    async def _make_server(self) -> web.Server:
        # What it has made ready stays; the server itself is another.
        await super()._make_server()
        handle: Any = self.app._handle
        make_request: Any = self.app._make_request
        return _Server(self._services, handle, request_factory=make_request, **self._kwargs)


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
        request_id = id_text(self._services.store.ids.next())
        answer = answer_to(refusal_of_unread(status, exc), request_id, self._services.now())
        headers = {**dict(answer.headers), "X-Request-Id": request_id, "Server": "farebox"}
        response = web.Response(status=answer.status, body=answer.body, headers=headers)
        response.force_close()
        return response

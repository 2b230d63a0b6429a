"""Operator verbs over HTTP: reading verbs by GET with a query, changing ones by POST with a JSON object."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

from aiohttp import web

from policies.refusals import Reason, Refusal, invalid_request
from policies.rulebook import Rulebook
from proxy.admin.door import Refused
from proxy.operations.operation import Desk, Operation
from proxy.operations.table import OPERATIONS
from proxy.probes import policy_status
from proxy.services import Services
from proxy.watching import reload


class AdminVerbs:
    """The handlers below /admin. Whoever comes here has shown the token."""

    def __init__(self, services: Services) -> None:
        self._services = services
        settings = services.settings
        self._desk = Desk(
            services.store,
            settings.values,
            self._rulebook,
            actor="admin",
            archive_folder=settings.archive_folder,
            policies=settings.policies_folder,
            compiling=services.reloading,
        )

    async def _rulebook(self) -> Rulebook:
        return self._services.rulebooks.current

    async def listed(self, request: web.Request) -> web.Response:
        """Every verb with its arguments, so that the API explains itself."""
        return web.json_response({"operations": [_listed(operation) for operation in OPERATIONS]})

    async def policy(self, request: web.Request) -> web.Response:
        return web.json_response(policy_status(self._services))

    async def reload_policy(self, request: web.Request) -> web.Response:
        """Put what is on disk in force now. Refused with the findings when it is invalid; then nothing has changed."""
        if await reload(self._services, by="admin", place=request.remote or ""):
            error, hint = "The policy on disk is invalid", "The last good one stays in force."
            raise Refused(Refusal(Reason.INVALID_REQUEST, error, hint, policy_status(self._services)))
        return web.json_response(policy_status(self._services))

    def handler(self, operation: Operation[Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            given = await _body(request) if operation.changes else _query(request)
            arguments = operation.read(given)
            if isinstance(arguments, Refusal):
                raise Refused(arguments)
            answer = await operation.perform(replace(self._desk, place=request.remote or ""), arguments)
            if isinstance(answer, Refusal):
                raise Refused(answer)
            return web.json_response(answer)

        return handle


def _listed(operation: Operation[Any]) -> dict[str, object]:
    return {
        "method": "POST" if operation.changes else "GET",
        "path": f"/admin/{operation.noun}/{operation.verb}",
        "does": operation.sentence,
        "arguments": operation.arguments.model_json_schema(),
    }


def _query(request: web.Request) -> Mapping[str, object]:
    """A name that stands several times in the query is a list."""
    query = request.query
    return {name: values if len(values := query.getall(name)) > 1 else values[0] for name in query}


async def _body(request: web.Request) -> Mapping[str, object]:
    if request.query:
        raise Refused(invalid_request("Arguments of a change belong into the body", "query"))
    text = await request.read()
    try:
        # Amounts stay exact: a float would round what was written.
        data = json.loads(text, parse_float=Decimal) if text.strip() else {}
    except (ValueError, RecursionError, InvalidOperation):
        # The last one for an exponent of more digits than any number needs.
        data = None
    if not isinstance(data, dict):
        raise Refused(invalid_request("Expected a JSON object", "body"))
    return data

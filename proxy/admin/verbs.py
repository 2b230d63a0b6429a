"""Operator verbs over HTTP: reading verbs by GET with a query, changing ones by POST with a JSON object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from config.roles import Role
from policies.refusals import Reason, Refusal, invalid_request
from policies.rulebook import Rulebook
from proxy import strict_json
from proxy.admin.door import OPERATOR, Refused
from proxy.identity.failures import Failures
from proxy.operations.authority import role_refusal
from proxy.operations.operation import Desk, Operation
from proxy.operations.table import OPERATIONS
from proxy.probes import policy_status
from proxy.services import Services
from proxy.watching import reload_node
from store import audit
from store.audit import Act, Outcome, Result

RELOAD = "policy reload"


class AdminVerbs:
    """The handlers below /admin. Whoever comes here has shown the token of an operator."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._refused = Failures(services.settings.values.admin.failures)
        """What operators were not allowed, by their names: each is in the audit log, which nobody is to fill so."""

    def _desk(self, request: web.Request) -> Desk:
        """For whoever has shown their token."""
        settings, operator = self._services.settings, request[OPERATOR]
        return Desk(
            self._services.store,
            settings.values,
            self._rulebook,
            actor=operator.name,
            role=operator.role,
            archive_folder=settings.archive_folder,
            policies=settings.policies_folder,
            place=request.remote or "",
            named=True,
            compiling=self._services.reloading,
        )

    async def _rulebook(self) -> Rulebook:
        return self._services.rulebooks.current

    async def listed(self, request: web.Request) -> web.Response:
        """Every verb with its arguments and its role, so that the API explains itself; and who asks."""
        operator = request[OPERATOR]
        listed = [_listed(operation, operator.role) for operation in OPERATIONS]
        return web.json_response({"operator": operator.name, "role": operator.role, "operations": listed})

    async def policy(self, request: web.Request) -> web.Response:
        return web.json_response(policy_status(self._services))

    async def reload_policy(self, request: web.Request) -> web.Response:
        """Put what is on disk in force now, here and in the workers of this node; told are those that do not say within
        seconds that they have it. Refused with the findings when it is invalid; then nothing has changed.
        """
        desk = self._desk(request)
        await self._allow(RELOAD, Role.OPERATOR, desk)
        reloaded = await reload_node(self._services, desk.actor, desk.place, str(desk.role))
        status = policy_status(self._services)
        if reloaded.findings:
            error, hint = "The policy on disk is invalid", "The last good one stays in force."
            raise Refused(Refusal(Reason.INVALID_REQUEST, error, hint, status))
        return web.json_response({**status, "workers": reloaded.workers, "behind": reloaded.behind})

    def handler(self, operation: Operation[Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            given = await _body(request) if operation.changes else _query(request)
            arguments = operation.read(given)
            desk = self._desk(request)
            if isinstance(arguments, Refusal):
                # Who may not do it at all learns that first.
                await self._allow(operation.name, operation.role, desk)
                raise Refused(arguments)
            self._hold_up(operation.name, operation.role, desk)
            answer = await operation.perform(desk, arguments)
            if isinstance(answer, Refusal):
                raise Refused(answer)
            return web.json_response(answer)

        return handle

    async def _allow(self, name: str, least: Role, desk: Desk) -> None:
        """For what is no operation: raises Refused, with its trace in the audit log, unless the role is enough."""
        self._hold_up(name, least, desk)
        refusal = role_refusal(name, least, desk)
        if refusal is not None:
            act = Act(desk.actor, desk.place, name, {}, str(desk.role))
            await desk.store.database.write(audit.note, act, Result(Outcome.REFUSED, refusal.error), desk.now())
            raise Refused(refusal)

    def _hold_up(self, name: str, least: Role, desk: Desk) -> None:
        """Raises Refused for an operator who asks again and again for what the role is not enough for."""
        if role_refusal(name, least, desk) is None:
            return
        now = desk.now()
        if self._refused.over_limit(desk.actor, now):
            raise Refused(self._refused.refusal(desk.actor, now))
        self._refused.count(desk.actor, now)


def _listed(operation: Operation[Any], role: Role) -> dict[str, object]:
    return {
        "method": "POST" if operation.changes else "GET",
        "path": f"/admin/{operation.noun}/{operation.verb}",
        "does": operation.sentence,
        "role": operation.role,
        "allowed": role.covers(operation.role),
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
        # Amounts stay exact, and what a gateway in front could read otherwise is not read at all.
        data = strict_json.parse(text) if text.strip() else {}
    except strict_json.Unreadable as error:
        raise Refused(invalid_request(f"Expected a JSON object: {error}", "body")) from None
    if not isinstance(data, dict):
        raise Refused(invalid_request("Expected a JSON object", "body"))
    if strict_json.has_repeated_key(data):
        raise Refused(invalid_request("Expected each argument once: a key is given twice", "body"))
    return data

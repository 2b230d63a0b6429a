"""Reading what the client sent: JSON bodies, the checks of their fields, and who is said to be calling.

Every app describes its body as a table of checks and refuses with `Refusal`, which the middleware in `app.py` turns
into `{"error": ...}`. Only the first level of a body is checked by a table; a nested object has a table of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from aiohttp import web

MAX_TEXT = 10_000
"""Characters in a text field that names no limit of its own: rows stay in memory, so they must stay small."""


class Refusal(Exception):
    """An answer other than success: a status, the value under `error`, and further keys beside it."""

    def __init__(self, status: int, error: object, **beside: object) -> None:
        super().__init__(f"{status} {error}")
        self.status = status
        self.error = error
        self.beside = beside

    def response(self) -> web.Response:
        """The refusal as the client sees it."""
        return web.json_response({**self.beside, "error": self.error}, status=self.status)


def owner_of(request: web.Request) -> str:
    """Whom the sidecar says is calling, to be echoed as `userId`; never used to decide anything."""
    return request.headers.get("X-Farebox-User") or request.headers.get("X-Farebox-Account") or "anonymous"


async def read_json(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object; raises Refusal(400) for anything else.

    NaN and Infinity are refused as well: Python reads them, but they are not JSON, and no JavaScript backend would.
    """
    try:
        body = json.loads(await request.read(), parse_constant=_not_json)
    except (ValueError, RecursionError):
        raise Refusal(400, "Malformed JSON in request body") from None
    if not isinstance(body, dict):
        raise Refusal(400, "Request body must be a JSON object")
    return body


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


Check = Callable[[object], str | None]
"""A check of one value: None when it is good, otherwise a sentence that says what was expected."""


@dataclass(frozen=True)
class Field:
    """One field of a body: its check, and whether it may be missing."""

    check: Check
    required: bool = True

    def problem(self, name: str, body: Mapping[str, Any]) -> str | None:
        """What is wrong with the field of that name in a body, or None."""
        if name in body:
            return self.check(body[name])
        return "Required" if self.required else None


Table = Mapping[str, Field]


def optional(check: Check) -> Field:
    """A field that may be missing."""
    return Field(check, required=False)


def text(least: int = 0, most: int = MAX_TEXT) -> Check:
    """A string of `least` to `most` characters."""

    def check(value: object) -> str | None:
        if not isinstance(value, str):
            return "Expected string"
        if len(value) < least:
            return f"String must contain at least {least} character(s)"
        return f"String must contain at most {most} character(s)" if len(value) > most else None

    return check


def number(least: float, most: float, whole: bool = False) -> Check:
    """A number from `least` to `most`; `true` is not a number."""

    def check(value: object) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "Expected number"
        if not least <= value <= most:
            return f"Number must be between {least} and {most}"
        return "Expected integer" if whole and value != int(value) else None

    return check


def one_of(*choices: str | int) -> Check:
    """One of the given strings or integers."""

    def check(value: object) -> str | None:
        known = not isinstance(value, bool) and value in choices
        return None if known else f"Expected one of {', '.join(map(str, choices))}"

    return check


def flag(value: object) -> str | None:
    """A JSON boolean."""
    return None if isinstance(value, bool) else "Expected boolean"


def record(value: object) -> str | None:
    """A JSON object."""
    return None if isinstance(value, dict) else "Expected object"


def issues(body: Mapping[str, Any], table: Table) -> list[dict[str, Any]]:
    """Everything that is wrong with a body, as a list of `{"path": [field], "message": sentence}`."""
    found = []
    for name, spec in table.items():
        message = spec.problem(name, body)
        if message is not None:
            found.append({"path": [name], "message": message})
    return found


def require(body: Mapping[str, Any], table: Table, status: int = 400) -> None:
    """Refuse a bad body the way most of the apps do: the list of issues, as JSON, inside the error text."""
    found = issues(body, table)
    if found:
        raise Refusal(status, json.dumps(found))

"""Reading what a client sent into checked values, strictly: what could be read in two ways is refused.

A body is JSON in UTF-8 whose objects have no key twice (RFC 8259 §4 leaves open which one counts), with exact
numbers. Every refusal names the field. Nothing here knows aiohttp.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from config.findings import did_you_mean
from policies.refusals import Reason, Refusal, invalid_request
from proxy.management.shapes import Body, Query

MAX_BODY = 64 * 2**10
"""Bytes: the longest body that has a meaning is a hundred times shorter."""

MAX_PARAMETERS = 100
"""Of a query; clients add some of their own, such as cache busters."""

_MAX_CURSOR_DIGITS = 18
"""Digits of a number that fits into 64 bits."""

_MAX_SHOWN = 100
"""Characters of a field's name that are repeated to the client that sent it."""

AnyQuery = TypeVar("AnyQuery", bound=Query)
AnyBody = TypeVar("AnyBody", bound=Body)


class _Unreadable(ValueError):
    """Not the JSON that we read; the message says why."""


def read_query(query: str, kind: type[AnyQuery]) -> AnyQuery | Refusal:
    """The parameters that `kind` knows. One that is given twice, or has a value of the wrong kind, is refused."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict")
    except ValueError:
        return invalid_request("The query is malformed, or has too many parameters")
    given: dict[str, str] = {}
    for name, value in pairs:
        if name not in _names(kind):
            continue
        if name in given:
            return invalid_request(f"{name} is given twice", name)
        given[name] = value
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        return _invalid(error, kind)


def read_body(raw: bytes, kind: type[AnyBody], optional: bool) -> AnyBody | Refusal:
    """The body as a `kind`. An empty one means no fields, where the body is optional."""
    if not raw and not optional:
        return invalid_request("The request body is missing", hint=_expected(kind))
    try:
        return kind.model_validate(_parsed(raw) if raw else {})
    except _Unreadable as error:
        return invalid_request(f"The request body cannot be read: {error}", hint=_expected(kind))
    except ValidationError as error:
        return _invalid(error, kind)


def counted(cursor: str | None) -> int | Refusal | None:
    """The number after which a page goes on, where rows are numbered; None starts with the newest."""
    if cursor is None:
        return None
    if cursor.isascii() and cursor.isdigit() and len(cursor) <= _MAX_CURSOR_DIGITS:
        return int(cursor)
    return invalid_request("cursor: expected the nextCursor of an earlier page", "cursor")


def too_large() -> Refusal:
    hint = f"Bodies of the management API have at most {MAX_BODY} bytes."
    return Refusal(Reason.TOO_LARGE, "Request body is too large", hint)


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode(), object_pairs_hook=_object, parse_constant=_constant, parse_float=Decimal)
    except UnicodeDecodeError:
        raise _Unreadable("it is not UTF-8") from None
    except RecursionError:
        raise _Unreadable("it is nested too deeply") from None
    except InvalidOperation:
        raise _Unreadable("a number has an exponent beyond all bounds") from None
    except _Unreadable:
        raise
    except ValueError as error:
        raise _Unreadable(f"it is not JSON: {str(error)[:_MAX_SHOWN]}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _Unreadable("an object has a key twice")
    for key, value in pairs:
        # Half of a surrogate pair is legal JSON (RFC 8259 §8.2) and no text: it could be neither stored nor answered.
        if not _is_text(key) or (isinstance(value, str) and not _is_text(value)):
            raise _Unreadable("a text has half of a surrogate pair")
    return result


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _constant(name: str) -> NoReturn:
    raise _Unreadable(f"{name} is not JSON")


def _invalid(error: ValidationError, kind: type[BaseModel]) -> Refusal:
    """The first thing that is wrong: a client corrects one field at a time."""
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"] if part != "[key]")[:_MAX_SHOWN]
    return invalid_request(_sentence(first, name, kind), name or None, _expected(kind))


def _sentence(error: ErrorDetails, name: str, kind: type[BaseModel]) -> str:
    match error["type"]:
        case "missing":
            return f"{name} is missing"
        case "extra_forbidden":
            return f"{name} is not a field of this request{did_you_mean(name, _names(kind))}"
        case "model_type" | "model_attributes_type":
            return "The request body is not a JSON object"
        case "value_error":
            return f"{name}: {error['ctx']['error']}"
    return f"{name}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _names(kind: type[BaseModel]) -> Mapping[str, bool]:
    """The fields as clients write them, and whether each has to be there."""
    return {field.alias or name: field.is_required() for name, field in kind.model_fields.items()}


def _expected(kind: type[BaseModel]) -> str | None:
    if not issubclass(kind, Body):
        return None
    names = _names(kind).items()
    fields = ", ".join(name if required else f"{name} (optional)" for name, required in names)
    return f"Send a JSON object with {fields}."

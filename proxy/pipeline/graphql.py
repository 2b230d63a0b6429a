"""GraphQL over HTTP: the calls that a request makes, from whichever of its forms. Pure.

A POST of JSON with one request or an array of them, a POST of `application/graphql`, or a GET. In each, exactly one
place says what is to be run, and it says it in full: a persisted query, of which only a name or a hash is sent, is
refused, since what the backend has stored under it is not known here.

Used by `proxy.pipeline.extraction`. What a document means is in `proxy.pipeline.graphql_document`, which is imported
when a route first asks for it: the library takes a tenth of a second and some 15 MiB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from policies.refusals import invalid_request
from proxy import strict_json
from proxy.pipeline.parts import NotOneMeaning, RequestParts, field_of, fields_of, media_type_of
from proxy.strict_json import Unreadable

if TYPE_CHECKING:
    from proxy.pipeline.graphql_document import Call, Operation

MAX_BATCH = 50
"""Requests in one array: clients gather what a page asks for within some milliseconds."""

KEYS = ("query", "operationName", "variables", "extensions")
"""Of a request (GraphQL over HTTP, §4.1). Any other might name another document."""

NAMES = (*KEYS, "id", "hash", "queryId", "documentId", "docId")
"""Fields of a URL that servers take in place of those of the body, or as the name of a document."""


class _Asked(NamedTuple):
    """One request, as it was sent."""

    text: Any
    name: Any = None
    variables: Any = None
    extensions: Any = None
    only_reads: bool = False


def load_library() -> None:
    """At the start, where a route is a GraphQL endpoint, so that no request waits for it."""
    import_module("proxy.pipeline.graphql_document")


def calls_in(parts: RequestParts) -> list[Call]:
    """All calls of a request, in their order: at least one. Raises Unreadable or NotOneMeaning."""
    if "graphql" not in parts.parsed:
        calls = _calls(_requests(parts))
        if not calls:
            hint = "Introspection alone is not served on this route."
            raise NotOneMeaning(invalid_request("The GraphQL request calls nothing that has a price", "query", hint))
        parts.parsed["graphql"] = calls
    found: list[Call] = parts.parsed["graphql"]
    return found


def _calls(requests: Iterable[_Asked]) -> list[Call]:
    from proxy.pipeline.graphql_document import MAX_SELECTIONS, MAX_TOGETHER, calls_of

    calls: list[Call] = []
    tokens = 0
    for asked in requests:
        operation = _operation(asked)
        tokens += operation.tokens
        calls += calls_of(operation, _object(asked.variables, "variables"))
        if tokens > MAX_TOGETHER or len(calls) > MAX_SELECTIONS:
            raise Unreadable(
                f"GraphQL requests have more than {MAX_TOGETHER} tokens or {MAX_SELECTIONS} calls together"
            )
    return calls


def _operation(asked: _Asked) -> Operation:
    from proxy.pipeline.graphql_document import operation_of

    if not isinstance(asked.text, str) or not asked.text:
        hint = "Send the text of the query: what a hash or a name stands for is not known here."
        raise NotOneMeaning(invalid_request("The GraphQL request has no query text", "query", hint))
    if not isinstance(asked.name, str | None):
        raise Unreadable("`operationName` is not a text")
    _check_hash(asked)
    operation = operation_of(asked.text, asked.name)
    if asked.only_reads and not operation.is_query:
        raise Unreadable("only a query can be sent with GET")
    return operation


def _check_hash(asked: _Asked) -> None:
    """A hash beside a text is that of the text: some servers look for the hash first, and run what they find."""
    persisted = strict_json.find(_object(asked.extensions, "extensions"), ("persistedQuery",))
    if persisted is None:
        return
    found = strict_json.find(persisted, ("sha256Hash",))
    if found != hashlib.sha256(asked.text.encode("utf-8", "surrogatepass")).hexdigest():
        raise Unreadable("the hash of the persisted query is not that of the query text")


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict | None) or strict_json.has_repeated_key(value):
        raise Unreadable(f"`{name}` is not an object, or has a key twice")
    return value or {}


def _requests(parts: RequestParts) -> Iterator[_Asked]:
    if parts.method in ("GET", "HEAD"):
        yield _asked_by_get(parts)
        return
    for name in NAMES:
        if field_of(parts, "query", parts.query, name):
            raise Unreadable(f"{name} stands in the URL of a GraphQL request that is not a GET")
    if media_type_of(parts, "application/json", "application/graphql") == "application/graphql":
        yield _Asked(_text(parts.body))
        return
    document = strict_json.parse(parts.body)
    if not isinstance(document, list):
        yield _asked_in(document)
        return
    if len(document) > MAX_BATCH:
        raise Unreadable(f"more than {MAX_BATCH} GraphQL requests were sent at once")
    yield from map(_asked_in, document)


def _asked_by_get(parts: RequestParts) -> _Asked:
    if parts.body:
        raise Unreadable("a GraphQL request that is a GET has no body")
    found = {name: field_of(parts, "query", parts.query, name) for name in KEYS}
    if fields_of(parts, "query", parts.query) - set(KEYS):
        raise Unreadable(f"a GraphQL request that is a GET has only {', '.join(KEYS)}")
    if any(len(values) > 1 for values in found.values()):
        raise Unreadable("a field of the GraphQL request is given twice")
    text, name, variables, extensions = (values[0] if values else None for values in found.values())
    return _Asked(text, name, _parsed(variables), _parsed(extensions), only_reads=True)


def _parsed(text: str | None) -> Any:
    return None if text is None else strict_json.parse(text.encode())


def _asked_in(document: Any) -> _Asked:
    if not isinstance(document, dict) or set(document) - set(KEYS):
        raise Unreadable(f"a GraphQL request is an object with {', '.join(KEYS)}, and nothing else")
    return _Asked(*(strict_json.find(document, (name,)) for name in KEYS))


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable("the body is not UTF-8") from None

"""The OpenAPI 3.1 document of the management API, made from the table of endpoints and the shapes it names.

It describes what is served under these settings: their mount, and only the endpoints that are left on.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, RootModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from config.settings import Management as Settings
from policies.refusals import Reason, Refusal
from policies.terms import Scope
from proxy.errors import STATUS
from proxy.management.endpoint import ApiRequest, Endpoint
from proxy.management.examples import EXAMPLES
from proxy.services import Services

Json = dict[str, Any]

DOCUMENT = "/openapi.json"

_MEANINGS = {
    Reason.INVALID_REQUEST: "The request is malformed; `field` names the part that is.",
    Reason.UNAUTHORIZED: "No credential, or one that is not valid.",
    Reason.FORBIDDEN: "The API key is not for this, or a page of another site asks for it.",
    Reason.RATE_LIMITED: "Too many credentials from this address have failed.",
    Reason.ACCOUNT_FROZEN: "The account is frozen; it may look and not change.",
    Reason.MODEL_DENIED: "There is no such model.",
    Reason.NOT_FOUND: "There is no such plan, or no subscription to change.",
    Reason.CONFLICT: "The state of the subscription does not allow it.",
    Reason.TOO_LARGE: "The request body is too large.",
    Reason.STORE_UNAVAILABLE: "The store cannot answer; nothing has changed.",
}

_ANY_CALLER = (Reason.FORBIDDEN, Reason.RATE_LIMITED, Reason.IDENTITY_UNAVAILABLE)
"""For what else a caller may be refused anywhere: further codes of a status that is described already."""

_HEADERS = {
    "X-Request-Id": {"description": "Names the request in logs.", "schema": {"type": "string"}},
    "WWW-Authenticate": {"description": "RFC 9110, 11.6.1.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}},
}
_HEADERS_OF = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}

_ERROR_FIELDS: Json = {
    "code": {"type": "string", "enum": [str(reason) for reason in Reason]},
    "request_id": {"type": "string"},
    "hint": {"type": "string", "description": "What would change it."},
    "field": {"type": "string", "description": "The field, parameter or header that is wrong."},
    "scope": {"type": "string", "description": "What the API key lacks.", "enum": [str(scope) for scope in Scope]},
    "reason": {"type": "string"},
    "expected": {"type": "integer", "description": "The amount that was expected, in minor units."},
    "amount": {"type": "integer", "description": "The amount that would be due."},
    "currency": {"type": "string"},
    "message": {"type": "string"},
    "retryAfter": {"type": "integer", "description": "Seconds."},
    "modelKey": {"type": "string"},
    "rule": {"type": ["string", "null"]},
}


class OpenApiDocument(RootModel[Json]):
    """An OpenAPI 3.1 document."""


def described(endpoints: Sequence[Endpoint], settings: Settings) -> tuple[Endpoint, ...]:
    """The endpoints, and one more that answers with the description of them all and of itself."""

    @cache
    def content() -> Json:
        # When somebody asks for the first time: every start would wait for it, and few processes are ever asked.
        return document((*endpoints, itself), settings)

    async def answer(services: Services, request: ApiRequest) -> OpenApiDocument | Refusal:
        return OpenApiDocument(await asyncio.to_thread(content))

    itself = Endpoint("GET", DOCUMENT, answer, "This document", OpenApiDocument, public=True, enveloped=False)
    return (*endpoints, itself)


def document(endpoints: Sequence[Endpoint], settings: Settings) -> Json:
    """The description of `endpoints`."""
    paths: defaultdict[str, Json] = defaultdict(dict)
    for endpoint in endpoints:
        paths[endpoint.path][endpoint.method.lower()] = _operation(endpoint, settings)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Farebox management API",
            "version": version("farebox"),
            "description": "What a customer may see and do: plans, subscription, quota, credits, models and usage.",
        },
        "servers": [{"url": settings.mount or "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(_tag(endpoint) for endpoint in endpoints)],
        "paths": dict(paths),
        "components": {
            "schemas": _schemas(endpoints),
            "responses": {str(reason): _failure(reason) for reason in _MEANINGS},
            "headers": _HEADERS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A JSON Web Token, or an API key."},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            },
        },
    }


class _Untitled(GenerateJsonSchema):
    """Without a title for every field that repeats its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _schemas(endpoints: Iterable[Endpoint]) -> Json:
    kinds: set[tuple[type[BaseModel], JsonSchemaMode]] = set()
    for endpoint in endpoints:
        kinds.add((endpoint.response, "serialization"))
        if endpoint.body is not None:
            kinds.add((endpoint.body, "validation"))
    inputs = sorted(kinds, key=lambda kind: kind[0].__name__)
    _, schemas = models_json_schema(inputs, ref_template="#/components/schemas/{model}", schema_generator=_Untitled)
    return {
        **schemas["$defs"],
        "Error": _error("error"),
        "EnvelopedError": _enveloped(False, "error", _error("message")),
    }


def _error(sentence: str) -> Json:
    """`sentence` is the key under which the error is told to people."""
    properties = {sentence: {"type": "string"}, **_ERROR_FIELDS}
    required = [sentence, "code", "request_id"]
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


def _enveloped(success: bool, key: str, content: Json) -> Json:
    return {
        "type": "object",
        "required": ["success", key],
        "properties": {"success": {"const": success}, key: content},
        "additionalProperties": False,
    }


def _operation(endpoint: Endpoint, settings: Settings) -> Json:
    operation: Json = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.summary,
        "tags": [_tag(endpoint)],
        "security": [] if endpoint.public else [{"bearer": []}, {"apiKey": []}],
        "parameters": [*_path_parameters(endpoint), *_query_parameters(endpoint, settings)],
        "responses": {str(endpoint.status): _success(endpoint), **_failures(endpoint)},
    }
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": not endpoint.body_optional,
            "content": _content(_reference(endpoint.body.__name__), EXAMPLES[endpoint.body.__name__]),
        }
    return operation


def _operation_id(endpoint: Endpoint) -> str:
    words = re.findall(r"[A-Za-z]+", endpoint.path)
    return endpoint.method.lower() + "".join(word[0].upper() + word[1:] for word in words)


def _tag(endpoint: Endpoint) -> str:
    return endpoint.segments[0].partition(".")[0]


def _path_parameters(endpoint: Endpoint) -> list[Json]:
    names = [segment[1:-1] for segment in endpoint.segments if segment.startswith("{")]
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(endpoint: Endpoint, settings: Settings) -> list[Json]:
    found: list[Json] = []
    properties = endpoint.query.model_json_schema(mode="validation", schema_generator=_Untitled)["properties"]
    for name, schema in properties.items():
        if name == "envelope" and not endpoint.enveloped:
            continue
        # A parameter that may be absent is null in Python; a URL has no way to say null.
        kinds = [kind for kind in schema.pop("anyOf", ()) if kind != {"type": "null"}]
        schema = {**schema, **kinds[0]} if kinds else schema
        if name == "envelope":
            schema["default"] = "1" if settings.envelope else "0"
        elif schema.get("default", "") is None:
            del schema["default"]
        description = schema.pop("description", "")
        found.append({"name": name, "in": "query", "required": False, "description": description, "schema": schema})
    return found


def _success(endpoint: Endpoint) -> Json:
    shape = _reference(endpoint.response.__name__)
    schema = {"oneOf": [shape, _enveloped(True, "data", shape)]} if endpoint.enveloped else shape
    example = EXAMPLES.get(endpoint.response.__name__)
    return {"description": endpoint.summary, "headers": _headers(endpoint.status), "content": _content(schema, example)}


def _failures(endpoint: Endpoint) -> Json:
    return {str(STATUS[reason]): {"$ref": f"#/components/responses/{reason}"} for reason in reasons(endpoint)}


def reasons(endpoint: Endpoint) -> Iterable[Reason]:
    """Everything for which a request to the endpoint can be refused; each has a status of its own."""
    yield Reason.INVALID_REQUEST
    if not endpoint.public:
        yield Reason.UNAUTHORIZED
        described = {STATUS[reason] for reason in (*endpoint.refusals, Reason.STORE_UNAVAILABLE)}
        yield from (reason for reason in _ANY_CALLER if STATUS[reason] not in described)
    yield from endpoint.refusals
    if endpoint.body is not None:
        yield Reason.TOO_LARGE
    yield Reason.STORE_UNAVAILABLE


def _failure(reason: Reason) -> Json:
    also = [other for other in _ANY_CALLER if STATUS[other] == STATUS[reason] and other is not reason]
    coded = {"properties": {"code": {"enum": [str(reason), *map(str, also)]}}}
    plain = {"allOf": [_reference("Error"), coded]}
    enveloped = {"allOf": [_reference("EnvelopedError"), {"properties": {"error": coded}}]}
    meaning, status = _MEANINGS[reason], STATUS[reason]
    example = {"error": meaning, "code": str(reason), "request_id": "0E5XK2M9S4Q7T"}
    content = _content({"oneOf": [plain, enveloped]}, example)
    return {"description": meaning, "headers": _headers(status), "content": content}


def _headers(status: int) -> Json:
    names = ["X-Request-Id", *([_HEADERS_OF[status]] if status in _HEADERS_OF else [])]
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _content(schema: Json, example: object) -> Json:
    return {"application/json": {"schema": schema} | ({"example": example} if example is not None else {})}


def _reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}

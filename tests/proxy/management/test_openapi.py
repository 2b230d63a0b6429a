"""The OpenAPI document: complete, consistent, and true of every answer.

That it is true of answers is asserted by every other test here: `Service.ask` validates what it receives.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from config.settings import Management as Settings
from proxy.errors import STATUS
from proxy.management.endpoints import served
from proxy.management.examples import EXAMPLES
from proxy.management.openapi import document, reasons
from tests.proxy.management.service import Service, look_up, operation, resolve

ENDPOINTS = served(Settings())
DOCUMENT = document(ENDPOINTS, Settings())


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for key, value in node.items():
            if key not in ("example", "examples"):
                yield from _nodes(value)
    elif isinstance(node, list):
        for value in node:
            yield from _nodes(value)


def test_the_document_has_the_shape_of_openapi_3_1() -> None:
    """The fields that the specification requires, and none at the top that it does not know."""
    assert DOCUMENT["openapi"] == "3.1.0"
    assert set(DOCUMENT["info"]) >= {"title", "version"}
    assert set(DOCUMENT) == {"openapi", "info", "servers", "tags", "paths", "components"}
    assert set(DOCUMENT["components"]) == {"schemas", "responses", "headers", "securitySchemes"}
    for path, item in DOCUMENT["paths"].items():
        assert path.startswith("/")
        for method, described in item.items():
            assert method in ("get", "post")
            assert set(described) - {"requestBody"} == {
                "operationId", "summary", "tags", "security", "parameters", "responses"
            }  # fmt: skip


def test_every_reference_leads_somewhere() -> None:
    """And every schema and response is referred to."""
    references = {node["$ref"] for node in _nodes(DOCUMENT) if "$ref" in node}
    for reference in references:
        look_up(DOCUMENT, reference)
    for kind in ("schemas", "responses", "headers"):
        assert {f"#/components/{kind}/{name}" for name in DOCUMENT["components"][kind]} <= references, kind


def test_every_schema_is_json_schema() -> None:
    """By the meta-schema of draft 2020-12, which OpenAPI 3.1 uses."""
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for node in _nodes(DOCUMENT["paths"]):
        if "schema" in node:
            Draft202012Validator.check_schema(node["schema"])


def test_every_endpoint_is_described() -> None:
    """Exactly what is served, under ids of its own."""
    described = {f"{method.upper()} {path}" for path, item in DOCUMENT["paths"].items() for method in item}
    assert described == {endpoint.name for endpoint in ENDPOINTS}
    ids = [node["operationId"] for node in _nodes(DOCUMENT["paths"]) if "operationId" in node]
    assert len(ids) == len(set(ids))
    assert {tag["name"] for tag in DOCUMENT["tags"]} == {
        tag for node in _nodes(DOCUMENT["paths"]) if "operationId" in node for tag in node["tags"]
    }


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_an_operation_tells_all_of_its_endpoint(endpoint: Any) -> None:
    """Parameters, body, credentials, and an answer for every reason to refuse."""
    described = operation(DOCUMENT, endpoint.method, endpoint.path)
    assert described["summary"]
    assert (described["security"] == []) == endpoint.public
    in_path = {parameter["name"] for parameter in described["parameters"] if parameter["in"] == "path"}
    assert in_path == {segment[1:-1] for segment in endpoint.segments if segment.startswith("{")}
    assert all(parameter["required"] for parameter in described["parameters"] if parameter["in"] == "path")
    in_query = {parameter["name"] for parameter in described["parameters"] if parameter["in"] == "query"}
    assert ("envelope" in in_query) == endpoint.enveloped
    assert ("requestBody" in described) == (endpoint.body is not None)
    if endpoint.body is not None:
        assert described["requestBody"]["required"] is not endpoint.body_optional
    statuses = {str(endpoint.status), *(str(STATUS[reason]) for reason in reasons(endpoint))}
    assert set(described["responses"]) == statuses
    assert ("401" in statuses) is not endpoint.public
    assert ("413" in statuses) is (endpoint.body is not None)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_every_example_is_valid(endpoint: Any) -> None:
    """Of bodies, of answers and of refusals; and everything but the document has one."""
    described = operation(DOCUMENT, endpoint.method, endpoint.path)
    contents = [resolve(DOCUMENT, answer)["content"] for answer in described["responses"].values()]
    if "requestBody" in described:
        contents.append(described["requestBody"]["content"])
    for content in contents:
        media = content["application/json"]
        if endpoint.enveloped:
            schema = media["schema"] | {"components": DOCUMENT["components"]}
            Draft202012Validator(schema).validate(media["example"])


def test_no_example_is_left_over() -> None:
    """Each belongs to a body or an answer of an endpoint."""
    used = {endpoint.response.__name__ for endpoint in ENDPOINTS}
    used |= {endpoint.body.__name__ for endpoint in ENDPOINTS if endpoint.body is not None}
    assert set(EXAMPLES) == used - {"OpenApiDocument"}


def test_the_judge_can_find_fault() -> None:
    """An answer with a field too many, too few, or of another kind is not valid."""
    schema = {"$ref": "#/components/schemas/QuotaCheck", "components": DOCUMENT["components"]}
    judge, good = Draft202012Validator(schema), EXAMPLES["QuotaCheck"]
    assert judge.is_valid(good)
    assert not judge.is_valid(good | {"more": 1})
    assert not judge.is_valid({"available": True})
    assert not judge.is_valid(good | {"remaining": "97"})


async def test_the_document_is_served_to_anyone(service: Service) -> None:
    """As it is made from the settings in force."""
    assert await service.get("/openapi.json", user=None) == document(served(Settings()), Settings())

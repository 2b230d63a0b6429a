"""Files checked against a pydantic model, with every error placed on its line.

Used for settings, policies and seeds alike. An unknown key comes with the nearest known one; a value of the wrong
type with what was found and what was expected.
"""

from __future__ import annotations

import copy
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from config.findings import Finding, InvalidDocument, did_you_mean
from config.masking import is_secret, mask_urls
from config.yaml_source import PathKey, YamlSource, parse_yaml, read_yaml

Document = TypeVar("Document", bound=BaseModel)

_EXPECTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "is_instance_of": "a number",
    "decimal_type": "a number",
}

_CODES = {"extra_forbidden": "unknown-key", "missing": "missing-key", "invalid-key": "invalid-key"}

_UNION_TAGS = ("mapping", "names")
"""Parts of a pydantic location that name the branch of a union, where the branch is not a model."""


def read_document(
    path: Path, model: type[Document], environment: Mapping[str, str] | None = None
) -> tuple[Document, YamlSource]:
    """The validated content of a YAML file. Raises InvalidDocument with everything that is wrong with it."""
    return validate(read_yaml(path, environment), model)


def parse_document(file: str, text: str, model: type[Document]) -> tuple[Document, YamlSource]:
    """Like `read_document`, for a text that is at hand."""
    return validate(parse_yaml(file, text), model)


def validate(source: YamlSource, model: type[Document]) -> tuple[Document, YamlSource]:
    """The data of `source` as a `model`. Raises InvalidDocument with all findings, in the order of the file."""
    findings = list(source.findings)
    document: Document | None = None
    try:
        document = model.model_validate(source.data)
    except ValidationError as error:
        # Where reading the text has failed already, what became of it is no second finding.
        known = {(finding.line, finding.column) for finding in source.findings}
        errors = error.errors(include_url=False)
        located = _located(source, model, errors)
        findings += [finding for finding in located if (finding.line, finding.column) not in known]
        rest = _rest(source, model, errors)
    else:
        rest = document
    if findings or document is None:
        left = None if rest is None else (rest, source)
        raise InvalidDocument(sorted(findings, key=lambda finding: (finding.line, finding.column)), left)
    return document, source


def _rest(source: YamlSource, model: type[Document], errors: Sequence[ErrorDetails]) -> Document | None:
    """The document without the keys that there are not, which may be all that is wrong with it."""
    data = copy.deepcopy(source.data)
    for error in errors:
        *parents, key = _existing(data, error["loc"]) or ("",)
        if error["type"] != "extra_forbidden" or key != error["loc"][-1]:
            return None
        del _value_at(data, tuple(parents))[key]  # type: ignore[attr-defined]
    try:
        return model.model_validate(data)
    except ValidationError:
        return None


def _located(source: YamlSource, model: type[BaseModel], errors: Iterable[ErrorDetails]) -> Iterable[Finding]:
    """One finding for each place: the alternatives of a union fail together and are told together."""
    places: dict[tuple[PathKey, str], list[str]] = {}
    for error in errors:
        path = _existing(source.data, error["loc"])
        kind = "invalid-key" if error["loc"][-1:] == ("[key]",) else error["type"]
        code = _CODES.get(kind, "invalid-value")
        messages = places.setdefault((path, code), [])
        for message in _messages(error, path, model):
            if message not in messages:
                messages.append(message)
    for (path, code), messages in places.items():
        at_key = code in ("unknown-key", "invalid-key")
        yield source.finding(path, code, _found(source, path, code) + " or ".join(messages), at_key)


def _found(source: YamlSource, path: PathKey, code: str) -> str:
    """What stands at a place, as the beginning of a message about it. Secrets are not repeated."""
    if code == "invalid-key":
        return f"found the key {_shown(path[-1])}; "
    if code != "invalid-value" or any(is_secret(str(part)) for part in path):
        return ""
    return f"found {_shown(_value_at(source.data, path))}; "


def _messages(error: ErrorDetails, path: PathKey, model: type[BaseModel]) -> Iterable[str]:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        yield f"unknown key {path[-1]!r}" + did_you_mean(str(path[-1]), _keys_at(model, error["loc"][:-1]))
    elif kind == "missing":
        yield f"the key {error['loc'][-1]!r} is missing"
    elif kind in ("literal_error", "enum"):
        yield f"expected {context['expected']}"
    elif kind == "value_error":
        yield str(context["error"])
    elif kind in _EXPECTED:
        yield f"expected {_EXPECTED[kind]}"
    else:
        yield error["msg"][0].lower() + error["msg"][1:]


def _existing(data: object, location: tuple[str | int, ...]) -> PathKey:
    """The part of a pydantic location that exists in the data: names of union members are left out."""
    path: list[str | int] = []
    for part in location:
        if (isinstance(data, dict) and part in data) or (isinstance(data, list) and isinstance(part, int)):
            data = data[part]  # type: ignore[index]
            path.append(part)
    return tuple(path)


def _value_at(data: Any, path: PathKey) -> object:
    for part in path:
        data = data[part]
    return data


def _shown(value: object) -> str:
    """A value as its writer would recognise it. Booleans are where YAML 1.1 surprises most."""
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()} (YAML reads yes, no, on and off so; quote it to mean the word)"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = "nothing" if value is None else repr(mask_urls(value)) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _keys_at(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """The keys that the model accepts at a location, through lists, mappings and unions."""
    reached: list[Any] = [model]
    for part in location:
        if part in _UNION_TAGS:
            continue
        narrowed = [kind for kind in reached if getattr(kind, "__name__", None) == part]
        reached = narrowed or [inner for kind in reached for inner in _descend(kind, part)]
    return [key for kind in reached for key in _keys(kind)]


def _keys(kind: Any) -> list[str]:
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return []
    return [info.alias or name for name, info in kind.model_fields.items()]


def _descend(kind: Any, part: str | int) -> list[Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = {info.alias or name: info.annotation for name, info in kind.model_fields.items()}
        return _flattened(fields[str(part)]) if str(part) in fields else []
    return [inner for argument in typing.get_args(kind)[-1:] for inner in _flattened(argument)]


def _flattened(annotation: Any) -> list[Any]:
    """The alternatives of a union, without their annotations."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _flattened(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [inner for argument in typing.get_args(annotation) for inner in _flattened(argument)]
    return [annotation]

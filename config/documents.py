"""Files checked against a pydantic model, with every error placed on its line.

Used for settings, policies and seeds alike. An unknown key comes with the nearest known one; a value of the wrong
type with what was found and what was expected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from config.findings import Finding, InvalidDocument, did_you_mean
from config.masking import is_secret, mask_urls
from config.mending import Mended, Mender
from config.model_walk import existing, keys_at, value_at
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

MAX_ROUNDS = 20
"""Looks at a document, each of which sees what the mistakes before it hid: four times the depth of the deepest."""


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
    try:
        document = model.model_validate(source.data)
    except ValidationError as error:
        # Where reading the text has failed already, what became of it is no second finding.
        known = {(finding.line, finding.column) for finding in source.findings}
        located = _located(source, model, error.errors(include_url=False))
        findings += [finding for finding in located if (finding.line, finding.column) not in known]
    if not findings:
        return document, source
    mended, hidden = _mended(source, model)
    raise InvalidDocument(sorted({*findings, *hidden}, key=lambda finding: (finding.line, finding.column)), mended)


def _mended(source: YamlSource, model: type[Document]) -> tuple[Mended[Document] | None, list[Finding]]:
    """What is left of a document with mistakes, if anything, and mistakes that are seen only when others are gone."""
    mender, found = Mender(source, model), list[Finding]()
    for _ in range(MAX_ROUNDS):
        try:
            return Mended(model.model_validate(mender.data), source, mender.unsure), found
        except ValidationError as error:
            errors = error.errors(include_url=False)
        found += _located(source, model, [error for error in errors if not mender.is_about_stand_ins(error)])
        if not mender.mend(errors):
            break
    return None, found


def _located(source: YamlSource, model: type[BaseModel], errors: Iterable[ErrorDetails]) -> Iterable[Finding]:
    """One finding for each place: the alternatives of a union fail together and are told together."""
    places: dict[tuple[PathKey, str], list[str]] = {}
    for error in errors:
        path = existing(source.data, error["loc"])
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
    value = value_at(source.data, path)
    # Before it is cut: half a secret would not be recognised any more.
    return f"found {_shown(source.named(value) if isinstance(value, str) else value)}; "


def _messages(error: ErrorDetails, path: PathKey, model: type[BaseModel]) -> Iterable[str]:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        yield f"unknown key {_shown(path[-1])}" + did_you_mean(str(path[-1]), keys_at(model, error["loc"][:-1]))
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

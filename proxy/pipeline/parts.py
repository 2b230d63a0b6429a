"""The readable parts of a request, as its backend will see them: query, headers, and a body of one kind. Pure.

Everything is read in the one way that the backend will read it, or the request is refused with 400: a field that is
given twice or in another spelling, a body that is not what its content type says. Used by `proxy.pipeline.extraction`,
which knows what is wanted of them, and by `proxy.pipeline.graphql`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any
from urllib.parse import parse_qsl

from policies.refusals import Refusal, invalid_request
from policies.values import value
from proxy import strict_json
from proxy.headers import HeaderList, folded
from proxy.strict_json import Unreadable

MAX_FIELDS = 1000
"""Fields of a query or form: far above real ones, far below what makes parsing expensive."""

_CHARSET = re.compile(r"charset\s*=\s*\"?([^\s;\"]*)", re.IGNORECASE)


class NotOneMeaning(Exception):
    """A part of a request that is wrong or could be read in two ways; `refusal` is what its client is told."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.error)
        self.refusal = refusal


@value
class RequestParts:
    """The readable parts of a request, as its backend will see them: `headers` are those that travel on.

    Query and body are parsed once, when first needed.
    """

    parameters: Mapping[str, str]
    query: str
    headers: HeaderList
    body: bytes
    parsed: dict[str, Any]
    multipart: Mapping[str, list[str]] = field(default_factory=dict)
    """The wanted fields of a form in parts."""
    method: str = "POST"


def json_of(parts: RequestParts) -> Any:
    if "json" not in parts.parsed:
        media_type_of(parts, "application/json")
        parts.parsed["json"] = strict_json.parse(parts.body)
    return parts.parsed["json"]


def media_type_of(parts: RequestParts, *expected: str) -> str:
    """The media type of the body, which is one of those expected.

    A body read as JSON that its backend reads as a form, or not at all, would be another request there.

    Nothing is assumed of a body without a type: some backends then read it, and others take their defaults instead.
    """
    # What its compression is was read by the name alone; short bodies mean something as they are and decoded.
    header_of(parts, "Content-Encoding")
    content_types = header_of(parts, "Content-Type")
    if len(content_types) == 1 and content_types[0] in expected:
        return content_types[0]
    if len(content_types) > 1:
        raise NotOneMeaning(invalid_request("Several content types were sent", "Content-Type"))
    written, _, parameters = content_types[0].partition(";") if content_types else ("", "", "")
    charsets = {charset.lower() for charset in _CHARSET.findall(parameters)}
    media_type = written.strip(" \t").lower()
    if media_type not in expected or charsets - {"utf-8", "utf8"}:
        hint = f"Send the body as {' or '.join(expected)} in UTF-8."
        raise NotOneMeaning(invalid_request("The content type does not fit this route", "Content-Type", hint))
    return media_type


def header_of(parts: RequestParts, name: str) -> list[str]:
    """All values of a header. A backend that folds names into one, as CGI does, must not see another one."""
    found = [(key, value) for key, value in parts.headers if folded(key) == folded(name)]
    if any(key.lower() != name.lower() for key, _ in found):
        raise NotOneMeaning(invalid_request(f"The header {name} is given in another spelling", f"header {name}"))
    return [value for _, value in found]


def form_text(parts: RequestParts) -> str:
    media_type_of(parts, "application/x-www-form-urlencoded")
    try:
        return parts.body.decode("ascii")
    except UnicodeDecodeError:
        raise Unreadable("the form is not percent-encoded") from None


def field_of(parts: RequestParts, kind: str, text: str, name: str) -> list[str]:
    """All values of a field of a query or form (WHATWG URL, application/x-www-form-urlencoded).

    Backends differ on what else is the same field: some also separate at `;`, some ignore case, and many make
    `model[]`, `model[0]` or ` model` a part of `model`. Such a request is refused.
    """
    given = [pair for pair in _pairs(parts, kind, text) if pair[0] == name]
    lenient = _pairs(parts, f"lenient {kind}", text.replace(";", "&")) if ";" in text else _pairs(parts, kind, text)
    # Names and values: what stands behind a `;` may be another field, and is then missing in this one.
    if [pair for pair in lenient if is_alike(pair[0], name)] != given:
        error = f"{name} is given in more than one way"
        raise NotOneMeaning(invalid_request(error, f"{kind} {name}", f"Give {name} once, spelled like this."))
    return [value for _, value in given]


def fields_of(parts: RequestParts, kind: str, text: str) -> set[str]:
    """The names of all fields of a query or form."""
    return {key for key, _ in _pairs(parts, kind, text)}


def is_alike(key: str, name: str) -> bool:
    """Whether some backend might take the field `key` for the field `name`."""
    return _letters(key if "[" in name else key.partition("[")[0]) == _letters(name)


def _letters(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _pairs(parts: RequestParts, kind: str, text: str) -> list[tuple[str, str]]:
    if kind not in parts.parsed:
        try:
            pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
        except ValueError:
            raise Unreadable(f"the {kind} has more than {MAX_FIELDS} fields, or is not UTF-8") from None
        parts.parsed[kind] = pairs
    result: list[tuple[str, str]] = parts.parsed[kind]
    return result

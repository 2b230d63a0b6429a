"""What a request asks for: its model and its units, read from wherever the route says. Pure.

Everything is read in the one way that the backend will read it, or the request is refused with 400: a value that is
given twice, a body that is not what its content type says, a number out of range.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

from config.extractors import ModelSource, ProductSource, Source, UnitSource
from config.routes import Route
from policies.refusals import Refusal, invalid_request
from policies.values import value
from proxy import strict_json
from proxy.headers import HeaderList, folded
from proxy.strict_json import Unreadable

MAX_FIELDS = 1000
"""Fields of a query or form: far above real ones, far below what makes parsing expensive."""

MAX_MODEL_ID = 200
"""Characters in a model id."""

MAX_DIGITS = 15
"""Of a number, before the point and after it: far finer than any price."""

_NUMBER = re.compile(rf"[0-9]{{1,{MAX_DIGITS}}}(\.[0-9]{{1,{MAX_DIGITS}}})?")
_CHARSET = re.compile(r"charset\s*=\s*\"?([^\s;\"]*)", re.IGNORECASE)


class _Refused(Exception):
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


def extract(route: Route, parts: RequestParts) -> tuple[str, dict[str, Decimal]] | Refusal:
    """The model's key and the units of a request, or why they cannot be told."""
    assert route.model is not None, "only metered routes are extracted from, and they have a model"
    try:
        model_key = _model_key(route, route.model, parts)
        units = {name: _unit(name, source, parts) for name, source in route.units.items()}
    except _Refused as refused:
        return refused.refusal
    except Unreadable as error:
        return invalid_request(f"The request cannot be read: {error}", "body")
    return model_key, {name: value for name, value in units.items() if value is not None}


def _model_key(route: Route, source: ModelSource, parts: RequestParts) -> str:
    name = _place(source)
    values = _values(source, parts)
    if len(values) != 1:
        problem = "is missing" if not values else "is given more than once"
        raise _Refused(invalid_request(f"The model {problem}", name, f"Name one model in {name}."))
    value = values[0]
    if not isinstance(value, str) or not 0 < len(value) <= MAX_MODEL_ID or not value.isprintable() or " " in value:
        hint = "Name the model by its id, a text."
        raise _Refused(invalid_request("The model is not a valid model id", name, hint))
    return value if value.startswith(f"{route.app}:") else f"{route.app}:{value}"


def _unit(name: str, source: UnitSource | ProductSource, parts: RequestParts) -> Decimal | None:
    if isinstance(source, UnitSource):
        return _single_unit(name, source, parts)
    product = Decimal(1)
    for factor in source.product:
        value = _single_unit(name, factor, parts)
        if value is None:
            return None
        product *= value
    return product


def _single_unit(name: str, source: UnitSource, parts: RequestParts) -> Decimal | None:
    values = _values(source, parts)
    if source.present:
        return Decimal(any(value not in (False, 0, "") for value in values))
    found = [_number(name, source, value) for value in values]
    if not found:
        if source.default is None and not source.optional:
            hint = f"Give {_expected(source)} in {_place(source)}."
            raise _Refused(invalid_request(f"{name} is missing", _place(source), hint))
        return source.default
    if len(found) > 1 and source.json_ is None:
        raise _Refused(invalid_request(f"{name} is given more than once", _place(source)))
    # Several known spellings, such as max_tokens and max_completion_tokens: the backend might follow any of them.
    return max(found)


def _number(name: str, source: UnitSource, value: object) -> Decimal:
    number: Decimal | None
    if source.values:
        number = source.values.get(value) if isinstance(value, str) else None
    elif source.length:
        number = Decimal(len(value)) if isinstance(value, list) else None
    elif isinstance(value, str) and source.json_ is None:
        number = Decimal(value) if _NUMBER.fullmatch(value) else None
    else:
        number = Decimal(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else None
    if number is None or not source.min <= number <= source.most or not _is_plain(number):
        error = f"{name} is out of range: expected {_expected(source)}"
        raise _Refused(invalid_request(error, _place(source)))
    return number


def _expected(source: UnitSource) -> str:
    if source.values:
        return "one of " + ", ".join(source.values)
    return f"{'items' if source.length else 'a number'} from {source.min} to {source.most}"


def _is_plain(number: Decimal) -> bool:
    sign, digits, exponent = number.as_tuple()
    return not sign and len(digits) <= 2 * MAX_DIGITS and -MAX_DIGITS <= int(exponent) <= MAX_DIGITS


def _place(source: Source) -> str:
    """The place of a value as people call it, for messages."""
    if source.json_ is not None:
        return source.json_[0]
    kind, name = next(iter(source.places.items()))
    return f"{kind} {name}"


def _values(source: Source, parts: RequestParts) -> list[Any]:
    """All values at the place of `source`; null counts as absent."""
    if source.json_ is not None:
        document = _json(parts)
        found = [strict_json.find(document, strict_json.tokens(pointer)) for pointer in source.json_]
        return [value for value in found if value is not None]
    if source.path is not None:
        return [parts.parameters[source.path]]
    if source.query is not None:
        return _field(parts, "query", parts.query, source.query)
    if source.header is not None:
        return _header(parts, source.header)
    if source.form is not None:
        return _field(parts, "form", _form_text(parts), source.form)
    if source.multipart is not None:
        return list(parts.multipart[source.multipart])
    return [source.const]


def _json(parts: RequestParts) -> Any:
    if "json" not in parts.parsed:
        _expect_content_type(parts, "application/json")
        parts.parsed["json"] = strict_json.parse(parts.body)
    return parts.parsed["json"]


def _expect_content_type(parts: RequestParts, expected: str) -> None:
    """A body read as JSON that its backend reads as a form, or not at all, would be another request there.

    Nothing is assumed of a body without a type: some backends then read it, and others take their defaults instead.
    """
    content_types = _header(parts, "Content-Type")
    if content_types == [expected]:
        return
    if len(content_types) > 1:
        raise _Refused(invalid_request("Several content types were sent", "Content-Type"))
    media_type, _, parameters = content_types[0].partition(";") if content_types else ("", "", "")
    charsets = {charset.lower() for charset in _CHARSET.findall(parameters)}
    if media_type.strip(" \t").lower() != expected or charsets - {"utf-8", "utf8"}:
        hint = f"Send the body as {expected} in UTF-8."
        raise _Refused(invalid_request("The content type does not fit this route", "Content-Type", hint))


def _header(parts: RequestParts, name: str) -> list[str]:
    """All values of a header. A backend that folds names into one, as CGI does, must not see another one."""
    found = [(key, value) for key, value in parts.headers if folded(key) == folded(name)]
    if any(key.lower() != name.lower() for key, _ in found):
        raise _Refused(invalid_request(f"The header {name} is given in another spelling", f"header {name}"))
    return [value for _, value in found]


def _form_text(parts: RequestParts) -> str:
    _expect_content_type(parts, "application/x-www-form-urlencoded")
    try:
        return parts.body.decode("ascii")
    except UnicodeDecodeError:
        raise Unreadable("the form is not percent-encoded") from None


def _field(parts: RequestParts, kind: str, text: str, name: str) -> list[str]:
    """All values of a field of a query or form (WHATWG URL, application/x-www-form-urlencoded).

    Backends differ on what else is the same field: some also separate at `;`, some ignore case, and many make
    `model[]`, `model[0]` or ` model` a part of `model`. Such a request is refused.
    """
    given = [pair for pair in _pairs(parts, kind, text) if pair[0] == name]
    lenient = _pairs(parts, f"lenient {kind}", text.replace(";", "&")) if ";" in text else _pairs(parts, kind, text)
    # Names and values: what stands behind a `;` may be another field, and is then missing in this one.
    if [pair for pair in lenient if is_alike(pair[0], name)] != given:
        error = f"{name} is given in more than one way"
        raise _Refused(invalid_request(error, f"{kind} {name}", f"Give {name} once, spelled like this."))
    return [value for _, value in given]


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

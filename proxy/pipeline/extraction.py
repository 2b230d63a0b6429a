"""What a request asks for: its model and its units, read from wherever the route says. Pure.

Everything is read in the one way that the backend will read it, or the request is refused with 400: a value that is
given twice, a body that is not what its content type says, a number out of range.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from config.extractors import CALLS, FIELD, ModelSource, ProductSource, Source, UnitSource
from config.routes import Route
from policies.refusals import Refusal, invalid_request
from proxy import strict_json
from proxy.pipeline.graphql import calls_in
from proxy.pipeline.parts import NotOneMeaning, RequestParts, field_of, form_text, header_of, json_of
from proxy.strict_json import Unreadable

if TYPE_CHECKING:
    from proxy.pipeline.graphql_document import Call

MAX_MODEL_ID = 200
"""Characters in a model id."""

MAX_DIGITS = 15
"""Of a number, before the point and after it: far finer than any price."""

_NUMBER = re.compile(rf"[0-9]{{1,{MAX_DIGITS}}}(\.[0-9]{{1,{MAX_DIGITS}}})?")


def extract(route: Route, parts: RequestParts) -> tuple[str, dict[str, Decimal]] | Refusal:
    """The model's key and the units of a request, or why they cannot be told."""
    assert route.model is not None, "only metered routes are extracted from, and they have a model"
    try:
        model_key = _model_key(route, route.model, parts)
        units = {name: _unit(name, source, parts) for name, source in route.units.items()}
        if route.reads_graphql:
            _expect_counted(route, parts)
    except NotOneMeaning as refused:
        return refused.refusal
    except Unreadable as error:
        return invalid_request(f"The request cannot be read: {error}", "body")
    return model_key, {name: value for name, value in units.items() if value is not None}


def _model_key(route: Route, source: ModelSource, parts: RequestParts) -> str:
    name = _place(source)
    values = _values(source, parts) if source.graphql is None else _of_all_calls(source, parts)
    if len(values) != 1:
        problem = "is missing" if not values else "is given more than once"
        raise NotOneMeaning(invalid_request(f"The model {problem}", name, f"Name one model in {name}."))
    value = values[0]
    if not isinstance(value, str) or not 0 < len(value) <= MAX_MODEL_ID or not value.isprintable() or " " in value:
        hint = "Name the model by its id, a text."
        raise NotOneMeaning(invalid_request("The model is not a valid model id", name, hint))
    return value if value.startswith(f"{route.app}:") else f"{route.app}:{value}"


def _of_all_calls(source: ModelSource, parts: RequestParts) -> list[Any]:
    """What all calls of a GraphQL request have in common: one value, where each of them has it."""
    calls = calls_in(parts)
    values = [value for call in calls for value in _values(source, parts, call)]
    if len(values) < len(calls):
        return []
    return values[:1] if all(value == values[0] for value in values) else values


def _expect_counted(route: Route, parts: RequestParts) -> None:
    """Several calls are one request only where something counts them: else the second one would be free."""
    is_counted = any(source.graphql == CALLS for source in route.sources)
    if len(calls_in(parts)) > 1 and not is_counted:
        hint = "Send each call as a request of its own."
        raise NotOneMeaning(invalid_request("The GraphQL request has more than one call", "query", hint))


def _unit(name: str, source: UnitSource | ProductSource, parts: RequestParts) -> Decimal | None:
    """A unit; what stands in the calls of a GraphQL request is read from each of them, and added up."""
    factors = [source] if isinstance(source, UnitSource) else source.product
    if not any(factor.graphql is not None for factor in factors):
        return _product(name, factors, parts)
    each = [_product(name, factors, parts, call) for call in calls_in(parts)]
    found = [value for value in each if value is not None]
    total = sum(found, Decimal(0))
    if isinstance(source, UnitSource) and total > source.most:
        error = f"{name} is out of range: expected {_expected(source)} in all calls together"
        raise NotOneMeaning(invalid_request(error, _place(source)))
    return total if found else None


def _product(name: str, factors: Sequence[UnitSource], parts: RequestParts, call: Call | None = None) -> Decimal | None:
    product = Decimal(1)
    for factor in factors:
        value = _single_unit(name, factor, parts, call)
        if value is None:
            return None
        product *= value
    return product


def _single_unit(name: str, source: UnitSource, parts: RequestParts, call: Call | None) -> Decimal | None:
    values = _values(source, parts, call)
    if source.present:
        return Decimal(any(value not in (False, 0, "") for value in values))
    found = [_number(name, source, value) for value in values]
    if not found:
        if source.default is None and not source.optional:
            hint = f"Give {_expected(source)} in {_place(source)}."
            raise NotOneMeaning(invalid_request(f"{name} is missing", _place(source), hint))
        return source.default
    if len(found) > 1 and source.json_ is None:
        raise NotOneMeaning(invalid_request(f"{name} is given more than once", _place(source)))
    # Several known spellings, such as max_tokens and max_completion_tokens: the backend might follow any of them.
    return max(found)


def _number(name: str, source: UnitSource, value: object) -> Decimal:
    number: Decimal | None
    if source.values:
        number = source.values.get(value) if isinstance(value, str) else None
    elif source.length:
        number = Decimal(len(value)) if isinstance(value, list) else None
    elif isinstance(value, str) and source.json_ is None and source.graphql is None:
        number = Decimal(value) if _NUMBER.fullmatch(value) else None
    else:
        number = Decimal(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else None
    if number is None or not source.min <= number <= source.most or not _is_plain(number):
        error = f"{name} is out of range: expected {_expected(source)}"
        raise NotOneMeaning(invalid_request(error, _place(source)))
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


def _values(source: Source, parts: RequestParts, call: Call | None = None) -> list[Any]:
    """All values at the place of `source`, in one `call` where GraphQL has it; null counts as absent."""
    if source.graphql is not None:
        assert call is not None, "what stands in calls is asked of each of them"
        value = _in_call(source.graphql, call)
        return [] if value is None else [value]
    if source.json_ is not None:
        document = json_of(parts)
        found = [strict_json.find(document, strict_json.tokens(pointer)) for pointer in source.json_]
        return [value for value in found if value is not None]
    if source.path is not None:
        return [parts.parameters[source.path]]
    if source.query is not None:
        return field_of(parts, "query", parts.query, source.query)
    if source.header is not None:
        return header_of(parts, source.header)
    if source.form is not None:
        return field_of(parts, "form", form_text(parts), source.form)
    if source.multipart is not None:
        return list(parts.multipart[source.multipart])
    return [source.const]


def _in_call(place: str, call: Call) -> Any:
    if place == CALLS:
        return 1
    return call.field if place == FIELD else strict_json.find(call.arguments, strict_json.tokens(place))

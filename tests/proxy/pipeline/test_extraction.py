"""The model and the units of a request: read in the one way that its backend will read them, or refused."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.routes import Route
from policies.refusals import Reason, Refusal
from proxy.headers import HeaderList
from proxy.pipeline.extraction import extract
from proxy.pipeline.parts import MAX_FIELDS, RequestParts

JSON = [("Content-Type", "application/json")]
FORM = [("Content-Type", "application/x-www-form-urlencoded")]


def route(model: dict[str, Any], units: dict[str, Any] | None = None) -> Route:
    values = {"id": "r", "match": "POST /{app}/{id}", "upstream": "u", "app": "shop"}
    return Route.model_validate(values | {"model": model, "units": units or {}})


def extracted(
    model: dict[str, Any],
    units: dict[str, Any] | None = None,
    *,
    body: bytes = b"",
    headers: HeaderList | None = None,
    query: str = "",
    parameters: dict[str, str] | None = None,
) -> tuple[str, dict[str, Decimal]] | Refusal:
    headers = JSON if headers is None else headers
    return extract(route(model, units), RequestParts(parameters or {}, query, headers, body, {}))


def model_in(body: bytes, headers: HeaderList | None = None) -> str:
    """The model at /model of a JSON body, without its app, or the field that a refusal names."""
    found = extracted({"json": "/model"}, body=body, headers=headers)
    if isinstance(found, Refusal):
        assert found.reason is Reason.INVALID_REQUEST
        return f"refused: {found.fields['field']}"
    return found[0].removeprefix("shop:")


def amount(source: dict[str, Any], body: bytes, **more: Any) -> Decimal | str | None:
    """The unit `n`, None when it is left out, or the field that a refusal names."""
    found = extracted({"const": "m"}, {"n": source}, body=body, **more)
    if isinstance(found, Refusal):
        assert found.reason is Reason.INVALID_REQUEST
        return f"refused: {found.fields['field']}"
    return found[1].get("n")


# Where it stands.


def test_every_place_of_a_model() -> None:
    """Body, path, query, header, form field and constant are all read; the key gets the route's app."""
    assert extracted({"json": "/a/model"}, body=b'{"a": {"model": "m"}}') == ("shop:m", {})
    assert extracted({"path": "id"}, parameters={"app": "x", "id": "m"}) == ("shop:m", {})
    assert extracted({"query": "model"}, query="x=1&model=m%2E1") == ("shop:m.1", {})
    assert extracted({"header": "X-Model"}, headers=[("x-model", "m")]) == ("shop:m", {})
    assert extracted({"form": "model"}, headers=FORM, body=b"model=m&x=1") == ("shop:m", {})
    assert extracted({"const": "m"}) == ("shop:m", {})


@pytest.mark.parametrize(
    ("value", "key"),
    [("m", "shop:m"), ("shop:m", "shop:m"), ("other:m", "shop:other:m"), ("llama3:8b", "shop:llama3:8b")],
)
def test_a_full_key_is_taken_as_it_is(value: str, key: str) -> None:
    """A value with the route's own app in front is a key already; another app's is no way to its models."""
    assert extracted({"const": value}) == (key, {})


@pytest.mark.parametrize(
    "value",
    [
        b'""',
        b'" "',
        b'"a b"',
        b'"a\\n"',
        b'"a\\u0000"',
        b'"a\\u200b"',
        b'"\\ud800"',
        b"1",
        b"1.5",
        b"true",
        b"[]",
        b'["m"]',
        b'{"x": "m"}',
        b'"' + b"a" * 201 + b'"',
    ],
)
def test_what_is_no_model_id_is_refused(value: bytes) -> None:
    """M01: other types, empty or endless texts, and characters that nobody sees."""
    assert model_in(b'{"model": ' + value + b"}") == "refused: /model"


@pytest.mark.parametrize("body", [b"{}", b'{"model": null}', b'{"x": {"model": "m"}}', b"[]", b'"m"', b"null"])
def test_a_missing_model_is_refused(body: bytes) -> None:
    """Absent and null are the same: nothing is assumed."""
    assert model_in(body) == "refused: /model"


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b'{"model": "a", "model": "b"}', b'{"model": "a", "Model": "b"}', b'{"model": "m"} {}', b"\xff"],
)
def test_an_unreadable_body_is_refused(body: bytes) -> None:
    """M01, M02: what another parser could read in another way."""
    assert model_in(body) == "refused: body"


def test_two_places_for_a_model_take_one_of_them() -> None:
    """Where backends know two spellings, a request may use either, and not both."""
    source = {"json": ["/model", "/modelId"]}
    assert extracted(source, body=b'{"modelId": "m"}') == ("shop:m", {})
    assert isinstance(extracted(source, body=b'{"model": "m", "modelId": "m"}'), Refusal)


# Content types.


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        " application/json ",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/json; x=y",
    ],
)
def test_json_under_its_names(content_type: str) -> None:
    """M03: case and parameters make no difference."""
    assert model_in(b'{"model": "m"}', [("content-type", content_type)]) == "m"


def test_a_coding_in_another_spelling_is_refused() -> None:
    """A backend that folds names would decode what was read as it is."""
    assert model_in(b'{"model": "m"}', [*JSON, ("Content_Encoding", "br")]) == "refused: header Content-Encoding"
    assert model_in(b'{"model": "m"}', [*JSON, ("content-encoding", "gzip")]) == "m"


def test_a_body_without_a_content_type_is_refused() -> None:
    """Some backends would read it, and others would not and take their default model."""
    assert model_in(b'{"model": "m"}', []) == "refused: Content-Type"
    refusal = extracted({"form": "model"}, headers=[], body=b"model=m")
    assert isinstance(refusal, Refusal)
    assert refusal.fields["field"] == "Content-Type"


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "application/vnd.x+json",
        "application/json, text/plain",
        "application/json; charset=utf-16",
        "application/json; charset=utf-8; charset=utf-7",
        "application/json; charset='utf-16'",
        "application/json; CHARSET = latin-1",
        "application/json\xa0",
        "\u2003application/json",
    ],
)
def test_another_content_type_is_refused(content_type: str) -> None:
    """M03: the backend would read the body as something else, or in another encoding."""
    assert model_in(b'{"model": "m"}', [("Content-Type", content_type)]) == "refused: Content-Type"


def test_two_content_types_are_refused() -> None:
    """Also when they agree, and when one is spelled so that only some backends see it."""
    assert model_in(b'{"model": "m"}', JSON * 2) == "refused: Content-Type"
    assert model_in(b'{"model": "m"}', [*JSON, ("Content_Type", "text/plain")]) == "refused: header Content-Type"


def test_a_form_is_read_only_from_a_form() -> None:
    """JSON that is sent as a form, or a form that is sent as JSON, is refused."""
    refusal = extracted({"form": "model"}, headers=JSON, body=b"model=m")
    assert isinstance(refusal, Refusal)
    assert model_in(b"model=m", FORM) == "refused: Content-Type"


# Query, form and header fields.


@pytest.mark.parametrize(
    "text",
    [
        "model=a&model=b",
        "model=a&model=a",
        "model=a&%6dodel=b",
        "model=a;x=1",
        "model=;a",
        "model=a&Model=b",
        "model=a&model[]=b",
        "model=a&model%5B0%5D=b",
        "model=a&+model=b",
        "model=a&mo_del=b",
        "x=1;model=b&model=a",
        "model=a;model=b",
        "Model=a",
        "model[]=a",
        "model",
        "model=",
        "=a",
        "",
    ],
)
@pytest.mark.parametrize("kind", ["query", "form"])
def test_a_field_that_backends_read_differently_is_refused(kind: str, text: str) -> None:
    """P08, M05: duplicates, other spellings, arrays, other separators, and a name without a value."""
    sent: dict[str, Any] = {"query": text} if kind == "query" else {"headers": FORM, "body": text.encode()}
    refusal = extracted({kind: "model"}, **sent)
    assert isinstance(refusal, Refusal)
    assert refusal.fields["field"] == f"{kind} model"


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("model=m", "m"),
        ("a=1&model=m&models=2&x=3", "m"),
        ("mod%65l=%6D", "m"),
        ("model=a%26b", "a&b"),
        ("model=a%3Bb", "a;b"),
        ("q=a;b&model=m", "m"),
        ("model=m&", "m"),
        ("model=m?x", "m?x"),
    ],
)
def test_a_field_is_decoded_once(text: str, model: str) -> None:
    """Percent encodings are decoded once, and what stands beside the field does not matter."""
    assert extracted({"query": "model"}, query=text) == (f"shop:{model}", {})


@pytest.mark.parametrize("query", ["model=%ff", "model=m&x=%c0%ae", "&".join(["a=1"] * (MAX_FIELDS + 1))])
def test_unreadable_fields_are_refused(query: str) -> None:
    """What is not UTF-8, or too much of it."""
    refusal = extracted({"query": "model"}, query=query)
    assert isinstance(refusal, Refusal)
    assert refusal.fields["field"] == "body"


def test_a_form_in_raw_bytes_is_refused() -> None:
    """A form is percent-encoded ASCII; other bytes are decoded as each backend likes."""
    assert isinstance(extracted({"form": "model"}, headers=FORM, body=b"model=caf\xc3\xa9"), Refusal)


def test_a_field_with_brackets_is_read_where_the_route_says_so() -> None:
    """`options[model]` is a name like any other when it is asked for."""
    assert extracted({"query": "options[model]"}, query="options[model]=m&options[x]=1") == ("shop:m", {})
    assert isinstance(extracted({"query": "options[model]"}, query="options[model]=m&options.model=x"), Refusal)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("X-Model", "a"), ("X-Model", "b")],
        [("X-Model", "a"), ("x-model", "a")],
        [("X-Model", "a"), ("X_Model", "b")],
        [("X_Model", "a")],
        [("X-Model", "a"), ("X.Model", "b")],
        [("X-Model", "a, b")],
        [("X-Model", "")],
    ],
)
def test_a_header_that_backends_read_differently_is_refused(headers: HeaderList) -> None:
    """Missing, repeated, joined, or in a spelling that CGI folds into the same variable."""
    refusal = extracted({"header": "X-Model"}, headers=headers)
    assert isinstance(refusal, Refusal)
    assert refusal.fields["field"] == "header X-Model"


# Units.

TOKENS = {"json": "/n", "min": 1, "max": 100}


@pytest.mark.parametrize(
    ("value", "number"),
    [(b"1", 1), (b"100", 100), (b"1.5", Decimal("1.5")), (b"1e1", 10), (b"0.1e1", 1), (b"100.0", 100), (b"10E-1", 1)],
)
def test_a_number_in_range(value: bytes, number: Decimal) -> None:
    """Both ends of the range belong to it; numbers are exact."""
    assert amount(TOKENS, b'{"n": ' + value + b"}") == number


@pytest.mark.parametrize(
    "value",
    [
        b"0",
        b"0.999999999999999",
        b"-1",
        b"101",
        b"100.000000000000001",
        b"1e2000",
        b"-0.0",
        b"true",
        b'"5"',
        b"[5]",
        b"{}",
        b"1." + b"1" * 16,
        b"1e-16",
        b"9" * 4000,
    ],
)
def test_a_number_out_of_range_is_refused(value: bytes) -> None:
    """Out of range, of another type, or with more digits than any price can use."""
    assert amount(TOKENS, b'{"n": ' + value + b"}") == "refused: /n"


def test_a_missing_number() -> None:
    """Without a default it is refused, unless it is optional: then the price is the model's base."""
    assert amount(TOKENS, b"{}") == "refused: /n"
    assert amount(TOKENS | {"default": 7}, b"{}") == 7
    assert amount(TOKENS | {"default": 7}, b'{"n": null}') == 7
    assert amount(TOKENS | {"optional": True}, b"{}") is None
    assert amount(TOKENS | {"default": 7}, b'{"N": 99}') == "refused: body"


@pytest.mark.parametrize(
    ("body", "number"),
    [
        (b'{"max_tokens": 5, "max_completion_tokens": 50}', 50),
        (b'{"max_tokens": 50, "max_completion_tokens": 5}', 50),
        (b'{"max_completion_tokens": 5}', 5),
        (b'{"max_tokens": null, "max_completion_tokens": 5}', 5),
        (b'{"max_tokens": 5, "max_completion_tokens": 101}', "refused: /max_tokens"),
        (b'{"max_tokens": 5, "max_completion_tokens": "9"}', "refused: /max_tokens"),
        (b"{}", 10),
    ],
)
def test_of_several_caps_the_largest_counts(body: bytes, number: object) -> None:
    """The backend might follow any of them; each has to be in range."""
    source = {"json": ["/max_tokens", "/max_completion_tokens"], "min": 1, "max": 100, "default": 10}
    assert amount(source, body) == number


@pytest.mark.parametrize(
    ("body", "number"),
    [
        (b'{"items": [1, 2, 3]}', 3),
        (b'{"items": [[]]}', 1),
        (b'{"items": []}', "refused: /items"),
        (b'{"items": [1,2,3,4,5,6]}', "refused: /items"),
        (b'{"items": {"a": 1}}', "refused: /items"),
        (b'{"items": "abc"}', "refused: /items"),
        (b'{"items": 3}', "refused: /items"),
        (b"{}", "refused: /items"),
    ],
)
def test_the_length_of_an_array(body: bytes, number: object) -> None:
    """Items are counted, whatever they are; what is no array has no length."""
    assert amount({"json": "/items", "length": True, "min": 1, "max": 5}, body) == number


@pytest.mark.parametrize(
    ("body", "number"),
    [
        (b'{"w": 4, "h": 3}', 12),
        (b'{"w": 4}', "refused: /h"),
        (b'{"w": 4, "h": 11}', "refused: /h"),
        (b'{"h": 3}', None),
    ],
)
def test_a_product_of_units(body: bytes, number: object) -> None:
    """Each factor has its own range; an optional one that is absent leaves the whole unit out."""
    product = [{"json": "/w", "max": 10, "optional": True}, {"json": "/h", "min": 1, "max": 10}]
    assert amount({"product": product}, body) == number


@pytest.mark.parametrize(
    "text", ["", "+5", "-5", "5e1", "0x5", " 5", "5.", ".5", "five", "\u0665", "1" * 16, "1_0", "NaN"]
)
def test_a_number_in_a_text_is_plain(text: str) -> None:
    """Path, query, header and form give texts: digits with at most one point, and nothing that libraries differ on."""
    source = {"path": "id", "max": 100}
    assert amount(source, b"", parameters={"id": text}) == "refused: path id"


def test_numbers_from_every_place() -> None:
    """A unit can stand wherever a model can."""
    assert amount({"path": "id", "max": 9}, b"", parameters={"id": "5"}) == 5
    assert amount({"query": "n", "max": 9}, b"", query="n=5.50") == Decimal("5.5")
    assert amount({"header": "N", "max": 9}, b"", headers=[("n", "5")]) == 5
    assert amount({"form": "n", "max": 9}, b"n=5", headers=FORM) == 5
    assert amount({"const": 5, "max": 9}, b"") == 5
    assert amount({"query": "n", "max": 9}, b"", query="n=5&n=1") == "refused: query n"


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["n", "N", "m", "x"]), st.integers(-5, 200) | st.text("5.e", max_size=3), max_size=3
    )
)
def test_what_is_accepted_is_in_range(document: dict[str, Any]) -> None:
    """Whatever a body says, a unit is within its bounds or the request is refused."""
    found = amount(TOKENS | {"default": 1}, json.dumps(document).encode())
    assert isinstance(found, str) or (found is not None and 1 <= found <= 100)


ODD_SOURCES: list[dict[str, Any]] = [
    {"json": "/n", "values": {"sd": 0, "hd": 2}},
    {"json": ["/n", "/m"], "values": {"sd": 0, "hd": 2}, "default": 1},
    {"json": "/n", "values": {"a": 5}, "min": 5, "max": 5, "optional": True},
    {"json": "/n", "present": True},
    {"json": ["/n", "/m"], "present": True},
    {"json": "/n", "length": True, "max": 2, "default": 0},
    {"product": [{"json": "/n", "present": True}, {"json": "/m", "max": 3, "default": 2}]},
]


@settings(deadline=None)
@given(
    st.sampled_from(ODD_SOURCES),
    st.dictionaries(
        st.sampled_from(["n", "m", "x"]),
        st.integers(-5, 5)
        | st.sampled_from(["sd", "hd", "a", "", "true"])
        | st.none()
        | st.booleans()
        | st.lists(st.none(), max_size=4)
        | st.dictionaries(st.text(max_size=1), st.none(), max_size=1),
        max_size=3,
    ),
)
def test_every_kind_of_unit_is_in_range(source: dict[str, Any], document: dict[str, Any]) -> None:
    """Texts, switches, lists and products: a number within what they can be, or a refusal, or rightly nothing."""
    found = amount(source, json.dumps(document).encode())
    assert (
        isinstance(found, str) or (found is None and source.get("optional")) or (found is not None and 0 <= found <= 6)
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, 0), (False, 0), (0, 0), ("", 0), (True, 1), (1, 1), ("x", 1), ("false", 1), ([], 1), ({}, 1), ([0], 1)],
)
def test_what_is_present_counts_one(value: object, expected: int) -> None:
    """As the origin's apps see it; an absent one counts nothing."""
    assert amount({"json": "/n", "present": True}, json.dumps({"n": value}).encode()) == expected
    assert amount({"json": "/n", "present": True}, b"{}") == 0

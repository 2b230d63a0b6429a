"""M08: the calls that a GraphQL request makes, in every form, as a server makes them; or the request is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
from graphql import (
    GraphQLArgument,
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInt,
    GraphQLList,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLString,
    graphql_sync,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from config.routes import Route
from policies.refusals import Reason, Refusal
from proxy.pipeline.extraction import extract
from proxy.pipeline.graphql import KEYS, MAX_BATCH, calls_in
from proxy.pipeline.graphql_document import MAX_CONDITIONS, MAX_SELECTIONS, MAX_TEXT, MAX_TOKENS, operation_of
from proxy.pipeline.parts import NotOneMeaning, RequestParts
from proxy.strict_json import Unreadable

JSON = "application/json"


def parts(body: bytes = b"", query: str = "", content_type: str | None = JSON, method: str = "POST") -> RequestParts:
    headers = [] if content_type is None else [("Content-Type", content_type)]
    return RequestParts({}, query, headers, body, {}, method=method)


def post(text: Any, **more: Any) -> RequestParts:
    return parts(json.dumps({"query": text, **more}).encode())


def get(**fields: str) -> RequestParts:
    return parts(query=urlencode(fields), content_type=None, method="GET")


def calls(request: RequestParts) -> list[tuple[str, Mapping[str, Any]]] | str:
    """The calls of a request, or why they cannot be told."""
    try:
        return [(call.field, call.arguments) for call in calls_in(request)]
    except Unreadable as error:
        return f"unreadable: {error}"
    except NotOneMeaning as error:
        assert error.refusal.reason is Reason.INVALID_REQUEST
        return f"refused: {error.refusal.error}"


def route(model: str = "field", units: dict[str, Any] | None = None) -> Route:
    values = {"id": "g", "match": ["POST /graphql", "GET /graphql"], "upstream": "u", "app": "shop"}
    return Route.model_validate(values | {"model": {"graphql": model}, "units": units or {}})


def extracted(text: str, route: Route, **more: Any) -> tuple[str, dict[str, Decimal]] | str:
    found = extract(route, post(text, **more))
    return found.error if isinstance(found, Refusal) else found


COUNTED = route(units={"calls": {"graphql": "calls", "max": 4}})
BY_MODEL = route(
    "/input/model",
    {
        "calls": {"graphql": "calls", "max": 4},
        "seconds": {"graphql": "/input/seconds", "min": 1, "max": 60, "default": 5},
        "images": {"graphql": "/input/images", "length": True, "max": 5, "optional": True},
        "lines": {"graphql": "/input/size", "values": {"HD": 720, "UHD": 2160}, "max": 9999, "optional": True},
        "pixels": {"product": [{"graphql": "/w", "max": 9, "default": 1}, {"graphql": "/h", "max": 9, "default": 2}]},
    },
)


# Which calls.


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("{ video }", ["video"]),
        ("query { video }", ["video"]),
        ("mutation M { video(x: 1) { id } }", ["video"]),
        ("{ video { video { video } } }", ["video"]),
        ("{ a: video b: video c: image }", ["video", "video", "image"]),
        ("{ video video }", ["video"]),
        ("{ a: video a: video }", ["video"]),
        ("{ ...F ...F } fragment F on Query { a: video ... on Query { b: video } ... { c: video } }", ["video"] * 3),
        ("{ ...F } fragment F on Query { ...G video } fragment G on Query { image }", ["image", "video"]),
        ("{ video __typename __schema { types { name } } t: __type(name: \"x\") { name } }", ["video"]),
        ("# { image }\n{ video(text: \"{ image }\", more: \"\"\"\n  { image } \\\"\"\" \n\"\"\") }", ["video"]),
        ("{ video @include(if: true) image @skip(if: true) text @include(if: false) }", ["video"]),
        ("{ video @skip(if: false) ... @skip(if: true) { a } ...F @include(if: false) } fragment F on Q { b }",
         ["video"]),
        ("{ ...F @skip(if: true) ...F } fragment F on Q { video }", ["video"]),
        ("{ video @other(if: 1) ...F @defer } fragment F on Q { image }", ["video", "image"]),
    ],
)  # fmt: skip
def test_the_calls_of_a_document(text: str, fields: list[str]) -> None:
    """Every field at the root under its own key is a call: by alias, by fragment, and not behind a false condition."""
    found = calls(post(text))
    assert isinstance(found, list), found
    assert [field for field, _ in found] == fields


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{}",
        "{ video }}",
        "video",
        "{ video } { image }",
        "{ video } query A { image }",
        "query A { video } query A { image }",
        "query A { video } query B { image }",
        "{ ...F }",
        "{ ...F } fragment F on Q { ...F video }",
        "{ ...F } fragment F on Q { ...G } fragment G on Q { ...F }",
        "{ ...F } fragment F on Q { video } fragment F on Q { image }",
        "{ a: video a: image }",
        "{ video(x: 1) video(x: 2) }",
        "{ video(x: 1, x: 2) }",
        "{ video(x: {a: 1, a: 2}) }",
        "query Q($v: Int, $v: Int) { video(x: $v) }",
        "{ video(x: $v) }",
        "{ video @include(if: $v) }",
        "{ video @include(if: 1) }",
        "{ video @include }",
        "{ video @include(if: true, if: false) }",
        "{ video @skip(if: false) @skip(if: false) }",
        "subscription { video }",
        "{ video } type Query { video: Int }",
        "extend type Query { image: Int } { video }",
        "{ __schema { types { name } } }",
        "{ __typename }",
        "{ video @skip(if: true) }",
        "{ video(x: 1e99999999999999999999) }",
        "{ video(x: \"\\ud800\") }",
        "{ video(x: \"\n\") }",
        "{ video { " + "a " * MAX_TOKENS + "} }",
        "{ video" + "{ a" * 300 + "}" * 300 + "}",
        "{ video(x: " + "[" * 900 + "]" * 900 + ") }",
        "{ video }" + " " * MAX_TEXT,
        "{" + " ".join(f"a{number}: video" for number in range(MAX_SELECTIONS + 1)) + "}",
    ],
    ids=lambda text: text[:40] + (f" and {len(text)} characters" if len(text) > 40 else ""),
)  # fmt: skip
def test_a_document_that_is_not_one_set_of_calls_is_refused(text: str) -> None:
    """What a server would reject, what two servers could read in two ways, what calls nothing, and what is too much."""
    assert isinstance(calls(post(text)), str)


def test_a_large_document_within_the_bounds_is_read() -> None:
    """Results may be long: what is selected below a call does not count."""
    assert calls(post("{ video { " + "a " * (MAX_TOKENS - 10) + "} }")) == [("video", {})]
    assert calls(post("{ video }" + " " * (MAX_TEXT - 9))) == [("video", {})]


def test_fragments_that_multiply_are_bounded() -> None:
    """Thirty of them, each twice in the one before, would be a thousand million selections."""
    text = "{ ...F0 }" + "".join(f"fragment F{n} on Q {{ ...F{n + 1} ...F{n + 1} }}" for n in range(30))
    assert calls(post(text + "fragment F30 on Q { video }")) == (
        f"unreadable: the GraphQL operation selects more than {MAX_SELECTIONS} fields at its root"
    )
    assert isinstance(calls(post(text + "fragment F30 on Q { ... @skip(if: true) { video } }")), str)


def test_d03_what_fragments_repeat_is_read_once() -> None:
    """Else hundreds of times two thousand tokens would hold everybody up for minutes, in a hundred kilobytes."""
    spreads = "...F @skip(if: $no) " * 100
    text = f"query ($no: Boolean) {{ {spreads} }} fragment F on Q {{ video(of: [{'1 ' * 800}]) @include(if: $yes) }}"
    selected = operation_of(text.replace("$yes", "true"), None).selected
    assert len(selected) == 100
    assert len({id(one.call) for one in selected}) == len({id(one.conditions[1]) for one in selected}) == 1


def test_d03_conditions_are_bounded() -> None:
    """Each is looked at for each selection that it is around."""
    assert calls(post("{" + "... @skip(if: false) {" * MAX_CONDITIONS + "video" + "}" * MAX_CONDITIONS + "}")) == [
        ("video", {})
    ]
    deeper = MAX_CONDITIONS + 1
    assert isinstance(calls(post("{" + "... @skip(if: false) {" * deeper + "video" + "}" * deeper + "}")), str)


def test_d03_a_batch_is_bounded_as_a_whole() -> None:
    """In tokens, which take time to read, and in calls, each of which is asked for each of its units."""
    long = {"query": "{ video { " + "a " * 1500 + "} }"}
    many = {"query": "{" + "".join(f"a{n}: video " for n in range(MAX_SELECTIONS // 2)) + "}"}
    assert calls(parts(json.dumps([long] * 6).encode())) == [("video", {})] * 6
    assert calls(parts(json.dumps([many] * 2).encode())) == [("video", {})] * MAX_SELECTIONS
    assert isinstance(calls(parts(json.dumps([long] * 7).encode())), str)
    assert isinstance(calls(parts(json.dumps([many] * 2 + [long]).encode())), str)


SEVERAL = "query A { video } mutation B { image } fragment F on Q { text }"


@pytest.mark.parametrize(("name", "field"), [("A", "video"), ("B", "image"), ("C", None), ("", None), (None, None)])
def test_the_operation_name_chooses(name: str | None, field: str | None) -> None:
    """One of several, and none that is not there; without a name there is no choice."""
    found = calls(post(SEVERAL, operationName=name))
    assert (found == [(field, {})]) if field else isinstance(found, str)


def test_an_operation_without_a_name_is_alone() -> None:
    """Where it is not, a name that is there chooses nothing: servers reject the document."""
    assert isinstance(calls(post("{ video } query A { image }", operationName="A")), str)


@pytest.mark.parametrize(("name", "works"), [("A", True), (None, True), ("B", False), ("", False), (5, False)])
def test_a_name_beside_one_operation_has_to_be_its_own(name: object, works: bool) -> None:
    assert isinstance(calls(post("query A { video }", operationName=name)), list) is works


# What the arguments are.


@pytest.mark.parametrize(
    ("text", "variables", "arguments"),
    [
        ('{ v(a: "x", b: 1, c: 1.5, d: true, e: null, f: HD) }', None,
         {"a": "x", "b": 1, "c": Decimal("1.5"), "d": True, "e": None, "f": "HD"}),
        ('{ v(a: [1, [2]], b: {c: {d: "x"}}) }', {}, {"a": [1, [2]], "b": {"c": {"d": "x"}}}),
        ('{ v(a: """\n    x\n      y\n  """) }', None, {"a": "x\n  y"}),
        ('{ v(a: "\\u0078\\n") }', None, {"a": "x\n"}),
        ("query($x: In) { v(a: $x) }", {"x": {"b": [1]}}, {"a": {"b": [1]}}),
        ("query($x: In = {b: 2}) { v(a: $x) }", None, {"a": {"b": 2}}),
        ("query($x: In = {b: 2}) { v(a: $x) }", {"x": None}, {"a": None}),
        ("query($x: In = {b: 2}) { v(a: $x) }", {"x": 3, "y": 4}, {"a": 3}),
        ("query($x: Int) { v(a: [$x], b: {c: $x}) }", {"x": 5}, {"a": [5], "b": {"c": 5}}),
        ("query($x: Int) { v(a: $x) }", None, {"a": None}),
        ("query($on: Boolean!) { v @include(if: $on) w @skip(if: $on) }", {"on": True}, {}),
    ],
)  # fmt: skip
def test_arguments_are_what_the_backend_gets(text: str, variables: Any, arguments: dict[str, Any]) -> None:
    """Inline or by variable, which is the same; a default where nothing is given, and not where null is."""
    assert calls(post(text, variables=variables)) == [("v", arguments)]


@pytest.mark.parametrize("variables", ["{}", [], 5, True, {"x": 1, "X": 2}, {"on": None}, {"on": "true"}, {"on": 1}])
def test_variables_that_are_no_object_or_no_switch_are_refused(variables: object) -> None:
    text = "query($x: Int, $on: Boolean = false) { v(a: $x) w @include(if: $on) }"
    assert str(calls(post(text, variables=variables))).startswith("unreadable")


# How it is sent.

HASH = hashlib.sha256(b"{ video }").hexdigest()
PERSISTED: list[Any] = [
    {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": HASH}}},
    {"query": None, "extensions": {"persistedQuery": {"version": 1, "sha256Hash": HASH}}},
    {"query": "", "extensions": {}},
    {"query": 5},
    {"query": ["{ video }"]},
    {"query": "{ video }", "extensions": {"persistedQuery": {"sha256Hash": "0" * 64}}},
    {"query": "{ video }", "extensions": {"persistedQuery": {"sha256Hash": HASH, "SHA256hash": HASH}}},
    {"query": "{ video }", "extensions": {"persistedQuery": {}}},
    {"query": "{ video }", "extensions": {"persistedQuery": HASH}},
    {"query": "{ video }", "extensions": []},
    {"query": "{ video }", "id": "abc"},
    {"query": "{ video }", "documentId": "abc"},
    {"query": "{ video }", "Query": "{ image }"},
    {"id": "abc"},
    {},
    None,
    5,
    "{ video }",
    [],
    [[]],
    [None],
    [{"query": "{ video }"}, {"id": "abc"}],
    [{"query": "{ video }"}] * (MAX_BATCH + 1),
]


@pytest.mark.parametrize("document", PERSISTED, ids=lambda document: json.dumps(document)[:60])
def test_a_request_without_its_text_is_refused(document: object) -> None:
    """A hash, a name, or any other key under which a backend may have stored another text than is sent."""
    assert isinstance(calls(parts(json.dumps(document).encode())), str)


def test_a_hash_beside_its_text_is_fine() -> None:
    """Clients that register a query send both."""
    extensions = {"persistedQuery": {"version": 1, "sha256Hash": HASH}, "client": {"name": "x"}}
    assert calls(post("{ video }", extensions=extensions)) == [("video", {})]


@pytest.mark.parametrize(
    "body",
    [
        b'{"query": "{ video }", "query": "{ image }"}',
        b'{"query": "{ video }", "variables": {}, "variables": {"x": 1}}',
        b'\xef\xbb\xbf{"query": "{ video }"}',
        b'{"query": "{ video }"} {"query": "{ image }"}',
        b'{"query": "\xff"}',
        b"query={video}",
        b"",
    ],
)
def test_a_body_that_could_be_read_in_two_ways_is_refused(body: bytes) -> None:
    assert isinstance(calls(parts(body)), str)


def test_a_batch_makes_all_calls_of_its_requests() -> None:
    """In their order, each with its own operation and variables."""
    text = "query A($x: Int) { video(a: $x) } query B { image b: image }"
    batch = [{"query": text, "operationName": "A", "variables": {"x": n}} for n in (1, 2)]
    batch.append({"query": text, "operationName": "B"})
    found = [("video", {"a": 1}), ("video", {"a": 2}), ("image", {}), ("image", {})]
    assert calls(parts(json.dumps(batch).encode())) == found


def test_a_query_by_get() -> None:
    """With all that a body could have; but no mutation, no body, and nothing else."""
    text = "query A($x: Int) { video(a: $x) } query B { image }"
    assert calls(get(query=text, operationName="A", variables='{"x": 5}', extensions="{}")) == [("video", {"a": 5})]
    assert calls(get(query="{ video }")) == [("video", {})]
    refused = [
        get(query="mutation { video }"),
        get(query=text, operationName="C"),
        get(query="{ video }", variables="{"),
        get(query="{ video }", variables='{"x": 1, "x": 2}'),
        get(query="{ video }", id="abc"),
        get(query="{ video }", documentId="abc"),
        get(extensions=json.dumps({"persistedQuery": {"sha256Hash": HASH}})),
        get(),
        parts(b'{"query": "{ image }"}', urlencode({"query": "{ video }"}), method="GET"),
        parts(query="query=%7Bvideo%7D&query=%7Bimage%7D", method="GET"),
        parts(query="query=%7Bvideo%7D&Query=%7Bimage%7D", method="GET"),
        parts(query="query[]=%7Bvideo%7D", method="GET"),
    ]
    assert [request.query for request in refused if isinstance(calls(request), list)] == []
    assert calls(parts(query="query=%7Bvideo%7D", method="HEAD")) == [("video", {})]


@pytest.mark.parametrize(
    "name", ["query", "Query", "operationName", "variables", "extensions", "documentId", "doc_id", "id"]
)
def test_a_post_is_not_steered_by_its_url(name: str) -> None:
    """Servers exist that prefer the URL; other fields of it do not matter."""
    request = parts(b'{"query": "{ video }"}', f"op=video&{name}=x")
    assert isinstance(calls(request), str)
    assert calls(parts(b'{"query": "{ video }"}', "op=video")) == [("video", {})]


@pytest.mark.parametrize(
    ("content_type", "body", "found"),
    [
        ("application/graphql", b"{ video }", [("video", {})]),
        ("Application/GraphQL; charset=utf-8", b"{ video }", [("video", {})]),
        ("application/graphql", b"query A { video }", [("video", {})]),
        ("application/graphql", SEVERAL.encode(), None),
        ("application/graphql", b'{"query": "{ video }"}', None),
        ("application/graphql", b"{ video(a: \"\xff\") }", None),
        ("application/graphql", b"", None),
        ("application/json", b"{ video }", None),
        ("application/graphql+json", b'{"query": "{ video }"}', None),
        ("application/x-www-form-urlencoded", b"query=%7Bvideo%7D", None),
        ("multipart/form-data; boundary=x", b"", None),
        ("text/plain", b'{"query": "{ video }"}', None),
        (None, b'{"query": "{ video }"}', None),
    ],
)  # fmt: skip
def test_the_content_type_says_what_a_body_is(content_type: str | None, body: bytes, found: Any) -> None:
    """JSON, or a document alone; uploads and forms are another request at each server."""
    told = calls(parts(body, content_type=content_type))
    assert (told == found) if found else isinstance(told, str)


# Model and units.


def test_a_root_field_is_a_model() -> None:
    """Each call of it counts, under whatever alias."""
    assert extracted("mutation { video { id } }", COUNTED) == ("shop:video", {"calls": Decimal(1)})
    assert extracted("mutation { a: video b: video c: video }", COUNTED) == ("shop:video", {"calls": Decimal(3)})
    assert extracted("{ video image }", COUNTED) == "The model is given more than once"
    batch = json.dumps([{"query": "{ a: video b: video }"}, {"query": "{ video }"}]).encode()
    assert extract(COUNTED, parts(batch)) == ("shop:video", {"calls": Decimal(3)})
    assert "out of range" in str(extracted("{" + " ".join(f"a{n}: video" for n in range(5)) + "}", COUNTED))


@pytest.mark.parametrize(
    "text", ["{ a: video b: video }", "{ video image }", "{ a: video ...F } fragment F on Q { video }"]
)
def test_calls_that_nobody_counts_are_refused(text: str) -> None:
    """Without a unit for their number the second one would be free."""
    for uncounted in (route(), route(units={"n": {"graphql": "/n", "max": 5, "default": 1}})):
        assert extracted("{ video }", uncounted)[0] == "shop:video"
        assert isinstance(extracted(text, uncounted), str)


def test_an_argument_is_a_model() -> None:
    """By whichever way it comes; units are read from each call and added up."""
    text = """mutation($in: In!) {
      a: make(input: {model: "m", seconds: 7, images: ["x", "y"], size: HD}, w: 3, h: 4) { id }
      b: make(input: $in) { id }
    }"""
    units = {"calls": Decimal(2), "seconds": Decimal(12), "images": Decimal(2), "lines": Decimal(720)}
    units["pixels"] = Decimal(3 * 4 + 1 * 2)
    assert extracted(text, BY_MODEL, variables={"in": {"model": "m"}}) == ("shop:m", units)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{ make }", "The model is missing"),
        ("{ make(input: {}) }", "The model is missing"),
        ("{ make(input: {model: null}) }", "The model is missing"),
        ('{ a: make(input: {model: "m"}) b: make }', "The model is missing"),
        ('{ a: make(input: {model: "m"}) b: make(input: {model: "n"}) }', "The model is given more than once"),
        ("{ make(input: {model: 5}) }", "The model is not a valid model id"),
        ('{ make(input: {model: "a b"}) }', "The model is not a valid model id"),
        ('{ make(input: {model: "m", Model: "n"}) }', "in two spellings"),
        ('{ make(input: {model: "m", seconds: 61}) }', "seconds is out of range"),
        ('{ make(input: {model: "m", seconds: -1}) }', "seconds is out of range"),
        ('{ make(input: {model: "m", seconds: "5"}) }', "seconds is out of range"),
        ('{ a: make(input: {model: "m", seconds: 40}) b: make(input: {model: "m", seconds: 21}) }', "in all calls"),
        ('{ make(input: {model: "m", images: "x"}) }', "images is out of range"),
        ('{ make(input: {model: "m", size: SD}) }', "lines is out of range"),
        ('{ make(input: {model: "m"}, w: 10) }', "pixels is out of range"),
    ],
)  # fmt: skip
def test_what_a_call_asks_for_is_checked(text: str, error: str) -> None:
    assert error in str(extracted(text, BY_MODEL))


# Against a server.


class _Server:
    """A real one, which remembers what was called."""

    def __init__(self) -> None:
        self.called: list[tuple[str, dict[str, Any]]] = []
        size = GraphQLEnumType("Size", {"HD": "HD", "UHD": "UHD"})
        given = GraphQLInputObjectType(
            "In", {"model": GraphQLInputField(GraphQLString), "n": GraphQLInputField(GraphQLList(GraphQLInt))}
        )
        arguments = {"m": GraphQLString, "n": GraphQLInt, "on": GraphQLBoolean, "size": size, "input": given}

        def make(name: str) -> GraphQLField:
            def resolve(*_: Any, **found: Any) -> str:
                self.called.append((name, found))
                return name

            return GraphQLField(GraphQLString, {key: GraphQLArgument(kind) for key, kind in arguments.items()}, resolve)

        query = GraphQLObjectType("Query", {name: make(name) for name in ("video", "image")})
        self.schema = GraphQLSchema(
            query, GraphQLObjectType("Mutation", {name: make(name) for name in ("video", "image")})
        )

    def run(self, document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]] | None:
        """What a request has called; None where the server rejects it."""
        self.called.clear()
        result = graphql_sync(
            self.schema, document["query"], None, None, document["variables"], document["operationName"]
        )
        return None if result.errors else list(self.called)


SERVER = _Server()
VALUES = {
    "m": ['"x"', '"""\n  x\n"""', "null", "$m"],
    "n": ["1", "-5", "$n"],
    "on": ["true", "$on"],
    "size": ["HD"],
    "input": ["{}", '{model: "x"}', "{n: [1, $n]}", "{model: $m, n: 3}", "$in"],
}
ARGUMENTS = st.lists(st.sampled_from(sorted(VALUES)), max_size=2, unique=True).flatmap(
    lambda names: st.tuples(*(st.sampled_from([f"{name}: {value}" for value in VALUES[name]]) for name in names))
)
CONDITIONS = st.sampled_from(
    ["", "", "", "@skip(if: $on)", "@include(if: $on)", "@skip(if: true)", "@include(if: true)"]
)
FIELDS = st.builds(
    lambda alias, field, arguments, condition: (
        f"{alias}{field}{'(' + ', '.join(arguments) + ')' if arguments else ''} {condition}"
    ),
    st.sampled_from(["", "a: ", "b: ", "c: "]),
    st.sampled_from(["video", "image", "__typename"]),
    ARGUMENTS,
    CONDITIONS,
)
SPREADS = st.builds(lambda name, condition: f"...{name} {condition}", st.sampled_from(["F", "G"]), CONDITIONS)
SELECTIONS = st.lists(FIELDS | SPREADS, min_size=1, max_size=4).map(" ".join)
INLINE = st.builds(lambda inner, condition: f"... {condition} {{ {inner} }}", SELECTIONS, CONDITIONS)
SETS = st.lists(FIELDS | SPREADS | INLINE, min_size=1, max_size=4).map(" ".join)
DECLARED = '($m: String, $n: Int = 4, $on: Boolean! = false, $in: In = {model: "d"})'
DOCUMENTS = st.fixed_dictionaries(
    {
        "query": st.builds(
            lambda kind, first, second, f, g: (
                f"{kind} A{DECLARED} {{ {first} }} {kind} B{DECLARED} {{ {second} }}"
                f" fragment F on {kind.title()} {{ {f} }} fragment G on {kind.title()} {{ {g} }}"
            ),
            st.sampled_from(["query", "mutation"]),
            SETS,
            SETS,
            SELECTIONS,
            st.lists(FIELDS, min_size=1, max_size=2).map(" ".join),
        ),
        "operationName": st.sampled_from(["A", "B"]),
        "variables": st.fixed_dictionaries(
            {},
            optional={
                "m": st.sampled_from(["y", None]),
                "n": st.just(7),
                "on": st.booleans(),
                "in": st.sampled_from([None, {}, {"model": "z", "n": [2]}]),
            },
        ),
    }
)  # fmt: skip


def _said(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments without what is null or not given, which is the same here."""
    said = {key: _said(value) if isinstance(value, dict) else value for key, value in arguments.items()}
    return {key: value for key, value in said.items() if value is not None}


@settings(max_examples=70)
@given(DOCUMENTS)
def test_the_calls_are_those_of_a_server(document: dict[str, Any]) -> None:
    """Whatever a server of GraphQL runs is what is told here: each field, with its arguments, in its order."""
    called = SERVER.run(document)
    if called is None:
        return
    found = calls(parts(json.dumps(document).encode()))
    if not called:
        assert isinstance(found, str)
        return
    assert isinstance(found, list), found
    assert [(field, _said(arguments)) for field, arguments in found] == [
        (field, _said(arguments)) for field, arguments in called
    ]


TOKENS = [
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ":",
    "!",
    "=",
    "$",
    "@",
    "...",
    "|",
    "&",
    '"x"',
    '"""x"""',
    '"',
    "1",
    "-",
    "1.5e3",
]
TOKENS += [
    "query",
    "mutation",
    "fragment",
    "on",
    "F",
    "a",
    "b",
    "true",
    "null",
    "skip",
    "include",
    "if",
    "#",
    "\n",
    "\0",
    "\ud800",
]


@given(st.lists(st.sampled_from(TOKENS), max_size=25).map(" ".join), st.sampled_from([None, "a", "F"]))
def test_anything_is_read_or_refused(text: str, name: str | None) -> None:
    """No document is a fault, whatever it is."""
    assert calls(post(text, operationName=name))
    assert calls(parts(text.encode("utf-8", "surrogatepass"), content_type="application/graphql"))


BODIES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*KEYS, "persistedQuery", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=50)
@given(BODIES)
def test_any_json_is_read_or_refused(document: object) -> None:
    """Nor is any body."""
    assert isinstance(calls(parts(json.dumps(document).encode())), str | list)

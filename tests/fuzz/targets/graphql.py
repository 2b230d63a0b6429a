"""GraphQL documents: the calls that we read are those that the reference implementation resolves, or it was refused."""

from __future__ import annotations

import json
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLBoolean,
    GraphQLField,
    GraphQLFloat,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLString,
)
from graphql.execution import execute_sync
from graphql.language import parse
from graphql.validation import validate

from proxy.pipeline.graphql_document import calls_of, operation_of
from proxy.strict_json import Unreadable

_INPUT = GraphQLInputObjectType("In", {"model": GraphQLInputField(GraphQLString), "n": GraphQLInputField(GraphQLFloat)})
_ARGUMENTS = {"model": GraphQLString, "n": GraphQLFloat, "in": _INPUT, "all": GraphQLList(GraphQLString)}


def _resolved(root: list[tuple[str, dict[str, Any]]], info: Any, **given: Any) -> bool:
    root.append((info.field_name, given))
    return True


_FIELD = GraphQLField(GraphQLBoolean, {name: GraphQLArgument(kind) for name, kind in _ARGUMENTS.items()}, _resolved)
_SCHEMA = GraphQLSchema(
    GraphQLObjectType("Query", {"make": _FIELD, "paint": _FIELD}),
    GraphQLObjectType("Mutation", {"make": _FIELD, "paint": _FIELD}),
)
_WORDS = rb"""{ } ( ) : $ ! @ ... query mutation subscription fragment on F Q M make paint __typename model n in all
make(model:"m") paint(n:5) a:make $m:String $m @skip(if:true) @include(if:$b) ...F ...on"""
WORDS = [*_WORDS.split(), b" ", b"\n", b",", b"#", b'"', b'"""', b"\\u0061", b"fragment F on Mutation{make}", b"null"]
WORDS += [b'{"m":"x","b":true}', b"[1,2]", b"{model:$m,n:1.5}", b"1e3", b"-0"]
SEEDS = [
    b'{}\nmutation{make(model:"m" n:2) a:paint(in:{model:"x",n:1.5})}',
    b'{"m":"x","b":false}\nquery Q($m:String="d",$b:Boolean!){make(model:$m)@skip(if:$b) ...F}'
    b' fragment F on Query{b:make(all:["a"])}',
    b'{"b":false}\nquery($m:String="d",$b:Boolean=true){make(model:$m)@include(if:$b) paint(model:$m)}',
    b"{}\n{make ...on Query{make paint(n:1)} __typename}",
]


def check(data: bytes) -> None:
    variables, _, text = data.decode("utf-8", "replace").partition("\n")
    try:
        given = json.loads(variables)
    except (ValueError, RecursionError):
        return
    if not isinstance(given, dict):
        return
    try:
        ours = calls_of(operation_of(text, None), given)
    except Unreadable:
        return
    document = parse(text)
    if validate(_SCHEMA, document):
        return
    theirs: list[tuple[str, dict[str, Any]]] = []
    result = execute_sync(_SCHEMA, document, theirs, variable_values=given)
    if result.errors:
        return
    assert [(call.field, _plain(call.arguments)) for call in ours] == [(name, _plain(got)) for name, got in theirs]


def _plain(value: Any) -> Any:
    """Without what is null, and with numbers as one kind: servers fill in types, which are not known to us."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, str | bool) or value is None else float(value)

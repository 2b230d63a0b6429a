"""What a GraphQL document asks of the root: its calls, with their arguments. Pure; only this file knows the library.

A call is one field at the root of the chosen operation under one response key: an alias makes another call of the same
field, and the same field twice under one key is one call (GraphQL, October 2021, §6.3.2). Fragments are what they
stand for, and `@skip` and `@include` are obeyed. What is selected below a call is its result, and no call.

A document that a server would reject, or that two servers could read in two ways, raises Unreadable. Types are not
known here: whether an argument exists and what it may be is for the backend to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from graphql.error import GraphQLSyntaxError
from graphql.language import (
    ArgumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionNode,
    SelectionSetNode,
    ast,
    parse,
)

from proxy import strict_json
from proxy.strict_json import Unreadable

MAX_TEXT = 64 * 2**10
"""Characters of a document. The longest of real clients have a quarter of it; it bounds the time of the parser."""

MAX_TOKENS = 2000
"""Tokens of a document: ten milliseconds of the parser, which holds everybody up."""

MAX_TOGETHER = 10_000
"""Tokens of all documents of a batch. Clients that gather their requests send few, or the same short one often."""

MAX_CONDITIONS = 20
"""Around one selection, with those of all fragments around it."""

MAX_SELECTIONS = 500
"""Selections that are looked at for one operation, with those of its fragments: fragments of fragments multiply. And
calls of one request."""

REMEMBERED = 256
"""Operations: clients send few texts, each with ever new variables."""

SHORT = 8 * 2**10
"""Characters of a document that is remembered, so that all of them take a few MiB at most."""


class Call(NamedTuple):
    """A field at the root, with its arguments as JSON would have them."""

    field: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Variable:
    """Stands in arguments for the value of a variable."""

    name: str


_Condition = tuple[bool, Any]
"""A value, and what it has to be."""

_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class _Selected:
    """A field at the root as it stands in the text: called only where all of its conditions hold."""

    key: str
    call: Call
    conditions: tuple[_Condition, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a document. `variables` are those that it declares, with their defaults. `tokens` are those of
    the document.
    """

    is_query: bool
    selected: Sequence[_Selected]
    variables: Mapping[str, Any]
    tokens: int


def operation_of(text: str, name: str | None) -> Operation:
    """The operation that a document and an operation name choose. Raises Unreadable."""
    if len(text) > MAX_TEXT:
        raise Unreadable(f"the GraphQL document is longer than {MAX_TEXT} characters")
    return _remembered(text, name) if len(text) <= SHORT else _operation(text, name)


def calls_of(operation: Operation, given: Mapping[str, Any]) -> list[Call]:
    """The calls of an operation with these variables, in their order; introspection is none. Raises Unreadable."""
    calls: dict[str, Call] = {}
    for selected in operation.selected:
        holds = [wanted is _switch(_resolved(value, operation, given)) for wanted, value in selected.conditions]
        if all(holds) and selected.key not in calls:
            field, arguments = selected.call
            calls[selected.key] = Call(field, _resolved(arguments, operation, given))
    return [call for call in calls.values() if not call.field.startswith("__")]


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unreadable("@skip and @include need `if` to be true or false")
    return value


def _resolved(value: Any, operation: Operation, given: Mapping[str, Any]) -> Any:
    """A value with those of its variables; what is not given is null."""
    if isinstance(value, _Variable):
        if value.name not in operation.variables:
            raise Unreadable(f"the variable ${value.name} is not declared")
        return strict_json.find(given, (value.name,)) if value.name in given else operation.variables[value.name]
    if isinstance(value, dict):
        return {key: _resolved(inner, operation, given) for key, inner in value.items()}
    return [_resolved(inner, operation, given) for inner in value] if isinstance(value, list) else value


# The text.


def _operation(text: str, name: str | None) -> Operation:
    try:
        document = parse(text, no_location=True, max_tokens=MAX_TOKENS, allow_empty_selection_sets=False)
    except GraphQLSyntaxError as error:
        raise Unreadable(f"the GraphQL document has a mistake: {error.message[:120]}") from None
    except RecursionError:
        raise Unreadable("the GraphQL document is nested too deeply") from None
    operations: dict[str | None, OperationDefinitionNode] = {}
    fragments: dict[str, FragmentDefinitionNode] = {}
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            _add(operations, definition.name.value if definition.name else None, definition)
        elif isinstance(definition, FragmentDefinitionNode):
            _add(fragments, definition.name.value, definition)
        else:
            raise Unreadable("the GraphQL document defines something that cannot be executed")
    return _compiled(_chosen(operations, name), fragments, document.token_count)


_remembered = lru_cache(REMEMBERED)(_operation)


def _add(found: dict[Any, Any], name: str | None, definition: Any) -> None:
    if name in found:
        raise Unreadable(f"the GraphQL document defines {name or 'an operation without a name'} twice")
    found[name] = definition


def _chosen(operations: Mapping[str | None, OperationDefinitionNode], name: str | None) -> OperationDefinitionNode:
    if None in operations and len(operations) > 1:
        raise Unreadable("an operation without a name has to be the only one (GraphQL §5.2.2.1)")
    if name is None and len(operations) == 1:
        return next(iter(operations.values()))
    if name is None or name not in operations:
        raise Unreadable("`operationName` has to name one of the document's operations")
    return operations[name]


def _compiled(
    operation: OperationDefinitionNode, fragments: Mapping[str, FragmentDefinitionNode], tokens: int
) -> Operation:
    if operation.operation is OperationType.SUBSCRIPTION:
        raise Unreadable("a subscription is no request with one price")
    variables: dict[str, Any] = {}
    for definition in operation.variable_definitions or ():
        default = None if definition.default_value is None else _plain(definition.default_value)
        _set(variables, definition.variable.name.value, default)
    selected: list[_Selected] = []
    known: dict[str, Call] = {}

    def call_of(node: FieldNode) -> tuple[str, Call]:
        key, call = (node.alias or node.name).value, Call(node.name.value, _arguments(node.arguments))
        # Fields that do not merge are rejected whatever their conditions are (GraphQL §5.3.2).
        if known.setdefault(key, call) != call:
            raise Unreadable(f"{key} is selected twice, with different fields or arguments")
        return key, known[key]

    call_once, conditions_once = _once(call_of), _once(_conditions)
    for node, conditions in _selections(operation.selection_set, fragments, conditions_once, (), ()):
        selected.append(_Selected(*call_once(node), conditions))
        if len(selected) > MAX_SELECTIONS:
            raise Unreadable(f"the GraphQL operation selects more than {MAX_SELECTIONS} fields at its root")
    return Operation(operation.operation is OperationType.QUERY, tuple(selected), variables, tokens)


def _selections(
    selections: SelectionSetNode,
    fragments: Mapping[str, FragmentDefinitionNode],
    conditions_of: Callable[[SelectionNode], tuple[_Condition, ...]],
    conditions: tuple[_Condition, ...],
    within: tuple[str, ...],
) -> Iterator[tuple[FieldNode, tuple[_Condition, ...]]]:
    """The fields of a selection set, with those of the fragments in it; `within` are the fragments around it."""
    for selection in selections.selections:
        all_of = conditions + conditions_of(selection)
        if len(all_of) > MAX_CONDITIONS:
            raise Unreadable(f"the GraphQL document has more than {MAX_CONDITIONS} conditions around one field")
        if isinstance(selection, FieldNode):
            yield selection, all_of
        elif isinstance(selection, InlineFragmentNode):
            yield from _selections(selection.selection_set, fragments, conditions_of, all_of, within)
        elif isinstance(selection, FragmentSpreadNode):
            name = selection.name.value
            if name not in fragments or name in within:
                raise Unreadable(f"the fragment {name} is not defined, or is a part of itself")
            yield from _selections(fragments[name].selection_set, fragments, conditions_of, all_of, (*within, name))


def _once(read: Callable[[Any], _Read]) -> Callable[[Any], _Read]:
    """`read` of each node once: by fragments of fragments a long list of arguments is met hundreds of times.

    By identity, since to compare nodes takes as long as to read them; the document keeps all of them alive.
    """
    found: dict[int, _Read] = {}

    def once(node: Any) -> _Read:
        if id(node) not in found:
            found[id(node)] = read(node)
        return found[id(node)]

    return once


def _conditions(selection: SelectionNode) -> tuple[_Condition, ...]:
    found: dict[str, _Condition] = {}
    for directive in selection.directives or ():
        name = directive.name.value
        if name not in ("skip", "include"):
            continue
        arguments = _arguments(directive.arguments)
        if name in found or list(arguments) != ["if"]:
            raise Unreadable(f"@{name} is given once, with `if`")
        found[name] = (name == "include", arguments["if"])
    return tuple(found.values())


def _arguments(nodes: Sequence[ArgumentNode] | None) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for node in nodes or ():
        _set(arguments, node.name.value, _plain(node.value))
    return arguments


def _set(found: dict[str, Any], name: str, value: Any) -> None:
    if name in found:
        raise Unreadable(f"{name} is given twice")
    found[name] = value


def _plain(node: ast.ValueNode) -> Any:
    """A value as JSON would have it, with its variables as they are; the name of an enum value is a text."""
    match node:
        case ast.VariableNode():
            return _Variable(node.name.value)
        case ast.IntValueNode() | ast.FloatValueNode():
            return _number(node.value)
        case ast.StringValueNode() | ast.EnumValueNode() | ast.BooleanValueNode():
            return node.value
        case ast.ListValueNode():
            return [_plain(item) for item in node.values]
        case ast.ObjectValueNode():
            inner: dict[str, Any] = {}
            for field in node.fields:
                _set(inner, field.name.value, _plain(field.value))
            return inner
    return None


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise Unreadable("the GraphQL document has a number beyond all bounds") from None

"""Where in a pydantic model a place of its data is: which keys may stand there, and of which type they are.

Called by `config.documents` for suggestions and by `config.mending` for what can stand in. Nothing here reads a file.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from config.yaml_source import PathKey

_UNION_TAGS = ("mapping", "names")
"""Parts of a pydantic location that name the branch of a union, where the branch is not a model."""


def existing(data: object, location: tuple[str | int, ...]) -> PathKey:
    """The part of a pydantic location that exists in the data: names of union members are left out."""
    path: list[str | int] = []
    for part in location:
        is_key = isinstance(data, dict) and part in data
        if is_key or (isinstance(data, list) and isinstance(part, int) and part < len(data)):
            data = data[part]  # type: ignore[index]
            path.append(part)
    return tuple(path)


def value_at(data: Any, path: PathKey) -> Any:
    for part in path:
        data = data[part]
    return data


def keys_at(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """The keys that the model accepts at a location, through lists, mappings and unions."""
    return [key for kind in kinds_at(model, location) for key in fields_of(kind)]


def kinds_at(model: type[BaseModel], location: tuple[str | int, ...]) -> list[Any]:
    """The types that a value at a location may have."""
    reached: list[Any] = [model]
    for part in location:
        if part in _UNION_TAGS:
            continue
        narrowed = [kind for kind in reached if getattr(kind, "__name__", None) == part]
        reached = narrowed or [inner for kind in reached for inner in _descend(kind, part)]
    return reached


def fields_of(kind: Any) -> Mapping[str, FieldInfo]:
    """The keys of a model with what is known of each; of another type, none."""
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return {}
    return {info.alias or name: info for name, info in kind.model_fields.items()}


def _descend(kind: Any, part: str | int) -> list[Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        info = fields_of(kind).get(str(part))
        return _flattened(info.annotation) if info is not None else []
    return [inner for argument in typing.get_args(kind)[-1:] for inner in _flattened(argument)]


def _flattened(annotation: Any) -> list[Any]:
    """The alternatives of a union, without their annotations."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _flattened(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [inner for argument in typing.get_args(annotation) for inner in _flattened(argument)]
    return [annotation]

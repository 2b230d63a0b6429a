"""What is left of a document with mistakes in it, so that one look tells what else is wrong with it.

A value that its key cannot have gives way to the example of that key, and so does what is missing; an unknown key to
the one that was probably meant. Nothing moves, so that every place keeps its line. What is made up is `unsure`: whoever
looks at a mended document tells nothing that follows from it. A mended document is never used for anything else.

Called by `config.documents`; models whose keys have no examples cannot be mended, and need not be.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from config.findings import close_to
from config.model_walk import existing, fields_of, keys_at, kinds_at, value_at
from config.yaml_source import PathKey, YamlSource

Document = TypeVar("Document", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Mended(Generic[Document]):
    """A document with stand-ins, its source, and the places that do not say what was meant."""

    document: Document
    source: YamlSource
    unsure: frozenset[PathKey]


class Mender:
    """Mends the data of one source, error by error; `data` is valid when no error is left."""

    def __init__(self, source: YamlSource, model: type[BaseModel]) -> None:
        self.data: Any = copy.deepcopy(source.data)
        self._model = model
        self._unsure = set(source.unsure)
        self._open = set(source.open)
        """Mappings that had a key which nobody can tell the meaning of."""

    @property
    def unsure(self) -> frozenset[PathKey]:
        """Every place that does not say what was meant, with the keys that an open mapping may have meant."""
        # What was replaced as a whole is unsure as a whole.
        left = [path for path in self._open if existing(self.data, path) == path]
        meant = {
            (*path, key) for path in left for key in keys_at(self._model, path) if key not in value_at(self.data, path)
        }
        return frozenset(self._unsure | meant)

    def is_about_stand_ins(self, error: ErrorDetails) -> bool:
        """Whether an error comes of what was made up, rather than of what was written."""
        path = existing(self.data, error["loc"])
        if path in self._open or self._is_made_up(path):
            return True
        is_list = isinstance(value_at(self.data, path), list)
        return is_list and any(unsure[: len(path)] == path for unsure in self._unsure)

    def _is_made_up(self, path: PathKey) -> bool:
        return any(path[:length] in self._unsure for length in range(1, len(path) + 1))

    def mend(self, errors: Iterable[ErrorDetails]) -> bool:
        """Put something in the place of everything that is wrong. False where that cannot be done."""
        done: set[tuple[PathKey, str]] = set()
        for error in errors:
            path = existing(self.data, error["loc"])
            place = (path, str(error["loc"][-1]) if error["type"] == "missing" else "")
            # The alternatives of a union fail together, at one place.
            if place not in done and not self._mend(error, path):
                return False
            done.add(place)
        return True

    def _mend(self, error: ErrorDetails, path: PathKey) -> bool:
        kind, name = error["type"], error["loc"][-1] if error["loc"] else ""
        if kind == "missing":
            return self._stand_in((*path, name))
        if kind == "extra_forbidden":
            # A mapping above it may have been replaced already, by another error of this round.
            return path[-1:] != (name,) or self._is_made_up(path) or self._replace_key(path)
        value = value_at(self.data, path)
        if kind == "value_error" and isinstance(value, dict):
            return self._reconcile(path, value)
        while path and path in self._unsure:
            path = path[:-1]
        return self._stand_in(path)

    def _stand_in(self, path: PathKey) -> bool:
        example = self._example(path)
        if example is None:
            return False
        value_at(self.data, path[:-1])[path[-1]] = copy.deepcopy(example)
        self._unsure.add(path)
        return True

    def _example(self, path: PathKey) -> Any:
        """What may stand at a place: the last example of its key, or an item of it."""
        key_path = path
        while key_path and isinstance(key_path[-1], int):
            key_path = key_path[:-1]
        if not key_path:
            return None
        kinds = kinds_at(self._model, key_path[:-1])
        field = next((found for kind in kinds if (found := fields_of(kind).get(str(key_path[-1])))), None)
        examples = list(field.examples or ()) if field is not None else []
        if key_path != path:
            examples += [example[0] for example in examples if isinstance(example, list)]
        return examples[-1] if examples else None

    def _replace_key(self, path: PathKey) -> bool:
        parent, mapping = path[:-1], value_at(self.data, path[:-1])
        del mapping[path[-1]]
        meant = close_to(str(path[-1]), keys_at(self._model, parent))
        if not meant:
            self._open.add(parent)
            return True
        self._unsure |= {(*parent, key) for key in meant if key not in mapping}
        return meant[0] in mapping or self._stand_in((*parent, meant[0]))

    def _reconcile(self, path: PathKey, value: dict[str, Any]) -> bool:
        """Keys that do not fit together: with what is lacking, or without one of them, or else another mapping."""
        kind = next((kind for kind in kinds_at(self._model, path) if fields_of(kind)), None)
        example = self._example(path)
        if kind is None or not isinstance(example, dict):
            return False
        lacking = {key: example[key] for key in example if key not in value}
        ways: list[dict[str, Any]] = [{**value, key: lacking[key]} for key in lacking]
        ways += [{name: value[name] for name in value if name != key} for key in value]
        chosen = next((way for way in ways if _fits(kind, way)), example)
        self._unsure |= {(*path, key) for key in {*chosen, *value} if chosen.get(key) is not value.get(key)}
        value_at(self.data, path[:-1])[path[-1]] = copy.deepcopy(chosen)
        return True


def _fits(kind: type[BaseModel], value: Mapping[str, Any]) -> bool:
    try:
        kind.model_validate(value)
    except ValidationError:
        return False
    return True

"""YAML text as plain data that remembers where every value stands.

Stricter than PyYAML where PyYAML surprises: a key given twice is an error instead of the last one winning; `012` and
`12:30:45` are errors instead of 10 and 45045; a number with a point stays exact as a Decimal; dates stay texts; and
a document may have only so many nodes, so that nested aliases cannot blow up.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import yaml

from config.findings import Finding, InvalidDocument

MAX_BYTES = 4 * 2**20
"""Of one file: a thousand times the size of a long policy."""

MAX_NODES = 200_000
"""Of one document after its aliases are followed."""

PathKey = tuple[str | int, ...]

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)([eE][-+][0-9]{1,2})?")


@dataclass
class YamlSource:
    """The data of one file, the position of every value in it, and what was found wrong on the way."""

    file: str
    lines: list[str]
    data: object = None
    positions: dict[PathKey, tuple[int, int]] = field(default_factory=dict)
    key_positions: dict[PathKey, tuple[int, int]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def finding(self, path: PathKey, code: str, message: str, at_key: bool = False) -> Finding:
        """A finding at `path`, or at the nearest enclosing value that has a position."""
        if at_key and path in self.key_positions:
            return self._finding_at(self.key_positions[path], code, message)
        while path and path not in self.positions:
            path = path[:-1]
        return self._finding_at(self.positions.get(path, (1, 1)), code, message)

    def _finding_at(self, position: tuple[int, int], code: str, message: str) -> Finding:
        line, column = position
        source = self.lines[line - 1] if line <= len(self.lines) else ""
        return Finding(self.file, line, column, code, message, source)


def read_yaml(path: Path, environment: Mapping[str, str] | None = None) -> YamlSource:
    """The file as located data. Raises InvalidDocument when it cannot be read or is not YAML.

    With `environment`, `${NAME}` inside a text is replaced by that variable; a missing one is a finding.
    """
    name = _shown(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidDocument([Finding(name, 1, 1, "too-large", f"the file is larger than {MAX_BYTES} bytes")])
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise InvalidDocument([Finding(name, 1, 1, "missing-file", f"there is no file {name}")]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidDocument([Finding(name, 1, 1, "unreadable", f"cannot be read: {error}")]) from None
    return parse_yaml(name, text, environment)


def _shown(path: Path) -> str:
    """The path as a person would type it from the working directory."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def parse_yaml(file: str, text: str, environment: Mapping[str, str] | None = None) -> YamlSource:
    """The text as located data; see `read_yaml`."""
    source = YamlSource(file, text.splitlines())
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        message = " ".join(filter(None, (error.context, error.problem)))
        raise InvalidDocument([source._finding_at(position, "yaml-syntax", message)]) from None
    except yaml.YAMLError as error:
        raise InvalidDocument([Finding(file, 1, 1, "yaml-syntax", str(error).splitlines()[0])]) from None
    if node is None:
        raise InvalidDocument([Finding(file, 1, 1, "empty", "the file is empty")])
    _Builder(source, environment).build(node)
    return source


class _Builder:
    """Walks the composed nodes once, filling a YamlSource."""

    def __init__(self, source: YamlSource, environment: Mapping[str, str] | None) -> None:
        self._source = source
        self._environment = environment
        self._nodes = 0

    def build(self, node: yaml.Node) -> None:
        self._source.data = self._value(node, ())

    def _value(self, node: yaml.Node, path: PathKey) -> object:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            message = f"the document has more than {MAX_NODES} values; are aliases nested?"
            raise InvalidDocument([self._source._finding_at(_mark(node), "too-many-values", message)])
        self._source.positions[path] = _mark(node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode), "YAML has mappings, sequences and scalars"
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: PathKey) -> dict[str, object]:
        result: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None or key_node.tag == "tag:yaml.org,2002:merge":
                self._found(key_node, "key", "expected a plain text as key")
                continue
            if key in result:
                first = self._source.key_positions[(*path, key)][0]
                self._found(key_node, "duplicate-key", f"{key!r} is given on line {first} already; keep one of them")
                continue
            self._source.key_positions[(*path, key)] = _mark(key_node)
            result[key] = self._value(value_node, (*path, key))
        return result

    def _scalar(self, node: yaml.ScalarNode) -> object:
        kind, text = node.tag.removeprefix("tag:yaml.org,2002:"), node.value
        if kind in ("str", "timestamp"):
            return self._substituted(node, text)
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() in ("yes", "true", "on")
        if kind == "int" and _INTEGER.fullmatch(text):
            return int(text)
        if kind == "float" and _DECIMAL.fullmatch(text):
            return Decimal(text)
        self._found(node, "ambiguous-value", f"YAML reads {text} as a special {kind}; write it plainly or in quotes")
        return text

    def _substituted(self, node: yaml.ScalarNode, text: str) -> str:
        if self._environment is None or "${" not in text:
            return text
        environment = self._environment

        def replace(match: re.Match[str]) -> str:
            if match[1] not in environment:
                message = f"the environment variable {match[1]} is not set"
                self._found(node, "missing-variable", message)
            return environment.get(match[1], "")

        return _REFERENCE.sub(replace, text)

    def _found(self, node: yaml.Node, code: str, message: str) -> None:
        self._source.findings.append(self._source._finding_at(_mark(node), code, message))


def _mark(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1

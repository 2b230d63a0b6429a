"""YAML text as plain data that remembers where every value stands.

Stricter than PyYAML where PyYAML surprises: a key given twice is an error instead of the last one winning; `012` and
`12:30:45` are errors instead of 10 and 45045; a number with a point stays exact as a Decimal; dates stay texts; tags
such as `!!python/name` are errors; and a document may have only so many values and levels, so that aliases that are
nested, or that lead back to themselves, cannot blow up. Whatever a text holds, it is data or it is InvalidDocument.
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
from config.masking import is_secret, masked_lines

MAX_BYTES = 4 * 2**20
"""Of one file: a thousand times the size of a long policy."""

MAX_NODES = 200_000
"""Of one document after its aliases are followed."""

MIN_SECRET = 8
"""Characters of a value from the environment that findings tell by its name; a port or a word is told as it is."""

MAX_LINE = 400
"""Characters of a line that is shown with a finding; a longer one would hide it, with its caret far away."""

PathKey = tuple[str | int, ...]

MAX_DEPTH = 50
"""Levels of one document: ten times the depth of the deepest that there is."""

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*(?::-[^}\n]*)?)\}")
_GUARDED_REFERENCE = re.compile("\\$\ue000([A-Za-z_][A-Za-z0-9_]*)(?::-([^\ue001]*))?\ue001")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,30})")
_DECIMAL = re.compile(r"[-+]?([0-9]{1,30}\.[0-9]{0,30}|\.[0-9]{1,30})([eE][-+][0-9]{1,2})?")
_BOOLEANS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")
_TAG = "tag:yaml.org,2002:"
_PLAIN_KINDS = frozenset({"str", "timestamp", "null", "bool", "int", "float", "value"})
"""What YAML takes a text without a tag for."""


@dataclass
class YamlSource:
    """The data of one file, the position of every value in it, and what was found wrong on the way."""

    file: str
    lines: list[str] = field(repr=False)
    """As they may be shown: secrets are masked."""
    data: object = field(default=None, repr=False)
    """With the secrets, and therefore not in the representation."""
    positions: dict[PathKey, tuple[int, int]] = field(default_factory=dict, repr=False)
    key_positions: dict[PathKey, tuple[int, int]] = field(default_factory=dict, repr=False)
    findings: list[Finding] = field(default_factory=list)
    unsure: set[PathKey] = field(default_factory=set, repr=False)
    """Places whose value is not what was meant, or may not be."""
    open: set[PathKey] = field(default_factory=set, repr=False)
    """Mappings with a key that could not be read: any key that they lack may be said there."""
    text: str = field(default="", repr=False)
    """As it was read, with the secrets."""
    names: dict[str, str] = field(default_factory=dict, repr=False)
    """The references that values from the environment came from. Any of them may be a secret."""

    def finding(self, path: PathKey, code: str, message: str, at_key: bool = False, offset: int = 0) -> Finding:
        """A finding at `path`, or at the nearest enclosing value that has a position; `offset` characters into it."""
        if at_key and path in self.key_positions:
            return self._finding_at(self.key_positions[path], code, message)
        while path and path not in self.positions:
            path = path[:-1]
        line, column = self.positions.get(path, (1, 1))
        return self._finding_at((line, self._inside(line, column, offset)), code, message)

    def _inside(self, line: int, column: int, offset: int) -> int:
        """The column of a character of a text, where the text stands on one line as it is."""
        written = self.line(line)
        first = written[column - 1 : column]
        inside = column + offset + (first in "'\"")
        return inside if offset and first not in "|>" and inside <= len(written) + 1 else column

    def _finding_at(self, position: tuple[int, int], code: str, message: str) -> Finding:
        line, message = self.line(position[0]), self.named(message)
        return Finding(self.file, *position, code, message, line if len(line) <= MAX_LINE else "")

    def named(self, text: str) -> str:
        """A text with the references in the place of what they stand for, the longest first."""
        for value in sorted(self.names, key=len, reverse=True):
            text = text.replace(value, self.names[value])
        return text

    def line(self, number: int) -> str:
        """A line of the file, counted from 1, as it may be shown; empty beyond its end."""
        return self.lines[number - 1] if number <= len(self.lines) else ""


def read_yaml(path: Path, environment: Mapping[str, str] | None = None) -> YamlSource:
    """The file as located data. Raises InvalidDocument when it cannot be read or is not YAML.

    With `environment`, `${NAME}` inside a text is replaced by that variable, and `${NAME:-text}` by the text where it
    is not set; a missing one without such a text is a finding.
    """
    name = _shown(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InvalidDocument([Finding(name, 1, 1, "missing-file", f"there is no file {name}")]) from None
    except OSError as error:
        raise InvalidDocument([Finding(name, 1, 1, "unreadable", f"cannot be read: {error.strerror}")]) from None
    if len(raw) > MAX_BYTES:
        raise InvalidDocument([Finding(name, 1, 1, "too-large", f"the file is larger than {MAX_BYTES} bytes")])
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line, column = _line_and_column(raw[: error.start].decode("utf-8"))
        message = f"the byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise InvalidDocument([Finding(name, line, column, "unreadable", message)]) from None
    return parse_yaml(name, text.removeprefix("\ufeff"), environment)


def _shown(path: Path) -> str:
    """The path as a person would type it from the working directory."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def parse_yaml(file: str, text: str, environment: Mapping[str, str] | None = None) -> YamlSource:
    """The text as located data; see `read_yaml`."""
    source = YamlSource(file, masked_lines(text), text=text)
    if environment is not None:
        # In a flow mapping the braces of `${NAME}` would end a plain text. Stand-ins keep their places meanwhile.
        text = _REFERENCE.sub("$\ue000\\1\ue001", text)
    try:
        node = _composed(source, text)
        if node is None:
            raise InvalidDocument([Finding(file, 1, 1, "empty", "the file is empty")])
        _Builder(source, environment).build(node)
    except RecursionError:
        # PyYAML recurses as deep as the text is nested, before there is a value to count.
        message = f"the document is nested more than {MAX_DEPTH} levels deep"
        raise InvalidDocument([Finding(file, 1, 1, "too-deep", message)]) from None
    return source


def _composed(source: YamlSource, text: str) -> yaml.Node | None:
    loader: yaml.SafeLoader | None = None
    try:
        loader = yaml.SafeLoader(text)
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        # The names that PyYAML quotes are in the line as well, where they are masked if they are secrets.
        message = re.sub(r" '[^'<]{3,}'", "", " ".join(filter(None, (error.context, error.problem))))
        if message.endswith(("but got '{'", "but got '['")):
            message += "; a text with braces or brackets needs quotes here"
        elif "'\\t'" in message:
            message += "; indent with spaces"
        elif "expected <block end>" in message:
            message += "; is the line indented as its neighbours are?"
    except yaml.reader.ReaderError as error:
        position = _line_and_column(text[: error.position])
        message = f"the character #x{error.character:04x} is not allowed"
    except (ValueError, OverflowError):
        # PyYAML passes on what Python says about escapes such as "\UFFFFFFFF" and versions of 5000 digits.
        position = (loader.line + 1, loader.column + 1) if loader is not None else (1, 1)
        message = "an escape or a number that does not exist"
    raise InvalidDocument([source._finding_at(position, "yaml-syntax", message)])


def _line_and_column(before: str) -> tuple[int, int]:
    """The position of what follows the text `before`, counted from 1."""
    lines = (before + "|").splitlines()
    return len(lines), len(lines[-1])


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
        if len(path) > MAX_DEPTH:
            message = f"the document is nested more than {MAX_DEPTH} levels deep; does an alias lead back to itself?"
            raise InvalidDocument([self._source._finding_at(_mark(node), "too-deep", message)])
        self._source.positions[path] = _mark(node)
        if isinstance(node, yaml.ScalarNode):
            before = len(self._source.findings)
            value = self._scalar(node, path)
            if len(self._source.findings) > before:
                self._source.unsure.add(path)
            return value
        if node.tag not in (f"{_TAG}map", f"{_TAG}seq"):
            self._found(node, "tag", "tags have no meaning here; leave it out")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, path: PathKey) -> dict[str, object]:
        result: dict[str, object] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == f"{_TAG}merge":
                self._found(key_node, "key", "a key is a plain text; lists, mappings and << have no meaning here")
                self._source.open.add(path)
                continue
            if key_node.tag.removeprefix(_TAG) not in _PLAIN_KINDS:
                self._found(key_node, "tag", "tags have no meaning here; leave it out")
            key = key_node.value.replace("\ue000", "{").replace("\ue001", "}")
            if _NOT_TEXT.search(key):
                self._found(key_node, "key", "the key has a character that no text can have")
                self._source.open.add(path)
                continue
            if key in result:
                first = self._source.key_positions[(*path, key)][0]
                self._found(key_node, "duplicate-key", f"{key!r} is given on line {first} already; keep one of them")
                self._source.unsure.add((*path, key))
                continue
            self._source.key_positions[(*path, key)] = _mark(key_node)
            result[key] = self._value(value_node, (*path, key))
        return result

    def _scalar(self, node: yaml.ScalarNode, path: PathKey) -> object:
        kind, text = node.tag.removeprefix(_TAG), node.value
        if kind in ("str", "timestamp"):
            return self._text(node, text)
        if kind == "null" and text in ("", "~", "null", "Null", "NULL"):
            return None
        if kind == "bool" and text.lower() in _BOOLEANS:
            return _BOOLEANS[text.lower()]
        if kind == "int" and _INTEGER.fullmatch(text):
            return int(text)
        if kind == "float" and _DECIMAL.fullmatch(text):
            return Decimal(text)
        if kind not in _PLAIN_KINDS:
            self._found(node, "tag", "tags have no meaning here; leave it out")
            return text
        shown = "this" if any(is_secret(str(part)) for part in path) or len(text) > 40 else text
        self._found(node, "ambiguous-value", f"YAML reads {shown} as a special {kind}; write it plainly or in quotes")
        return text

    def _text(self, node: yaml.ScalarNode, text: str) -> str:
        if self._environment is not None:
            text = self._substituted(node, text, self._environment)
        if _NOT_TEXT.search(text):
            self._found(node, "not-text", "the text has a character that no text can have, such as NUL")
        return text

    def _substituted(self, node: yaml.ScalarNode, text: str, environment: Mapping[str, str]) -> str:
        if "${" in text:
            message = "only ${NAME} and ${NAME:-default} mean variables; a name has letters, digits and _"
            self._found(node, "bad-reference", message)

        def value(match: re.Match[str]) -> str:
            found = environment.get(match[1])
            if found is not None and len(found) >= MIN_SECRET:
                self._source.names |= dict.fromkeys((found, repr(found)[1:-1]), f"${{{match[1]}}}")
            if found is None and match[2] is None:
                self._found(node, "missing-variable", f"the environment variable {match[1]} is not set")
            return (match[2] if found is None else found) or ""

        return _GUARDED_REFERENCE.sub(value, text)

    def _found(self, node: yaml.Node, code: str, message: str) -> None:
        self._source.findings.append(self._source._finding_at(_mark(node), code, message))


def _mark(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1

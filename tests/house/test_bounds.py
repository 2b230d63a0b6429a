"""Whatever grows has a bound: the table of docs/security.md is that of the code, and no cache is without a size."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.house.test_shapes import FILES, HOUSE, _tree

PAGE = (HOUSE / "docs" / "security.md").read_text("utf-8")

CONTAINERS = {"set", "dict", "list", "OrderedDict", "deque", "Counter", "defaultdict", "bytearray"}

MAY_BE_ENDLESS = {
    "config/time_zones.py": "bounded by the zones that there are: what is none raises, and that is not remembered",
    "proxy/management/openapi.py": "of a function without arguments: one answer",
}
"""Files with a cache that has no size, each with its reason."""


def _begins_empty(value: ast.expr | None) -> bool:
    """Whether a value is a container in which there is nothing yet."""
    match value:
        case ast.Dict(keys=[]) | ast.List(elts=[]):
            return True
        case ast.Call(func=ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)), args=[]):
            return name in CONTAINERS
    return False


def _containers() -> Iterator[str]:
    """Attributes that begin empty, as file::Class.attribute, and empty containers of modules, as file::name."""
    for file in FILES:
        tree = _tree(file)
        for cls in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            for node in ast.walk(cls):
                if isinstance(node, ast.Assign | ast.AnnAssign) and _begins_empty(node.value):
                    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                    if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                        yield f"{file}::{cls.name}.{target.attr}"
        for node in tree.body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and _begins_empty(node.value):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                yield f"{file}::{ast.unparse(target)}"


def _decorations() -> Iterator[tuple[str, ast.expr]]:
    """Every mention of a cache of functools, with what is called where it is called."""
    for file in FILES:
        tree = _tree(file)
        called = {node.func: node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None
            if isinstance(node, ast.expr) and name in ("lru_cache", "cache"):
                yield file, called.get(node, node)


def test_whatever_grows_has_a_bound() -> None:
    """Each attribute that begins as an empty container has a row in docs/security.md, and each row is about one."""
    rows = re.findall(r"^\| `([\w/]+\.py::[\w.]+)` \| (.+) \|$", PAGE, re.MULTILINE)
    found = list(_containers())
    assert sorted(set(found) - {name for name, _ in rows}) == []
    assert sorted({name for name, _ in rows} - set(found)) == []


def test_a_cache_has_a_size() -> None:
    """`lru_cache` with a number, never `cache` or a size of None, but where what can be asked is few."""
    endless = set()
    for file, use in _decorations():
        sizes = [*use.args, *(word.value for word in use.keywords)] if isinstance(use, ast.Call) else []
        bounded = [size for size in sizes if not (isinstance(size, ast.Constant) and size.value is None)]
        if not bounded:
            endless.add(file)
    assert endless == set(MAY_BE_ENDLESS)

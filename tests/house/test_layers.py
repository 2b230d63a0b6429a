"""The floors of the house: who may import whom, and that nobody else lives under these names."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from aiohttp import http_parser

HOUSE = Path(__file__).parents[2]
ROOMS = ("proxy", "policies", "config", "store", "jobs", "seeds")

CONFINED = {
    "casbin": {"policies/access.py"},
    "yaml": {"config/yaml_source.py"},
    "schedule": {"jobs/timetable.py"},
    "graphql": {"proxy/pipeline/graphql_document.py"},
    "httptools": {"proxy/upstream/parsing.py"},
}
"""Third parties that one file alone knows."""


def _imported(file: Path) -> set[str]:
    """The top-level names that a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_the_arrows_point_down() -> None:
    """Every contract of import-linter in pyproject.toml is kept."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    linted = subprocess.run(command, cwd=HOUSE, capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert " 0 broken" in linted.stdout


def test_the_contracts_cover_every_room() -> None:
    """A room that import-linter does not know of would be a house without walls."""
    linter = tomllib.loads((HOUSE / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    assert set(linter["root_packages"]) == set(ROOMS)
    floors = next(contract["layers"] for contract in linter["contracts"] if contract["type"] == "layers")
    assert {room.strip() for floor in floors for room in floor.split("|")} == set(ROOMS)
    assert not any("ignore_imports" in contract for contract in linter["contracts"])


@pytest.mark.parametrize("library", CONFINED)
def test_a_confined_library_is_known_to_one_file(library: str) -> None:
    """Casbin, YAML and the schedule library each have one file that imports them."""
    users = {
        file.relative_to(HOUSE).as_posix()
        for room in ROOMS
        for file in (HOUSE / room).rglob("*.py")
        if library in _imported(file)
    }
    assert users <= CONFINED[library]


def test_nobody_pays_for_graphql_who_has_no_use_for_it() -> None:
    """The library takes time at the start and memory: it is loaded by the first route that is a GraphQL endpoint."""
    program = "import proxy.app, sys; sys.exit('graphql' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=HOUSE, check=False).returncode == 0


def test_only_the_clock_asks_for_the_time() -> None:
    """Time enters as an argument: outside `config` nothing calls now() on a class, or the functions of `time`."""
    asking = [
        f"{file.relative_to(HOUSE)}:{node.lineno}"
        for room in ("policies", "store", "seeds")
        for file in (HOUSE / room).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr)
        in {("datetime", "now"), ("datetime", "utcnow"), ("date", "today"), ("time", "time")}
    ]
    assert asking == []


@pytest.mark.parametrize("room", ROOMS)
def test_no_installed_distribution_provides_a_room(room: str) -> None:
    """`import policies` can only mean ours: no dependency installs a package of that name."""
    assert set(packages_distributions().get(room, [])) <= {"farebox"}
    module = __import__(room)
    assert Path(str(module.__file__)).parent == HOUSE / room


def test_one_casbin_is_installed() -> None:
    """`casbin` and `pycasbin` install the same package, and the last one written would win."""
    assert packages_distributions()["casbin"] == ["pycasbin"]


def test_requests_are_parsed_in_c() -> None:
    """aiohttp's parser in Python is slower and more lenient; without the C one nothing should be deployed."""
    assert http_parser.HttpRequestParser is not http_parser.HttpRequestParserPy
    assert http_parser.HttpRequestParser.__module__ == "aiohttp._http_parser"

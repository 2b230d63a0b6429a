"""The software bill of materials: valid by the standard's own schema, complete, and the same each time."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from proxy.cli import main
from proxy.sbom import document

NOW = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)


def test_it_is_what_the_standard_asks_for() -> None:
    """By the official schema of CycloneDX 1.6, with nothing that it does not know; which a wrong one is not."""
    validator, bill = JsonStrictValidator(SchemaVersion.V1_6), document(NOW)
    assert validator.validate_str(json.dumps(bill)) is None
    assert validator.validate_str(json.dumps({**bill, "serialNumber": "none"})) is not None


def test_it_names_everything_that_is_installed() -> None:
    """Each package once, with its version, as what Farebox needs or as what those need; and Python."""
    bill = document(NOW)
    root = bill["metadata"]["component"]
    assert (root["name"], root["version"], root["type"]) == ("farebox", version("farebox"), "application")
    named = {component["name"]: component["version"] for component in bill["components"]}
    assert len(named) == len(bill["components"])
    for name in ("aiohttp", "pyjwt", "cryptography", "sqlalchemy", "pycasbin", "asyncpg"):
        assert named[name] == version(name)
        assert f"pkg:pypi/{name}@{version(name)}" in _reached(bill)
    assert "CPython" in named
    assert len(named) >= len({each.name for each in distributions()}) - 1


def _reached(bill: dict[str, Any]) -> set[str]:
    """What depends on what, from Farebox on."""
    edges = {row["ref"]: row["dependsOn"] for row in bill["dependencies"]}
    reached, waiting = set[str](), [bill["metadata"]["component"]["bom-ref"]]
    while waiting:
        ref = waiting.pop()
        if ref not in reached:
            reached.add(ref)
            waiting += edges[ref]
    return reached


def test_licences_are_named() -> None:
    """Of what runs in production, each; as an SPDX expression where the package states one."""
    bill = document(NOW)
    reached = _reached(bill)
    without = [each["name"] for each in bill["components"] if each["bom-ref"] in reached and not each.get("licenses")]
    assert without == []
    by_name = {each["name"]: each for each in bill["components"]}
    assert "expression" in by_name["aiohttp"]["licenses"][0]


def test_the_same_environment_gives_the_same_bill() -> None:
    """But for its time: so two of them can be compared."""
    one, other = document(NOW), document(NOW.replace(year=2027))
    assert one["metadata"].pop("timestamp") != other["metadata"].pop("timestamp")
    assert one == other


def test_the_command_writes_it(tmp_path: Path) -> None:
    """To standard output or to a file, without any settings, and over another file only when told to."""
    runner = CliRunner()
    printed = runner.invoke(main, ["sbom"])
    assert (printed.exit_code, json.loads(printed.output)["bomFormat"]) == (0, "CycloneDX")
    file = tmp_path / "farebox.cdx.json"
    told = json.loads(runner.invoke(main, ["sbom", "--output", str(file), "--json"]).output)
    assert told == {"file": str(file), "components": len(json.loads(file.read_text("utf-8"))["components"])}
    assert runner.invoke(main, ["sbom", "--output", str(file)]).exit_code == 1
    assert runner.invoke(main, ["sbom", "--output", str(file), "--force"]).exit_code == 0

"""`farebox` inside the test's own process, in a folder of the test."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from proxy.cli import main


@dataclass
class Console:
    """A folder with a farebox.yaml, and commands run on it."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "farebox.yaml"

    def run(self, *arguments: str, config: Path | None = None, **environment: str) -> Result:
        """The result of a command, whatever it is."""
        settings = {"FAREBOX_CONFIG": str(config or self.config), "FAREBOX_DEBUG": "", **environment}
        return CliRunner().invoke(main, list(arguments), env=settings)

    def out(self, *arguments: str) -> str:
        """The output for people of a command that must succeed."""
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str, code: int = 0) -> Any:
        """The JSON that a command writes, which must end with `code` and write nothing else."""
        result = self.run(*arguments, "--json")
        assert result.exit_code == code, result.output
        assert result.stderr == ""
        return json.loads(result.stdout)

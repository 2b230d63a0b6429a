"""A console in a folder with settings and, unless a test wants none, a database with a catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proxy.cli.console import Console
from tests.proxy.operations.desk import SETTINGS


@pytest.fixture
def bare(tmp_path: Path) -> Console:
    """Settings, and no database yet."""
    (tmp_path / "farebox.yaml").write_text(SETTINGS % "sqlite+aiosqlite:///farebox.db")
    return Console(tmp_path)


@pytest.fixture
def console(bare: Console, seeded_url: str) -> Console:
    """Settings, and a database with the catalogue that comes with Farebox."""
    return bare

"""A database with the catalogue that comes with Farebox, for every test of operators' tools."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from config.clock import utc_now
from seeds.load import load_catalogue
from seeds.reading import default_files
from store.opening import open_store


@pytest.fixture(scope="session")
def seeded_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file to copy."""
    path = tmp_path_factory.mktemp("catalogue") / "seeded.db"

    async def seed() -> None:
        async with open_store(f"sqlite+aiosqlite:///{path}", utc_now) as store:
            await load_catalogue(store, default_files())

    asyncio.run(seed())
    return path


@pytest.fixture
def seeded_url(seeded_file: Path, tmp_path: Path) -> str:
    """A database of one test."""
    shutil.copyfile(seeded_file, tmp_path / "farebox.db")
    return f"sqlite+aiosqlite:///{tmp_path}/farebox.db"

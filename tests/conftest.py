"""Databases for tests: a test that takes `database_url` runs on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from store.schema import migrate
from tests.postgres import PostgresServer

DIALECTS = ["sqlite", "postgresql"]
_numbers = count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file to copy: quicker than migrating one for every test."""
    path = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    asyncio.run(migrate(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def migrated_database(postgres: PostgresServer) -> str:
    """A PostgreSQL database to copy."""
    postgres.execute("CREATE DATABASE migrated")
    asyncio.run(migrate(postgres.url("migrated")))
    return "migrated"


@pytest.fixture(params=DIALECTS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database with the current schema and nothing in it, for one test."""
    if request.param == "sqlite":
        shutil.copyfile(request.getfixturevalue("migrated_file"), tmp_path / "farebox.db")
        yield f"sqlite+aiosqlite:///{tmp_path}/farebox.db"
    else:
        yield from _postgresql_database(request, f"TEMPLATE {request.getfixturevalue('migrated_database')}")


@pytest.fixture(params=DIALECTS)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without a schema, for one test."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path}/empty.db"
    else:
        yield from _postgresql_database(request, "")


def _postgresql_database(request: pytest.FixtureRequest, options: str) -> Iterator[str]:
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"test_{next(_numbers)}"
    server.execute(f"CREATE DATABASE {name} {options}")
    yield server.url(name)
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")

"""Databases for tests: a test that takes `database_url` runs on SQLite and on a real PostgreSQL server. How random
examples are chosen. And a search of everything that a test makes Farebox write, for secrets.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Generator, Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings

from store.schema import migrate
from tests import canaries
from tests.emptying import EMPTYING
from tests.postgres import PostgresServer

DIALECTS = ["sqlite", "postgresql"]
_numbers = count()

# The same examples each time: the suite judges the change at hand. `--hypothesis-profile=random` looks for more.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None, print_blob=True)
settings.load_profile("same")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test fails when a canary stands in its log or its output; so do those of processes that it has started."""
    report = yield
    # Those of the phases before are in the report as well, and have been searched.
    sections = [(name, content) for name, content in report.sections if name.endswith(report.when or "")]
    if report.passed and (told := canaries.told_in(sections)):
        report.outcome, report.longrepr = "failed", told
    return report


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgresql_url(postgres: PostgresServer) -> str:
    """The one migrated PostgreSQL database of the test run; who uses it empties it first."""
    postgres.execute("CREATE DATABASE farebox")
    asyncio.run(migrate(postgres.url("farebox")))
    return postgres.url("farebox")


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file to copy: quicker than migrating one for every test."""
    path = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    asyncio.run(migrate(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture(params=DIALECTS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with the current schema and nothing in it, for one test."""
    if request.param == "sqlite":
        shutil.copyfile(request.getfixturevalue("migrated_file"), tmp_path / "farebox.db")
        return f"sqlite+aiosqlite:///{tmp_path}/farebox.db"
    return emptied_postgresql(request)


def emptied_postgresql(request: pytest.FixtureRequest) -> str:
    """The PostgreSQL database of the test run, with nothing in it."""
    url: str = request.getfixturevalue("postgresql_url")
    server: PostgresServer = request.getfixturevalue("postgres")
    server.execute(EMPTYING, "farebox")
    return url


@pytest.fixture(params=DIALECTS)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without a schema, for one test."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path}/empty.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"empty_{next(_numbers)}"
    server.execute(f"CREATE DATABASE {name}")
    yield server.url(name)
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")

"""What a command says when it cannot do its work: one sentence, and a code for scripts."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from policies.terms import Funding, ModelKey, OnDeadline
from store.opening import open_store
from store.users import ensure_user
from store.verbs import Hold, Request, Reserve, Settle, Usage
from tests import canaries
from tests.proxy.cli.console import Console
from tests.proxy.operations.desk import SETTINGS


def test_missing_settings_are_named(bare: Console) -> None:
    """The file that was looked for, and the ways to name another."""
    result = bare.run("accounts", "list", config=bare.folder / "other.yaml")
    assert result.exit_code == 2
    assert "There is no settings file" in result.stderr
    assert "--config or FAREBOX_CONFIG" in result.stderr


def test_invalid_settings_are_told_one_by_one(bare: Console) -> None:
    """file:line:column: code: message, with the line and a caret; every finding, not only the first."""
    bare.config.write_text(bare.config.read_text() + "lisen: here\nunmatched: forward\n")
    result = bare.run("accounts", "list")
    assert result.exit_code == 1
    assert "farebox.yaml:8:1: unknown-key: unknown key 'lisen'; did you mean 'listen'?" in result.stderr
    assert "    8 | lisen: here\n      | ^" in result.stderr
    assert "farebox.yaml:9:12: invalid-value" in result.stderr
    machine = bare.run("accounts", "list", "--json")
    assert [finding["line"] for finding in json.loads(machine.stdout)["findings"]] == [8, 9]


def test_a_missing_variable_is_named(bare: Console) -> None:
    """A secret that comes from the environment and is not there."""
    bare.config.write_text(bare.config.read_text().replace(canaries.ADMIN_TOKEN, "${FAREBOX_TEST_ABSENT}"))
    result = bare.run("check")
    assert result.exit_code == 1
    assert "missing-variable: the environment variable FAREBOX_TEST_ABSENT is not set" in result.stderr


@pytest.mark.parametrize(
    "database",
    [
        "sqlite+aiosqlite:///no/such/folder/farebox.db",
        "sqlite+aiosqlite:////tmp",
        "postgresql+asyncpg://nobody@127.0.0.1:1/farebox",
    ],
)
def test_a_database_that_cannot_be_used_is_told(bare: Console, database: str) -> None:
    """The reason, the setting to look at, and the code 3; never a stack trace."""
    bare.config.write_text(SETTINGS % database)
    for words in (["accounts", "list"], ["migrate"], ["seed"], ["jobs", "--once", "sweep_holds"]):
        result = bare.run(*words)
        assert result.exit_code == 3, result.output
        assert result.stderr.startswith("The database cannot be used: ")
        assert "check that `database` in" in result.stderr
        assert "Traceback" not in result.output


def test_a_file_that_is_no_database_is_told(bare: Console) -> None:
    """Somebody else's file is refused and left as it is."""
    (bare.folder / "farebox.db").write_text("this is a letter, not a database; " * 100)
    result = bare.run("accounts", "list")
    assert result.exit_code == 3
    assert "not a database" in result.stderr
    assert (bare.folder / "farebox.db").read_text().startswith("this is a letter")


def test_a_schema_of_a_newer_version_is_told(console: Console) -> None:
    """An older Farebox does not touch the database of a newer one, and says which to use."""
    with sqlite3.connect(console.folder / "farebox.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999_later'")
    connection.close()
    for words in (["accounts", "list"], ["seed"]):
        result = console.run(*words)
        assert result.exit_code == 3, result.output
        assert "9999_later" in result.stderr
        assert "Traceback" not in result.output


def test_an_unknown_job_comes_with_the_nearest(console: Console) -> None:
    """A matter of the command line."""
    result = console.run("jobs", "--once", "sweep_hold")
    assert result.exit_code == 2
    assert "did you mean 'sweep_holds'?" in result.stderr


def test_an_unexpected_fault_is_one_sentence(console: Console, tmp_path: Path) -> None:
    """Its kind and text, the code 70, and how to see more; with FAREBOX_DEBUG the error itself."""
    with sqlite3.connect(console.folder / "farebox.db") as connection:
        connection.execute("UPDATE models SET price_rates = '{'")
    connection.close()
    command = ["policy", "test", "--json", str(tmp_path / "cases.yaml")]
    (tmp_path / "cases.yaml").write_text("version: 1\n")
    result = console.run(*command)
    assert result.exit_code == 70, result.output
    error = json.loads(result.stdout)["error"]
    assert error.startswith("Farebox failed: JSONDecodeError: ")
    assert error.endswith("FAREBOX_DEBUG=1 shows where.")
    assert isinstance(console.run(*command, FAREBOX_DEBUG="1").exception, ValueError)


def test_an_archive_that_cannot_be_written_is_told(console: Console) -> None:
    """With what to do; nothing is deleted, and the next try is as good as the first."""
    asyncio.run(_use_long_ago(f"sqlite+aiosqlite:///{console.folder}/farebox.db"))
    console.config.write_text(console.config.read_text() + "retention: {usage: 2 months, archive: archive}\n")
    for _ in range(2):
        result = console.run("jobs", "--once", "archive_usage")
        assert result.exit_code == 1
        assert result.stderr == (
            f"There is no folder {console.folder}/archive, which retention.archive names; make or mount it.\n"
        )
    (console.folder / "archive").mkdir()
    assert console.json("jobs", "--once", "archive_usage")["rows_deleted"] == 1
    assert console.json("usage", "archives")["ok"] is True
    (console.folder / "archive" / "usage-2025-01.csv.gz").unlink()
    assert console.json("usage", "archives", code=1)["archives"][0]["condition"] == "missing"


async def _use_long_ago(url: str) -> None:
    now = datetime(2025, 1, 15, tzinfo=UTC)
    async with open_store(url, lambda: now) as store:
        user, _ = await ensure_user(store, "ana", None, 100)
        account = user.account.account_id
        request = Request("ana", None, ModelKey("chat:small"), "use", "chat", "policy", "rule", 1)
        terms = (Funding.CREDITS,), 5, 1, None, request, timedelta(hours=1), OnDeadline.RELEASE
        hold = await store.ledger.reserve(Reserve(store.ids.next(), account, 0, *terms))
        assert isinstance(hold, Hold)
        await store.ledger.settle(Settle(hold.hold_id, account, None, Usage(), "answered"))

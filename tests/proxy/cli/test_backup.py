"""`farebox backup`: a file that is whole or not there, and never one too few."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.proxy.cli.console import Console
from tests.proxy.operations.desk import SETTINGS


def _restored(console: Console, copied: Path) -> Console:
    """A Farebox elsewhere, on a copy that was put in the place of its database."""
    folder = console.folder / "elsewhere"
    folder.mkdir()
    (folder / "farebox.yaml").write_text(SETTINGS % "sqlite+aiosqlite:///farebox.db")
    copied.rename(folder / "farebox.db")
    return Console(folder)


def test_a_backup_can_be_restored(console: Console) -> None:
    """Everything until then is in it, and nothing after."""
    console.out("accounts", "create", "ana", "--credits", "7")
    path = console.folder / "monday.db"
    answer = console.json("backup", str(path), "--verify")
    assert (answer["file"], answer["ok"], answer["bytes"]) == (str(path), True, path.stat().st_size)
    console.out("credits", "grant", "ana", "5")
    restored = _restored(console, path)
    assert restored.json("credits", "balance", "ana")["available"] == 7
    assert restored.json("ledger", "verify")["ok"] is True
    assert console.json("credits", "balance", "ana")["available"] == 12


def test_no_file_is_replaced_unasked(console: Console) -> None:
    """The last good backup is not lost to a slip."""
    path = console.folder / "backup.db"
    path.write_text("the last good one")
    result = console.run("backup", str(path))
    assert result.exit_code == 1
    assert "add --force to replace it" in result.stderr
    assert path.read_text() == "the last good one"
    console.out("backup", "--force", str(path))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM accounts").fetchone() == (0,)


def test_a_backup_is_one_file(console: Console) -> None:
    """With nothing beside it that would have to be kept, and read by whoever may read the database."""
    (console.folder / "farebox.db").chmod(0o640)
    before = {path.name for path in console.folder.iterdir()}
    console.out("backup", str(console.folder / "backup.db"), "--verify")
    after = {path.name for path in console.folder.iterdir() if not path.name.startswith("farebox.db-")}
    assert after == {name for name in before if not name.startswith("farebox.db-")} | {"backup.db"}
    assert (console.folder / "backup.db").stat().st_mode & 0o777 == 0o640


def test_a_backup_changes_nothing_about_an_old_database(console: Console) -> None:
    """It is made before an upgrade, and must not be one; only its laws are those of this version."""
    database, path = console.folder / "farebox.db", console.folder / "backup.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
        connection.commit()
    console.out("backup", str(path))
    for file in (database, path):
        with closing(sqlite3.connect(file)) as connection:
            assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
    result = console.run("backup", "--force", "--verify", str(path))
    assert result.exit_code == 3
    assert "The database has schema 0001, this Farebox needs" in result.stderr


def test_a_copy_of_a_ledger_with_a_breach_is_told(console: Console) -> None:
    """It is a faithful copy all the same, and is kept."""
    console.out("accounts", "create", "ana")
    with closing(sqlite3.connect(console.folder / "farebox.db")) as connection:
        connection.execute("UPDATE credit_grants SET unspent = unspent - 1")
        connection.commit()
    path = console.folder / "backup.db"
    answer = console.json("backup", str(path), "--verify", code=1)
    assert answer["ok"] is False
    assert {breach["law"] for breach in answer["breaches"]} == {"balances", "spending"}
    assert path.exists()


def test_a_damaged_database_makes_no_backup(console: Console) -> None:
    """Better no copy than one that is found to be broken when it is needed."""
    database = console.folder / "farebox.db"
    for number in range(50):
        console.out("accounts", "create", f"user-{number}")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ix_users_account_id'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    content = bytearray(database.read_bytes())
    start = (page - 1) * size
    content[start + size // 2 : start + size] = bytes(size // 2)
    database.write_bytes(content)
    path = console.folder / "backup.db"
    result = console.run("backup", str(path))
    assert result.exit_code == 3
    assert "the copy is damaged, and so may the database be" in result.stderr
    assert not path.exists()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql+asyncpg://ann:secret@db:5432/farebox", "pg_dump --format=custom --file=b.db 'postgresql://ann@db"),
        ("postgresql+asyncpg://db/farebox", "'postgresql://db/farebox'"),
        ("sqlite+aiosqlite:///missing.db", "missing.db yet; the first start of Farebox makes it"),
    ],
)
def test_what_cannot_be_copied_is_told(bare: Console, url: str, says: str) -> None:
    """With what to do instead, and no password on the screen."""
    bare.config.write_text(SETTINGS % url)
    result = bare.run("backup", "b.db")
    assert (result.exit_code, result.stdout) == (1, "")
    assert says in result.stderr
    assert "secret" not in result.stderr
    assert not (bare.folder / "missing.db").exists()


def test_the_database_is_no_backup_of_itself(console: Console) -> None:
    """Also not by another name, and not with --force."""
    (console.folder / "link.db").symlink_to(console.folder / "farebox.db")
    for name in ("farebox.db", "link.db"):
        result = console.run("backup", "--force", str(console.folder / name))
        assert result.exit_code == 1
        assert "is the database itself" in result.stderr
    assert console.json("accounts", "list")["accounts"] == []

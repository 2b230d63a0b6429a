"""`farebox ledger`: verifying, and exporting to files and pipes."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing

import pytest

from tests.proxy.cli.console import Console
from tests.proxy.export.hledger import read


@pytest.fixture
def books(console: Console) -> Console:
    """Two accounts with something in their books."""
    for user in ("ana", "budi"):
        console.out("accounts", "create", user, "--credits", "10")
        console.out("credits", "grant", user, "5.000001", "--source", "purchase")
    console.out("credits", "deduct", "ana", "2")
    return console


def test_a_breach_ends_with_one_and_names_what_is_concerned(books: Console) -> None:
    """On lines of its own, to be searched for; for machines with its law; and a sound ledger ends with 0."""
    assert books.json("ledger", "verify")["ok"] is True
    with closing(sqlite3.connect(books.folder / "farebox.db")) as connection:
        connection.execute(
            "UPDATE credit_grants SET unspent = unspent - 1 WHERE account_id = 2 AND source = 'purchase'"
        )
        connection.commit()
    result = books.run("ledger", "verify")
    assert result.exit_code == 1
    lines = [line.split() for line in result.stdout.splitlines() if "account 2:" in line]
    assert ["balances", "account", "2:", "grants", "have", "15000000", "left,", "entries", "15000001"] in lines
    answer = books.json("ledger", "verify", code=1)
    assert {"law": "balances", "what": "account 2: grants have 15000000 left, entries 15000001"} in answer["breaches"]


def test_entries_go_to_a_pipe(books: Console) -> None:
    """CSV on standard output, how many on standard error."""
    result = books.run("ledger", "export")
    assert (result.exit_code, result.stderr) == (0, "5 entries\n")
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert [row["credits"] for row in rows] == ["10.000000", "5.000001", "-2.000000", "10.000000", "5.000001"]


def test_a_file_is_written_whole(books: Console) -> None:
    """And the answer says what is in it."""
    path = books.folder / "ledger.journal"
    answer = books.json("ledger", "export", "--format", "hledger", "--output", str(path))
    assert answer == {"exported": "entries", "format": "hledger", "rows": 5, "file": str(path)}
    journal = read(path.read_text())
    assert str(journal.balances["liabilities:credits:1"]) == "-13.000001"
    assert [file.name for file in books.folder.iterdir() if "partial" in file.name] == []


def test_no_file_is_replaced_unasked(books: Console) -> None:
    """What is there stays as it is, and the sentence says what to do."""
    path = books.folder / "entries.csv"
    path.write_text("mine")
    result = books.run("ledger", "export", "--output", str(path))
    assert result.exit_code == 1
    assert "add --force to replace it" in result.stderr
    assert path.read_text() == "mine"
    books.out("ledger", "export", "--output", str(path), "--force")
    assert path.read_text().startswith('"account","entry"')


def test_json_is_the_format_for_machines(books: Console) -> None:
    """Also without saying the format."""
    rows = books.json("ledger", "export", "grants", "--account", "budi")
    assert [(row["account"], row["credits"], row["source"]) for row in rows] == [
        (2, "10.000000", "bonus"),
        (2, "5.000001", "purchase"),
    ]


def test_a_period_is_cut_out(books: Console) -> None:
    """Dates and moments as everywhere."""
    assert json.loads(books.run("ledger", "export", "--json", "--until", "2020-01-01").stdout) == []
    assert len(books.json("ledger", "export", "--since", "2020-01-01", "--account", "1")) == 3


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--since", "yesterday"], 2, "--since: expected a date such as 2026-12-31"),
        (["--until", "2026-13-01"], 2, "--until: expected a date"),
        (["--format", "xml"], 2, "'xml' is not one of"),
        (["secrets"], 2, "'secrets' is not one of 'entries', 'grants', 'holds', 'usage'"),
        (["usage", "--format", "hledger"], 2, "A journal is made of entries"),
        (["--account", "nobody"], 1, "There is no account 'nobody'"),
        (["--output", "."], 1, ". is a folder; name a file in it"),
        (["--output", "/nowhere/at/all.csv"], 1, "There is no folder /nowhere/at; make it, or name another one."),
    ],
)
def test_what_cannot_be_exported_is_told(books: Console, words: list[str], code: int, says: str) -> None:
    """In one sentence, and nothing is written."""
    result = books.run("ledger", "export", *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr

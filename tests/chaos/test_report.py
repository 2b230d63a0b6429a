"""What a run is told by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chaos.__main__ import conclude, options_of
from tests.chaos.audit import Books, Breach, Wrong
from tests.chaos.backend import Receipt
from tests.chaos.calls import Call, Kind, Outcome
from tests.chaos.clients import ClientBook
from tests.chaos.conductor import Run
from tests.chaos.ledger import Hold, LedgerBook
from tests.chaos.plan import VARIANTS, make_plan
from tests.chaos.report import BEGIN, END, as_json, row_of, tables, write_page


def _run(folder: Path, breaches: list[Breach]) -> Run:
    """Two calls: one that was delivered, and one that died and was quoted before it was forwarded."""
    paid = Call("c1", "ann", Kind.QUICK, False, 5, 5, 0, 1.0, 1.5, Outcome.ANSWERED, 200, "H1", "credits", 100)
    died = Call("c2", "ann", Kind.QUICK, True, 5, 5, 0, 2.0, 2.5)
    ledger = LedgerBook()
    for name, reason, route in (("H1", "answered", "buy"), ("H2", "deadline", "buy-strictly")):
        moments = 1.1, 1.4, 5.0
        ledger.holds[name] = Hold(name, 1, "ann", route, "settled", "credits", 100, 100, reason, *moments)
    books = Books(ClientBook(calls=[paid, died]), [Receipt("c1", "H1", "ann", "/buy", 1.2)], ledger)
    return Run(make_plan(VARIANTS[0], 1, 5), folder, 5, 2, books, breaches, [])


def test_a_run_is_counted(tmp_path: Path) -> None:
    """Calls by how they ended, charges, and what the deadline charged."""
    row = row_of(_run(tmp_path, []))
    assert (row.calls, row.delivered, row.cut, row.received, row.charged) == (2, 1, 1, 1, 2)
    assert (row.given_away, row.quoted, row.quoted_unreceived, row.quoted_failed) == (0, 1, 1, 0)
    assert row.breaches == 0


def test_what_is_wrong_is_in_every_form(tmp_path: Path) -> None:
    """In its column, in the sum, and in JSON with the request id."""
    run = _run(tmp_path, [Breach(Wrong.LOST, "H1", "is not there")])
    row = row_of(run)
    assert (row.wrong[Wrong.LOST], row.breaches) == (1, 1)
    told = as_json([run], 7)
    assert (told["seed"], told["ok"]) == (7, False)
    assert told["variants"][0]["breaches"] == [{"wrong": "lost", "where": "H1", "what": "is not there"}]
    lines = tables([row, row], 7).splitlines()
    assert lines[0] == "Seed 7, 10 kills, 4 calls."
    assert lines[-1].split() == ["|", "all", "|", "0", "|", "0", "|", "2", "|", "0", "|", "0", "|", "0", "|", "0", "|"]
    assert len({len(line) for line in lines[-5:]}) == 1


def test_a_run_without_a_breach_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, JSON where it was asked for, and no folder."""
    folder = tmp_path / "run"
    folder.mkdir()
    assert conclude([_run(folder, [])], options_of(["--seed", "7", "--json"]), folder) == 0
    assert json.loads(capsys.readouterr().out)["ok"]
    assert not folder.exists()


def test_a_breach_is_told_with_all_that_it_takes_to_look_at_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, the request, where everything is kept, and the line that carries out the same plan again."""
    run = _run(tmp_path, [Breach(Wrong.TWICE, f"H{number}", "is there twice") for number in range(30)])
    assert conclude([run], options_of(["--kills", "30", "--seed", "7", "--database", "sqlite"]), tmp_path) == 1
    told = capsys.readouterr().err
    assert "SQLite, one process: charged twice: H0: is there twice\n" in told
    assert f"… 10 more in {tmp_path}/breaches.txt" in told
    assert f"kept in {tmp_path}; the same plan again: make chaos KILLS=30 SEED=7 DATABASE=sqlite" in told
    assert tmp_path.exists()


def test_a_page_keeps_what_stands_around_its_table(tmp_path: Path) -> None:
    """However often it is written."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    write_page(page, "one")
    write_page(page, "two")
    assert page.read_text() == f"before\n\n{BEGIN}\n\ntwo\n\n{END}\n\nafter\n"

"""Importing users: everybody once with their credits, nobody at all when a row is bad."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.findings import InvalidDocument
from policies.terms import MICRO, AccountType
from seeds import users
from seeds.users import ImportReport, UserRow, import_csv, read_users
from store import accounts, reports
from store.opening import Store
from store.users import ensure_user
from store.verify import verify

HEADER = "id,email,credits\n"


def _no_progress(done: int, total: int) -> None:
    assert 0 <= done <= total


def _file(folder: Path, text: str | bytes) -> Path:
    path = folder / "users.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


async def _posted(store: Store, user_id: str) -> int:
    user = await store.database.read(accounts.find_user, user_id)
    assert user is not None
    return (await store.database.read(reports.balance, user.account.account_id, store.clock())).posted


async def test_users_come_as_payg_accounts_with_their_credits(store: Store) -> None:
    """The example file: three users, two of whom bring credits along."""
    report = await import_csv(store, Path(users.__file__).parent / "users.example.csv", _no_progress)
    assert report == ImportReport(users=3, created=3, granted=2, micro_credits=350 * MICRO)
    user = await store.database.read(accounts.find_user, "user-1002")
    assert user is not None
    assert (user.email, user.account.account_type) == ("budi@example.com", AccountType.PAYG)
    assert (await _posted(store, "user-1002"), await _posted(store, "user-1003")) == (250 * MICRO, 0)


async def test_importing_again_gives_nothing_again(store: Store, tmp_path: Path) -> None:
    """The same file twice, or with more rows the second time: each user gets their credits once."""
    await import_csv(store, _file(tmp_path, HEADER + "ana,,10\nbudi,,20.5\n"), _no_progress)
    again = await import_csv(store, _file(tmp_path, HEADER + "ana,,10\nbudi,,20.5\ncitra,,30\n"), _no_progress)
    assert again == ImportReport(users=3, created=1, granted=1, micro_credits=30 * MICRO)
    assert [await _posted(store, name) for name in ("ana", "budi", "citra")] == [10_000_000, 20_500_000, 30_000_000]


async def test_a_known_user_keeps_account_and_address_and_gets_the_credits(store: Store, tmp_path: Path) -> None:
    """Who has come through the gate before the import loses neither the welcome credits nor the imported ones."""
    known, _ = await ensure_user(store, "ana", "ana@example.com", 100 * MICRO)
    await import_csv(store, _file(tmp_path, HEADER + "ana,other@example.com,10\n"), _no_progress)
    after = await store.database.read(accounts.find_user, "ana")
    assert after is not None
    assert (after.account.account_id, after.email) == (known.account.account_id, "ana@example.com")
    assert await _posted(store, "ana") == 110 * MICRO


async def test_an_import_that_was_interrupted_is_finished_by_the_next_one(store: Store, tmp_path: Path) -> None:
    """Stopping after the first batch loses nothing and doubles nothing, and the books balance."""
    rows = [f"user-{number},,1\n" for number in range(users.BATCH + 50)]
    path = _file(tmp_path, HEADER + "".join(rows))

    class Interrupted(Exception):
        pass

    def interrupt(done: int, total: int) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        await import_csv(store, path, interrupt)
    seen: list[tuple[int, int]] = []
    report = await import_csv(store, path, lambda done, total: seen.append((done, total)))
    assert report == ImportReport(users=250, created=50, granted=50, micro_credits=50 * MICRO)
    assert seen == [(200, 250), (250, 250)]
    assert await _posted(store, "user-0") == await _posted(store, "user-249") == MICRO
    assert [check.breaches for check in await store.database.read(verify) if check.breaches] == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("ana,,-1", "expected a number of credits"),
        ("ana,,1e3", "expected a number of credits"),
        ("ana,,NaN", "expected a number of credits"),
        ("ana,,", "expected a number of credits"),
        ("ana,,1_000", "expected a number of credits"),
        ("ana,,0.0000001", "more than six decimals"),
        ("ana,,99999999999", "out of range"),
        (",,5", "expected an id"),
        (" ana,,5", "expected an id"),
        ("a\x07na,,5", "expected an id"),
        ("x" * 201 + ",,5", "expected an id"),
        ("ana,nobody,5", "expected an e-mail address"),
        ("ana,a b@example.com,5", "expected an e-mail address"),
        ("ana,5", "expected 3 values, found 2"),
        ("ana,,5,6", "expected 3 values, found 4"),
        ("budi,,5", "'budi' is given on line 2 already"),
        ('"ana,,5', "unexpected end of data"),
    ],
)
async def test_a_bad_row_is_told_with_its_line_and_nothing_is_imported(
    store: Store, tmp_path: Path, row: str, message: str
) -> None:
    """The first row is good and is not imported either: the file is right as a whole or it is not used."""
    path = _file(tmp_path, f"{HEADER}budi,,5\n{row}\n")
    with pytest.raises(InvalidDocument) as caught:
        await import_csv(store, path, _no_progress)
    (finding,) = caught.value.findings
    assert (finding.file, finding.line) == (str(path), 3)
    assert message in finding.message
    assert await store.database.read(accounts.find_user, "budi") is None


def test_all_bad_rows_are_told_at_once_up_to_a_bound(tmp_path: Path) -> None:
    """Every bad row has its finding; of a file that is wrong throughout, the first hundred do."""
    with pytest.raises(InvalidDocument) as caught:
        read_users(_file(tmp_path, HEADER + "ana,,x\nbudi,,5\ncitra,,y\n"))
    assert [finding.line for finding in caught.value.findings] == [2, 4]
    with pytest.raises(InvalidDocument) as caught:
        read_users(_file(tmp_path, HEADER + "ana,,x\n" * 1000))
    assert len(caught.value.findings) == users.MAX_FINDINGS


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "header"),
        (b"id,credits\n", "header"),
        (b"ana,ana@example.com,5\n", "header"),
        (b"id,email,credits\n\xff,,5\n", "unreadable"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes, code: str) -> None:
    """Without the header, or not in UTF-8, nothing in a file can be trusted to mean what it seems to."""
    with pytest.raises(InvalidDocument) as caught:
        read_users(_file(tmp_path, content))
    assert [finding.code for finding in caught.value.findings] == [code]


def test_a_missing_file_is_a_finding(tmp_path: Path) -> None:
    """A path that leads nowhere is told like every other mistake."""
    with pytest.raises(InvalidDocument, match="unreadable"):
        read_users(tmp_path / "none.csv")


def test_what_spreadsheets_write_is_read(tmp_path: Path) -> None:
    """A byte order mark, CRLF, quotes, empty lines and a missing last line end are all the same file."""
    content = b'\xef\xbb\xbfid,email,credits\r\n"ana","ana@example.com","12.5"\r\n\r\nbudi,,0'
    assert read_users(_file(tmp_path, content)) == [
        UserRow("ana", "ana@example.com", 12_500_000),
        UserRow("budi", None, 0),
    ]


def test_a_file_without_users_is_empty(tmp_path: Path) -> None:
    """Nothing to import is not a mistake."""
    assert read_users(_file(tmp_path, HEADER)) == []

"""A strict reader of the part of hledger's journal format that is written: an independent judge of the journal.

Written from the format's manual (https://hledger.org/hledger.html, "Journal"), and stricter where that is lenient:
every account and commodity has to be declared, every posting has its amount, and nothing is inferred. Where hledger
itself is installed it judges as well.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d) \* (.*)")
_AMOUNT = r"(-?\d+\.\d{6}) ([a-z]+)"
_POSTING = re.compile(rf"    (\S+)  {_AMOUNT}(?: = {_AMOUNT})?")


@dataclass
class Posting:
    account: str
    amount: Decimal
    asserted: Decimal | None


@dataclass
class Transaction:
    day: date
    description: str
    tags: dict[str, str]
    postings: list[Posting] = field(default_factory=list)


@dataclass
class Journal:
    accounts: set[str] = field(default_factory=set)
    transactions: list[Transaction] = field(default_factory=list)
    balances: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))


def read(text: str) -> Journal:
    """The journal, with the balances of its end. Raises AssertionError for whatever is wrong with it."""
    journal, commodities = Journal(), set[str]()
    assert text.endswith("\n")
    for line in text.splitlines():
        if not line or line.startswith(";"):
            continue
        if line.startswith("commodity "):
            commodities.add(line.split(" ")[2])
        elif line.startswith("account "):
            name = line.removeprefix("account ")
            assert name not in journal.accounts, f"{name} is declared twice"
            journal.accounts.add(name)
        elif (posting := _POSTING.fullmatch(line)) is not None:
            account, amount, commodity, asserted, of_asserted = posting.groups()
            assert account in journal.accounts, f"{account} is not declared"
            assert {commodity, of_asserted or commodity} <= commodities
            posted = Posting(account, Decimal(amount), None if asserted is None else Decimal(asserted))
            journal.transactions[-1].postings.append(posted)
        else:
            journal.transactions.append(_transaction(line))
    _check(journal)
    _ask_hledger(text)
    return journal


def _transaction(line: str) -> Transaction:
    found = _DATE.fullmatch(line)
    assert found is not None, f"neither a directive nor a transaction: {line!r}"
    year, month, day, rest = found.groups()
    description, _, comment = rest.partition(";")
    assert description.strip(), "a transaction says what it is"
    tags = dict(tag.strip().split(":", 1) for tag in comment.split(",")) if comment else {}
    return Transaction(date(int(year), int(month), int(day)), description.strip(), tags)


def _check(journal: Journal) -> None:
    """Each transaction balances, and each assertion holds, in the order of dates and then of the file."""
    for transaction in sorted(journal.transactions, key=lambda transaction: transaction.day):
        assert len(transaction.postings) == 2
        assert sum(posting.amount for posting in transaction.postings) == 0, transaction
        for posting in transaction.postings:
            journal.balances[posting.account] += posting.amount
            if posting.asserted is not None:
                assert journal.balances[posting.account] == posting.asserted, transaction


def _ask_hledger(text: str) -> None:
    program = shutil.which("hledger")
    if program is not None:
        command = [program, "--file", "-", "check", "--strict"]
        asked = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert asked.returncode == 0, asked.stderr

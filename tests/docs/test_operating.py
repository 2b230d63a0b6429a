"""docs/operating.md: its tables are those of the code, and its commands print what it says beside a serving Farebox."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.settings import load_settings
from jobs.quota_housekeeping import KEPT
from jobs.timetable import JOBS
from policies.terms import MICRO, Funding, Metric, ModelKey, OnDeadline
from proxy.app import DRAIN_S
from proxy.probes import PATIENCE_S
from proxy.serving import MAX_PAUSE_S
from store.opening import Store, open_store
from store.users import ensure_user
from store.verbs import Request, Reserve, Settle, Usage
from store.verify import LAWS
from tests.docs.pages import (
    DOCS,
    ELSEWHERE,
    Block,
    Terminal,
    blocks,
    examples,
    free_addresses,
    run_as_printed,
)
from tests.proxy.operations.desk import Clock

LATER = "after some months"
"""The title of blocks that need usage which is older than a running Farebox can have."""

PAGE, BEFORE = "operating.md", "behind-farebox.md"
BACKEND, PUBLIC, ADMIN = "127.0.0.1:3000", "127.0.0.1:8080", "127.0.0.1:8081"
HOUSE = DOCS.parent
TOKEN, OTHER = "what-only-one-operator-has", "what-only-another-one-has"


def _text() -> str:
    return (DOCS / PAGE).read_text("utf-8")


def _section(heading: str) -> str:
    return re.split(r"^## ", _text().partition(f"\n## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def _furnish(terminal: Terminal) -> None:
    """The folder that behind-farebox.md leads to, with this page's line about operators."""
    for block in blocks(BEFORE):
        if block.title in ("backend.py", "catalogue.yaml", "farebox.yaml"):
            terminal.write(block)
    admin = next(block.text for block in blocks(PAGE) if block.language == "yaml")
    settings = terminal.folder / "farebox.yaml"
    changed, count = re.subn(r"^admin: .*$", terminal.replaced(admin), settings.read_text(), flags=re.MULTILINE)
    assert count == 1
    settings.write_text(changed)


async def test_the_commands_print_what_the_page_says(tmp_path: Path) -> None:
    """Probes, log, admin API, everyday work and backups, in order, on real processes; and the metrics of the table."""
    terminal = Terminal(tmp_path, {}, free_addresses([BACKEND, PUBLIC, ADMIN]))
    _furnish(terminal)
    before = [example for example in examples(BEFORE) if example.command.title == ELSEWHERE]
    secrets = f"JWT_SECRET=a-secret-of-at-least-thirty-two-bytes FAREBOX_ADMIN_TOKEN={TOKEN} ANA_TOKEN={OTHER}"
    seed = f"export {secrets}; farebox seed catalogue.yaml"
    status, printed = await terminal.run(Block(BEFORE, 0, "sh", "", seed))
    assert status == 0, printed
    async with AsyncExitStack() as servers:
        await servers.enter_async_context(terminal.start(before[0].command, BACKEND))
        for example in examples(PAGE):
            if example.command.title == LATER:
                continue
            if example.command.title == ELSEWHERE:
                await servers.enter_async_context(terminal.start(example.command, PUBLIC))
            else:
                await run_as_printed(example, terminal)
        await _check_metrics(terminal)


async def test_old_usage_is_archived_as_the_page_says(tmp_path: Path) -> None:
    """The job, its files, what reads them, and what the command line says of them afterwards."""
    terminal = Terminal(tmp_path, {"JWT_SECRET": "x" * 32, "FAREBOX_ADMIN_TOKEN": TOKEN, "ANA_TOKEN": OTHER}, {})
    _furnish(terminal)
    retention = next(block.text for block in blocks(PAGE) if block.text.startswith("retention:"))
    settings = tmp_path / "farebox.yaml"
    settings.write_text(f"{settings.read_text()}\n{retention}\n")
    clock = Clock(datetime(2025, 1, 10, tzinfo=UTC))
    async with open_store(load_settings(settings, terminal.environment).database_url, clock) as store:
        await _use_for_three_days(store, clock)
    for example in examples(PAGE):
        if example.command.title == LATER:
            await run_as_printed(example, terminal, exact_moments=True)


async def _use_for_three_days(store: Store, clock: Clock) -> None:
    """A call that is paid, one that is given back in part, and one that fails."""
    user, _ = await ensure_user(store, "ben", None, 100 * MICRO)
    account = user.account.account_id
    request = Request("ben", None, ModelKey("videos:quick"), "generate", "generate", "policy", "tier-models", 1)
    for day in range(3):
        verb = Reserve(store.ids.next(), account, 0, (Funding.CREDITS,), 5 * MICRO, 1, None, request,
                       timedelta(hours=1), OnDeadline.RELEASE)  # fmt: skip
        await store.ledger.reserve(verb)
        if day == 2:
            await store.ledger.release(verb.hold_id, account, "failed")
        else:
            await store.ledger.settle(Settle(verb.hold_id, account, None, Usage(), "answered"))
        if day == 1:
            await store.ledger.refund(verb.hold_id, account, 2 * MICRO, "sorry")
        clock.now += timedelta(days=1)


async def _check_metrics(terminal: Terminal) -> None:
    """The metrics that the running process has, with their labels, are those of the table."""
    with await asyncio.to_thread(urllib.request.urlopen, f"http://{terminal.replaced(ADMIN)}/metrics") as answer:
        page = answer.read().decode()
    samples = re.findall(r"^(farebox_\w+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? \S+$", page, re.MULTILINE)
    found: dict[str, set[str]] = {}
    for name, labels in samples:
        if not name.endswith("_created"):
            found.setdefault(name, set()).update(set(re.findall(r"(\w+)=\"", labels)) - {"le"})
    rows = re.findall(r"^\| `(farebox_\w+)` \|(.*?)\|", _section("Metrics"), re.MULTILINE)
    assert {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == found


def test_the_jobs_are_those_of_the_timetable() -> None:
    """The table of jobs says what there is, when it is due, and what it is for."""
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", _section("Jobs"), re.MULTILINE)
    assert rows == [(job.name, job.when.text, job.sentence) for job in JOBS]


def test_the_laws_are_those_of_the_ledger() -> None:
    """The table of laws is what `farebox ledger verify` checks."""
    assert dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", _section("The ledger's laws"), re.MULTILINE)) == LAWS


def test_the_numbers_are_those_of_the_code() -> None:
    """Seconds that the page names are the constants that rule them."""
    text = " ".join(_text().split())
    assert f"running requests may take {DRAIN_S} s more" in text
    assert f"the database answers within {PATIENCE_S} s" in text
    days, months = KEPT[Metric.DAILY].days, KEPT[Metric.MONTHLY].days
    assert f"dropped {days} days after its end and a monthly one after {months} days" in text
    assert MAX_PAUSE_S == 30
    assert "at most thirty" in text


@pytest.mark.parametrize("message", re.findall(r"^\| `([^`]+)` \| [A-Z].*\|$", _section("The log"), re.MULTILINE))
def test_the_lines_to_look_for_are_logged(message: str) -> None:
    """Each warning of the table stands in the code, word for word."""
    code = "".join(file.read_text("utf-8") for file in (HOUSE / "proxy").rglob("*.py"))
    assert message in code

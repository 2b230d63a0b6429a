"""`farebox` as the shell starts it: real processes, real signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.timetable import JOBS
from tests import canaries
from tests.proxy.cli.console import Console

FAREBOX = [str(Path(sys.executable).with_name("farebox"))]
PATIENCE_S = 60


def _run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAREBOX")}
    ran = subprocess.run(
        [*FAREBOX, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=PATIENCE_S,
        check=False,
    )
    canaries.search("an output", ran.stdout, ran.stderr)
    return ran


@pytest.fixture
def serving(bare: Console) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """A serving process with its scheduler, and the addresses that it announced."""
    command = [*FAREBOX, "serve", "--json", "--config", str(bare.config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
        if process.poll() is None:
            process.terminate()
        canaries.search("an output", *process.communicate(timeout=PATIENCE_S))


def test_the_settings_of_the_working_directory_are_the_default(console: Console) -> None:
    """Without --config and FAREBOX_CONFIG, farebox.yaml where the command is run."""
    assert _run("accounts", "create", "ana", "--json", folder=console.folder).returncode == 0
    elsewhere = console.folder / "elsewhere"
    elsewhere.mkdir()
    result = _run("accounts", "list", folder=elsewhere)
    assert (result.returncode, result.stdout) == (2, "")
    assert "There is no settings file farebox.yaml" in result.stderr


def test_the_overview_imports_nothing_heavy(bare: Console) -> None:
    """`farebox --help` is quick because it knows neither the database, nor the server, nor the table library."""
    code = (
        "import sys; from proxy.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = ('sqlalchemy', 'aiohttp', 'rich', 'pydantic', 'casbin', 'asyncio')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_serving_announces_itself_and_ends_cleanly(serving: tuple[subprocess.Popen[str], dict[str, str]]) -> None:
    """One line once everything can be reached; SIGTERM ends it with 0."""
    process, addresses = serving
    for page in ("livez", "readyz", "metrics"):
        with urllib.request.urlopen(f"http://{addresses['admin']}/{page}", timeout=10) as answer:
            assert answer.status == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=PATIENCE_S) == 0


def test_a_port_in_use_is_told(bare: Console) -> None:
    """Which address, and what to do; nothing else has been touched."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        bare.config.write_text(bare.config.read_text().replace("\nlisten: 127.0.0.1:0", f"\nlisten: 127.0.0.1:{port}"))
        result = _run("serve", folder=bare.folder)
    assert result.returncode == 1
    assert f"annot listen on 127.0.0.1:{port}" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (bare.folder / "farebox.db").exists()


def test_serving_with_an_invalid_policy_does_not_start(bare: Console) -> None:
    """The finding with its place; nothing may be forwarded without a valid policy."""
    (bare.folder / "policies").mkdir()
    (bare.folder / "policies" / "main.yaml").write_text("version: 1\nrules: [{id: x, allow: use, who: {tier: gold}}]\n")
    bare.config.write_text(bare.config.read_text() + "policies: policies/\n")
    result = _run("serve", folder=bare.folder)
    assert result.returncode == 1
    assert "policies/main.yaml:2:41: unknown-tier: unknown tier 'gold'" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_scheduler_ends_with_its_signal(console: Console) -> None:
    """SIGTERM lets the jobs under way finish, and ends with 0."""
    with subprocess.Popen([*FAREBOX, "jobs", "--config", str(console.config)], stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + PATIENCE_S
        done: set[str] = set()
        while len(done) < len(JOBS) and time.monotonic() < deadline:
            time.sleep(0.1)
            done = {row["job"] for row in console.json("jobs", "list")["jobs"] if row["last_success"]}
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
    assert done == {job.name for job in JOBS}


def test_a_closed_pipe_is_no_fault(console: Console) -> None:
    """`farebox … | head` ends quietly."""
    command = f"'{FAREBOX[0]}' policy schema --config '{console.config}' | head -1"
    shell = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert shell.stdout == "{\n"
    assert "Traceback" not in shell.stderr

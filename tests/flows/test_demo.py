"""The demo, as a stranger runs it: one command, and every line that it prints, as printed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from proxy.demo import LINES


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What the running demo has printed."""
    folder = tmp_path_factory.mktemp("demo")
    environment = {**os.environ, "FAREBOX_LISTEN": free_address(), "FAREBOX_ADMIN_LISTEN": free_address()}
    command = [sys.executable, "-m", "proxy.cli", "demo", "--folder", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line.strip() == LINES[-1].command:
            break
    yield text
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0, "Ctrl-C ends the demo cleanly"


def test_every_printed_line_works_as_printed(printed: str) -> None:
    """Copied into a shell in the printed order, each line shows what it says: 402, 403, 429 and the refund too."""
    exports = [line for line in printed.splitlines() if line.startswith("export ")]
    assert len(exports) == 8, "what the lines use, and what the command line needs"
    script = exports + [f"{line.command}\necho; echo '=== end of {index}'" for index, line in enumerate(LINES)]
    for line in LINES:
        assert line.command in printed
    shell = subprocess.run(["bash", "-c", "\n".join(script)], capture_output=True, text=True, timeout=120, check=True)
    rest = shell.stdout
    for index, line in enumerate(LINES):
        output, _, rest = rest.partition(f"=== end of {index}\n")
        assert line.expect in output, f"{line.shows}\n{output}"


def test_the_refund_of_the_failed_job_is_in_the_balance(printed: str) -> None:
    """After the lines above, what the failed job had reserved is spendable again: 402 came at the true balance."""
    exports = "\n".join(line for line in printed.splitlines() if line.startswith("export "))
    command = exports + '\ncurl -s "$FAREBOX/api/credits/balance" -H "Authorization: Bearer $PAYG"'
    output = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout
    # 100 credits, less calls of five credits each and two chats of a fraction: less than five are left.
    assert '"balance":4.' in output, output

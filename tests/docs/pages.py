"""The pages of docs/ as tests read them: their code blocks, run in a shell, and their outputs, compared.

A block of `sh` that is followed by one of `json` or `text` prints just that. In what is printed, `…` stands for what
was left out: as a line of text, as the last item of a list, as a key of an object. Ids and keys, which differ from run
to run, only have to be of the same kind.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"

ELSEWHERE = "in a terminal of its own"
"""The title of a block that starts a server."""

_FENCE = re.compile(r"^```(\w*) ?(.*)$")
_TIME_OUT_S = 60

_KINDS = {
    "<request id>": r"\b[0-9A-HJKMNP-TV-Z]{13}\b",
    "<key>": r"\bfbx_[\w-]{8,}",
    "<backend id>": r"\b[0-9a-f]{20,}\b",
    "<revision>": r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{12}\b",
    "<holder>": r"\b[\w.-]+:[0-9]+:<revision>",
}
_MOMENTS = {"<moment>": r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "<day>": r"\b\d{4}-\d\d-\d\d\b"}


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. `title` is what stands after the language, such as the name of a file."""

    page: str
    line: int
    language: str
    title: str
    text: str

    @property
    def place(self) -> str:
        return f"docs/{self.page}:{self.line}"


@dataclass(frozen=True, slots=True)
class Example:
    """Commands, and what they print if the page says so."""

    command: Block
    output: Block | None


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    found: list[Block] = []
    opened: tuple[int, str, str] | None = None
    lines: list[str] = []
    for number, line in enumerate((DOCS / page).read_text("utf-8").splitlines(), 1):
        if opened is None:
            fence = _FENCE.match(line)
            if fence is not None:
                opened, lines = (number, fence[1], fence[2]), []
        elif line == "```":
            found.append(Block(page, opened[0], opened[1], opened[2], "\n".join(lines)))
            opened = None
        else:
            lines.append(line)
    assert opened is None, f"a block of {page} does not end"
    return found


def examples(page: str) -> list[Example]:
    """The blocks of commands of a page, each with the output that follows it."""
    all_blocks = blocks(page)
    following = [*all_blocks[1:], None]
    return [
        Example(block, then if then is not None and then.language in ("json", "text") else None)
        for block, then in zip(all_blocks, following, strict=True)
        if block.language == "sh"
    ]


class Terminal:
    """A shell in a folder: variables outlive a block. `addresses` replaces those that pages print by free ones."""

    def __init__(self, folder: Path, variables: Mapping[str, str], addresses: Mapping[str, str]) -> None:
        self.folder = folder
        self._addresses = addresses
        binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": binaries, "PYTHONUNBUFFERED": "1", "LC_ALL": "C.UTF-8", **variables}
        self._state = folder / ".terminal"

    def replaced(self, text: str) -> str:
        for address, free in self._addresses.items():
            text = text.replace(address, free)
        return text

    def restored(self, text: str) -> str:
        for address, free in self._addresses.items():
            text = text.replace(free, address)
        return text

    def write(self, block: Block) -> None:
        """The file that a block shows, under the name in its title."""
        path = self.folder / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.replaced(block.text) + "\n", "utf-8")

    async def run(self, block: Block) -> tuple[int, str]:
        """The status of the last command, and everything that was printed."""
        state = shlex.quote(str(self._state))
        script = f"[ -f {state} ] && . {state}\nset -a\n{self.replaced(block.text)}\nstatus=$?\nexport -p > {state}\n"
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", script + "exit $status", cwd=self.folder, env=self.environment,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(process.communicate(), _TIME_OUT_S)
        assert process.returncode is not None, "the process has ended"
        return process.returncode, self.restored(output.decode())

    @asynccontextmanager
    async def start(self, block: Block, address: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """The server that a block starts, from when it listens on `address` until it is told to end."""
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", self.replaced(block.text), cwd=self.folder, env=self.environment, start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            await asyncio.wait_for(_listens(self.replaced(address), process), _TIME_OUT_S)
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            await process.communicate()


async def _listens(address: str, process: asyncio.subprocess.Process) -> None:
    host, _, port = address.rpartition(":")
    while process.returncode is None:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return
    assert process.stderr is not None, "it was asked for"
    raise AssertionError((await process.stderr.read()).decode())


def free_addresses(addresses: Iterable[str]) -> dict[str, str]:
    """For each address on a page one that nobody listens on; also as Python writes a pair of host and port."""
    found: dict[str, str] = {}
    with ExitStack() as stack:
        for address in addresses:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            host, port = listener.getsockname()
            found[address] = f"{host}:{port}"
            found['"{}", {}'.format(*address.split(":"))] = f'"{host}", {port}'
    return found


async def run_as_printed(example: Example, terminal: Terminal, *, exact_moments: bool = False) -> None:
    """Run the commands of an example. They succeed, or they print what the page says."""
    status, printed = await terminal.run(example.command)
    if example.output is None:
        assert status == 0, f"{example.command.place} ended with {status}:\n{printed}"
    elif example.output.language == "json":
        assert_json(example.output, printed, exact_moments)
    else:
        assert_text(example.output, printed, exact_moments)


def assert_json(expected: Block, printed: str, exact_moments: bool) -> None:
    """The output is the JSON of the block, key by key."""
    try:
        actual = json.loads(printed)
    except ValueError:
        raise AssertionError(f"{expected.place}: not JSON:\n{printed}") from None
    differences = list(_differences(json.loads(expected.text), actual, "$", exact_moments))
    told = json.dumps(actual, indent=2, ensure_ascii=False)
    assert not differences, f"{expected.place}:\n" + "\n".join(differences) + f"\nprinted:\n{told}"


def _differences(expected: Any, actual: Any, path: str, exact: bool) -> Iterator[str]:
    if isinstance(expected, dict) and isinstance(actual, dict):
        left_out = "…" in expected
        for key in expected.keys() - {"…"} - actual.keys():
            yield f"{path}.{key} is not there"
        for key in actual.keys() - expected.keys() if not left_out else ():
            yield f"{path}.{key} is not on the page"
        for key in expected.keys() & actual.keys():
            yield from _differences(expected[key], actual[key], f"{path}.{key}", exact)
    elif isinstance(expected, list) and isinstance(actual, list):
        left_out = expected[-1:] == ["…"]
        wanted = expected[:-1] if left_out else expected
        if len(actual) < len(wanted) or (len(actual) > len(wanted) and not left_out):
            yield f"{path} has {len(actual)} items, not {len(wanted)}"
        for index, (one, other) in enumerate(zip(wanted, actual, strict=False)):
            yield from _differences(one, other, f"{path}[{index}]", exact)
    elif isinstance(expected, str) and isinstance(actual, str):
        if expected != "…" and kinds(expected, exact) != kinds(actual, exact):
            yield f"{path} is {actual!r}, not {expected!r}"
    elif expected != actual or isinstance(expected, bool) != isinstance(actual, bool):
        yield f"{path} is {actual!r}, not {expected!r}"


def assert_text(expected: Block, printed: str, exact_moments: bool) -> None:
    """The output has the lines of the block, in their order; empty ones do not count."""
    wanted = [line for line in kinds(expected.text, exact_moments).splitlines() if line.strip()]
    got = [line for line in kinds(printed, exact_moments).splitlines() if line.strip()]
    assert _fits(wanted, got), f"{expected.place}: expected\n" + "\n".join(wanted) + "\nprinted\n" + "\n".join(got)


def _fits(wanted: list[str], got: list[str]) -> bool:
    if not wanted:
        return not got
    if wanted[0] == "…":
        return any(_fits(wanted[1:], got[at:]) for at in range(len(got) + 1))
    return bool(got) and _same_line(wanted[0], got[0]) and _fits(wanted[1:], got[1:])


def _same_line(wanted: str, got: str) -> bool:
    """Equal but for the width of columns, and for what a trailing … leaves out."""
    one, other = " ".join(wanted.split()), " ".join(got.split())
    return other.startswith(one.removesuffix("…").rstrip()) if one.endswith("…") else one == other


def kinds(text: str, exact_moments: bool = False) -> str:
    """The text with the names of their kinds in place of ids, keys and (mostly) moments."""
    for name, pattern in {**_KINDS, **({} if exact_moments else _MOMENTS)}.items():
        text = re.sub(pattern, name, text)
    return text

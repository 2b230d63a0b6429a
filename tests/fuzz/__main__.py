"""`make fuzz`: every target, or one, under a fuzzer that follows what the code does with an input.

    python -m tests.fuzz [--seconds 60] [--target all] [--keep] [--json]

Each target begins with the inputs of its corpus. Inputs that reach something new can be kept there, and one that finds
a fault should be: it is printed with its fault, as short as it could be made.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

from tests.fuzz import corpus, smaller
from tests.fuzz.corpus import LONGEST, NAMES, Target

EVERY_S = 10
"""Between two lines about the progress of a target."""

SLOW_S = 10
"""For one input; longer is a fault as well."""

_PROGRESS = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+)")


@dataclass
class Result:
    """What became of one target. `covered` counts branches as the fuzzer sees them, `new` inputs that reached more."""

    target: str
    seconds: float = 0
    executions: int = 0
    covered: int = 0
    new: int = 0
    kept: int = 0
    fault: str | None = None
    input: str | None = None

    def line(self) -> str:
        speed = self.executions / self.seconds if self.seconds else 0
        text = f"{self.target:15} {self.seconds:5.0f} s {self.executions:10,} executions {speed:8,.0f}/s"
        text += f" {self.covered:5} covered {self.new:5} new inputs"
        return f"{text}\n{'':15} FAULT {self.fault}\n{'':15} {self.input}" if self.fault else text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--target", choices=["all", *NAMES], default="all")
    parser.add_argument("--keep", action="store_true", help="write what reaches more, and what finds a fault, down")
    parser.add_argument("--json", action="store_true", help="the results as JSON, and progress on standard error")
    options = parser.parse_args()
    if find_spec("atheris") is None:
        print("make fuzz needs atheris, which is there for Linux on x86-64; the suite tries all targets anywhere")
        return 2
    logging.disable()
    results = []
    for name in NAMES if options.target == "all" else [options.target]:
        results.append(_fuzz(corpus.load(name), options.seconds, options.keep))
        print(results[-1].line(), file=sys.stderr if options.json else sys.stdout, flush=True)
    if options.json:
        print(json.dumps([asdict(result) for result in results], indent=1))
    return int(any(result.fault for result in results))


def _fuzz(target: Target, seconds: int, keep: bool) -> Result:
    with tempfile.TemporaryDirectory(prefix="farebox-fuzz-") as made:
        folder = Path(made) / "inputs"
        folder.mkdir()
        for number, data in enumerate(target.inputs):
            (folder / f"known-{number}").write_bytes(data)
        result = _run(target, seconds, Path(made))
        # The fuzzer names what it has found by its hash.
        new = [file.read_bytes() for file in folder.iterdir() if not file.name.startswith("known-")]
        result.new = len(new)
        if keep:
            adding = smaller.that_add(target.check, target.inputs, new)
            corpus.add(corpus.file_of(target.name), adding)
            result.kept = len(adding)
        for file in Path(made).glob("found-*"):
            _tell(target, smaller.shortened(target.check, file.read_bytes()), result, keep)
    return result


def _run(target: Target, seconds: int, made: Path) -> Result:
    """Under the fuzzer until the time is over, or something is found."""
    (made / "words").write_text("".join(map(_quoted, target.words)), "ascii")
    command = [sys.executable, "-m", "tests.fuzz.child", target.name, str(made / "inputs"), f"-dict={made / 'words'}"]
    command += [f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-timeout={SLOW_S}", "-rss_limit_mb=1024"]
    command += [f"-artifact_prefix={made}/found-"]
    result, started, told = Result(target.name), perf_counter(), perf_counter()
    said: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None, "it is a pipe"
        for line in process.stderr:
            said = [*said[-30:], line]
            result.seconds = round(perf_counter() - started, 1)
            if progress := _PROGRESS.match(line):
                result.executions, result.covered = int(progress[1]), int(progress[2])
            if perf_counter() - told > EVERY_S:
                told = perf_counter()
                print(result.line(), file=sys.stderr, flush=True)
    if process.returncode:
        result.fault = f"the fuzzer ended with {process.returncode}:\n{''.join(said)}"
    return result


def _quoted(word: bytes) -> str:
    """A line of a dictionary, as libFuzzer reads them."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n'


def _tell(target: Target, data: bytes, result: Result, keep: bool) -> None:
    result.fault, result.input = smaller.fault_of(target.check, data) or "too slow, or too large", repr(data)
    if keep:
        corpus.add(corpus.file_of(target.name), [data], f"found {result.fault}")


if __name__ == "__main__":
    sys.exit(main())

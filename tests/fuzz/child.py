"""One target under the coverage-guided fuzzer, in a process of its own, because libFuzzer ends the process it is in.

    python -m tests.fuzz.child TARGET FOLDER [libFuzzer's options]

Started by `tests.fuzz.__main__`, which reads what libFuzzer says of its progress.
"""

from __future__ import annotations

import logging
import sys

import atheris

from tests.fuzz import corpus


def main(name: str, *arguments: str) -> None:
    logging.disable()
    # What is imported from here on is watched: our rooms and the target itself, and no library.
    with atheris.instrument_imports(
        include=["proxy", "policies", "config", "tests.fuzz.targets"], enable_loader_override=False
    ):
        target = corpus.load(name)
    atheris.Setup([sys.argv[0], *arguments], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What is wrong with a file, and where: one line that a person and an editor can jump to.

policies/main.yaml:14:12: unknown-tier: unknown tier 'por'; did you mean 'pro'?
   14 |     who: {tier: por}
      |                 ^
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """`line` and `column` count from 1; `source` is the line of the file with its secrets masked, for the caret."""

    file: str
    line: int
    column: int
    code: str
    message: str
    source: str = ""
    severity: Literal["error", "warning"] = "error"
    """A warning is a doubt: it keeps nothing from being put in force."""

    def __str__(self) -> str:
        mark = "" if self.is_error else "warning: "
        head = f"{self.file}:{self.line}:{self.column}: {mark}{self.code}: {self.message}"
        if not self.source:
            return head
        # A tab stays a tab, so that the caret stands below its place however wide tabs are shown.
        before = "".join("\t" if character == "\t" else " " for character in self.source[: self.column - 1])
        return f"{head}\n{self.line:5d} | {self.source}\n{'':5s} | {before.ljust(self.column - 1)}^"

    @property
    def is_error(self) -> bool:
        return self.severity == "error"

    def as_json(self) -> dict[str, object]:
        return asdict(self)


class InvalidDocument(Exception):
    """A file, or several, that cannot be used. Carries every finding, not only the first.

    `rest` is what a single file says without what is wrong with it, where that still is a document, and its source: not
    to be used, but to be looked at for what else is wrong.
    """

    def __init__(self, findings: Sequence[Finding], rest: object = None) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = tuple(findings)
        self.rest: Any = rest


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """A suggestion to append to a message, or the known names when they are few, or nothing."""
    known = [str(candidate) for candidate in candidates]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(known)}" if 0 < len(known) <= 12 else ""

"""What went wrong, as a sentence that says what to do, and the exit code for scripts."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from proxy.cli.invocation import Invocation

OK, REFUSED, USAGE, STORE, FAULT = 0, 1, 2, 3, 70

EXIT_CODES = """\
   0  done
   1  a finding, a refusal, or a breach of the ledger's invariants
   2  the command line is wrong
   3  the database cannot be reached or used
  70  a fault of Farebox itself"""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ends that could not do its work. `details` are for --json."""

    code: int
    sentence: str
    details: dict[str, Any] = field(default_factory=dict)
    as_json: bool = False

    def tell(self) -> None:
        """The sentence on standard error; with --json the same as an object on standard output."""
        if self.as_json:
            click.echo(json.dumps({"ok": False, "error": self.sentence, **self.details}, indent=2, ensure_ascii=False))
        else:
            click.echo(self.sentence, err=True)


def ending_of(error: Exception, invocation: Invocation | None) -> Ending:
    """The ending for an error that no command expected. With FAREBOX_DEBUG set the error itself is raised."""
    if os.environ.get("FAREBOX_DEBUG"):
        raise error
    config = invocation.config if invocation else "farebox.yaml"
    code, sentence, details = _told(error, str(config))
    return Ending(code, sentence, details, as_json=invocation is not None and invocation.json)


def _told(error: Exception, config: str) -> tuple[int, str, dict[str, Any]]:
    # Imported here: most commands fail for none of these reasons, and the overview must not wait for them.
    from config.findings import InvalidDocument
    from store.engine import StoreUnavailable
    from store.schema import SchemaOutdated

    if isinstance(error, InvalidDocument):
        return REFUSED, str(error), {"findings": [finding.as_json() for finding in error.findings]}
    if isinstance(error, SchemaOutdated):
        return STORE, f"{_sentence(error)}.", {}
    if isinstance(error, StoreUnavailable):
        hint = f"check that `database` in {config} names a database that runs and may be written to"
        return STORE, f"The database cannot be used: {error}; {hint}.", {}
    if isinstance(error, ModuleNotFoundError) and error.name in ("asyncpg", "psycopg"):
        return STORE, f"The driver of the database is missing; run: pip install {error.name}", {}
    from store.archive_files import ArchiveTrouble

    if isinstance(error, OSError | ArchiveTrouble):
        return REFUSED, f"{_sentence(error)}.", {}
    from proxy.app import CannotStart

    if isinstance(error, CannotStart):
        return REFUSED, f"{_sentence(error)}.", {}
    return FAULT, f"Farebox failed: {type(error).__name__}: {error}. FAREBOX_DEBUG=1 shows where.", {}


def _sentence(error: object) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]

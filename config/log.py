"""The log: lines on standard error, for people or as JSON. Set up once, at the start of a process.

What is logged goes through the standard library, so that libraries' warnings arrive in the same place. Whoever logs
takes care that no secret and no body is in it; here lines are only made safe to read and to parse.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from config.settings import Log

MAX_LINE = 16_000
"""Characters of one message; longer ones are cut, since a log collector would cut them somewhere worse."""

_TALKATIVE = ("alembic", "casbin", "aiosqlite")
"""Libraries whose ordinary progress would bury ours, with the values of every statement; their warnings are told."""

_STANDARD = frozenset(vars(logging.makeLogRecord({})))


def set_up_log(settings: Log) -> None:
    """Make the settings hold for the whole process. Replaces what was set up before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if settings.format == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)


class TextLines(logging.Formatter):
    """`2026-01-15T12:00:00.000Z WARNING proxy.rulebooks: message`. Control characters cannot imitate another line."""

    def format(self, record: logging.LogRecord) -> str:
        text = f"{_at(record)} {record.levelname} {record.name}: {_message(self, record)}"
        # The lines of one message after the first are indented, so that each record begins where a line does.
        return "\n    ".join(map(_printable, text.split("\n")))


class JsonLines(logging.Formatter):
    """One JSON object on each line: `at`, `level`, `logger`, `message`, and whatever was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {"at": _at(record), "level": record.levelname.lower(), "logger": record.name}
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        return json.dumps(line | {"message": _message(self, record)} | extra, default=str, ensure_ascii=False)


def _at(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info:
        text += "\n" + formatter.formatException(record.exc_info)
    return text if len(text) <= MAX_LINE else text[:MAX_LINE] + " …"


def _printable(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in line)

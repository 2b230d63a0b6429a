"""The lines of the log."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from config.log import MAX_LINE, JsonLines, TextLines, set_up_log
from config.settings import Log


@pytest.fixture
def restored() -> Iterator[None]:
    """The log of the test run is as it was, afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def _record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    record = logging.LogRecord("farebox.test", logging.WARNING, "file.py", 1, message, arguments, None)
    record.created = 1_768_473_000.25
    vars(record).update(extra)
    return record


def test_a_line_for_people_has_moment_level_and_source() -> None:
    """In UTC, to the millisecond."""
    assert TextLines().format(_record("hello %s", "world")) == (
        "2026-01-15T10:30:00.250Z WARNING farebox.test: hello world"
    )


def test_a_message_cannot_imitate_another_line() -> None:
    """What strangers wrote may contain line breaks and terminal commands: breaks are indented, commands replaced."""
    text = TextLines().format(_record("from %s", "x\n2026-01-15T10:30:00.250Z INFO farebox: all is well\x1b[2K\r"))
    _, second = text.split("\n")
    assert second.startswith("    2026")
    assert "\x1b" not in text
    assert "\r" not in text


def test_a_json_line_is_one_object_on_one_line() -> None:
    """With whatever else was given, also what JSON does not know."""
    line = JsonLines().format(_record("a\nb", request_id="R1", hold={1, 2}))
    assert "\n" not in line
    assert json.loads(line) == {
        "at": "2026-01-15T10:30:00.250Z",
        "level": "warning",
        "logger": "farebox.test",
        "message": "a\nb",
        "request_id": "R1",
        "hold": "{1, 2}",
    }


def test_a_fault_keeps_its_trace() -> None:
    """In both formats, in the same record."""
    record = _record("failed")
    try:
        raise ValueError("the reason")
    except ValueError:
        record.exc_info = sys.exc_info()
    assert "ValueError: the reason" in TextLines().format(record)
    assert "ValueError: the reason" in json.loads(JsonLines().format(record))["message"]


def test_a_message_has_a_bound() -> None:
    """A line is cut rather than written without end."""
    assert len(TextLines().format(_record("x" * 1_000_000))) < MAX_LINE + 100


def test_the_level_of_the_settings_holds_for_everybody(restored: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Below it nothing is written; warnings of Python arrive in the log; talkative libraries are quiet."""
    set_up_log(Log(level="info", format="json"))
    logging.getLogger("proxy.anything").debug("not written")
    logging.getLogger("proxy.anything").info("written")
    logging.getLogger("alembic.runtime").info("not written")
    logging.getLogger("casbin.policy").info("not written")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message"] for line in lines] == ["written"]


def test_setting_up_twice_writes_every_line_once(restored: None, capsys: pytest.CaptureFixture[str]) -> None:
    """The later settings win."""
    set_up_log(Log(format="json"))
    set_up_log(Log(format="text"))
    logging.getLogger("proxy.anything").warning("once")
    assert capsys.readouterr().err.count("once") == 1

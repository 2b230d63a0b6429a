"""The thread that empties SQLite's log ends when it is told to, whenever that is."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from store.checkpoints import Checkpoints

PATIENCE_S = 10


class _SetAfterTheLook(threading.Event):
    """Set, with the event beside it, at the worst moment: when the thread has just seen that it is not."""

    def __init__(self, beside: threading.Event) -> None:
        super().__init__()
        self._beside = beside

    def wait(self, timeout: float | None = None) -> bool:
        seen = super().wait(timeout)
        self.set()
        self._beside.set()
        return seen


def test_it_ends_when_it_is_closed_between_its_pause_and_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that stops must not wait for a thread that waits for work."""
    monkeypatch.setattr("store.checkpoints.PAUSE_S", 0)
    checkpoints = Checkpoints(str(tmp_path / "farebox.db"))
    checkpoints._closing = _SetAfterTheLook(checkpoints._wanted)
    checkpoints.wanted()
    checkpoints._thread.join(PATIENCE_S)
    assert not checkpoints._thread.is_alive()

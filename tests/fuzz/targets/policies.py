"""Any text as a policy beside a live one: in force as a whole, or nothing changes and everything wrong is told."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from tests.proxy.test_policy_fuzz import VALID
from tests.proxy.test_policy_fuzz import WORDS as TEXTS
from tests.proxy.test_policy_fuzz import check as judged

WORDS = [*(word.encode() for word in TEXTS), b"\n", b"\n  ", b": ", b"- {id: ", b"when: ", b"${A}", b"\0"]
SLOW = True
SEEDS = [VALID.encode()]


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="farebox-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def check(data: bytes) -> None:
    judged(_folder(), data.decode("utf-8", "replace"))

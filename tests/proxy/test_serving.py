"""What a serving process makes of its own limits."""

from __future__ import annotations

import subprocess
import sys


def test_as_many_files_as_the_system_allows() -> None:
    """The soft limit is raised to the hard one; five hundred streams need a thousand descriptors."""
    program = """
import resource
from proxy.serving import allow_descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 4096))
allow_descriptors()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "(4096, 4096)"


def test_what_stays_for_ever_is_not_looked_at_again() -> None:
    """After the start the garbage collector has nothing to go through but what requests leave behind."""
    program = """
import gc
import proxy.app
from proxy.serving import settle_memory
before = len(gc.get_objects())
settle_memory()
print(before > 50_000, gc.get_freeze_count() > 50_000, len(gc.get_objects()) < 1_000)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True"] * 3

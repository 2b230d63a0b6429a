"""Time zones by name: those of the machine, or of the package where it has none, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.time_zones import UnknownZone, zone_named, zone_names


def test_every_name_is_a_zone() -> None:
    """The same name is the same object, as comparing plans needs it."""
    for name in zone_names():
        zone = zone_named(name)
        assert (str(zone), zone_named(name)) == (name, zone)
        assert datetime(2025, 1, 1, tzinfo=zone).utcoffset() is not None
    assert zone_named("UTC") is UTC


@pytest.mark.parametrize(
    "name", ["", "Jakarta", "UTC+7", "localtime", "Factory", "posixrules", "America", "/etc/localtime"]
)
def test_what_is_not_a_zone_is_refused(name: str) -> None:
    """The machine's own setting too: two nodes could have two of it."""
    with pytest.raises(UnknownZone, match="unknown time zone"):
        zone_named(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Asia/Jakart", "did you mean 'Asia/Jakarta'"),
        ("america/new_york", "did you mean 'America/New_York'"),
        ("WIB", "expected an IANA name, such as Asia/Jakarta"),
    ],
)
def test_what_was_meant_is_told(name: str, meant: str) -> None:
    """The nearest name, or what a name looks like."""
    with pytest.raises(UnknownZone, match=meant):
        zone_named(name)


@given(st.text(max_size=300))
def test_any_text_is_a_zone_or_is_refused(name: str) -> None:
    """Paths, control characters and surrogates open no file outside of the zones."""
    with suppress(UnknownZone):
        assert isinstance(zone_named(name), ZoneInfo | type(UTC))


def test_a_machine_without_zones_has_those_of_the_package() -> None:
    """Slim containers have no zone files."""
    program = "from config.time_zones import *; print(zone_named('Asia/Jakarta'), len(zone_names()) > 400)"
    environment = {**os.environ, "PYTHONTZPATH": ""}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout == "Asia/Jakarta True\n"

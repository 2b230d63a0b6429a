"""Time zones by their IANA names: `Asia/Jakarta` as seeds write it and the store keeps it, or what was meant instead.

A zone's rules are facts from outside: they stand in files of the machine, or of the `tzdata` package where it has
none. They are read here, once for each zone, and handed down as a `tzinfo`, so that what decides with them opens
nothing. Called by the seeds, which check a name, and by the store, which reads one back.
"""

from __future__ import annotations

from datetime import UTC, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from config.findings import did_you_mean

_NOT_ZONES = frozenset({"localtime", "Factory", "posixrules"})
"""Files beside the zones. `localtime` is whatever the machine is set to, so that two nodes could disagree about it."""


class UnknownZone(ValueError):
    """There is no time zone of this name; the message says which was probably meant."""


def zone_names() -> frozenset[str]:
    """Every name that may be used."""
    return frozenset(available_timezones() - _NOT_ZONES)


# Bounded by the zones that there are: what is not one raises, and that is not remembered. The same name must be the
# same object, since zones are compared by identity, and a plan is compared with itself when it is stored.
@cache
def zone_named(name: str) -> tzinfo:
    """The zone of a name. Raises UnknownZone."""
    if name == "UTC":
        return UTC
    try:
        if name not in _NOT_ZONES:
            return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        # No such file, or not the name of one.
        pass
    meant = did_you_mean(name, sorted(zone_names())) or "; expected an IANA name, such as Asia/Jakarta"
    raise UnknownZone(f"unknown time zone {name!r}{meant}")

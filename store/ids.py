"""Request ids: 63-bit integers that grow with time and never meet, also between processes.

    41 bits milliseconds since 2024 · 10 bits process · 12 bits sequence

The process number is the count of processes ever started on this database, modulo 1024, taken once at start. A hold
has the id of its request, so one request can never have two holds, and rows inserted together stand together.
As text an id is thirteen characters of Crockford's base 32, which sort like the numbers.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from config.clock import Clock
from policies.terms import HoldId

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_SEQUENCE_BITS, _PROCESS_BITS = 12, 10
IDS_PER_MS = 1 << (_PROCESS_BITS + _SEQUENCE_BITS)
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_LENGTH = 13
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
"""Two characters for each ten bits: an id is written with every request."""


class IdGenerator:
    """Ids of one process. A clock that steps back is waited out by counting on from the last millisecond."""

    def __init__(self, process_number: int, clock: Clock) -> None:
        self._process = process_number % (1 << _PROCESS_BITS)
        self._clock = clock
        self._last_ms = 0
        self._sequence = 0

    def next(self) -> HoldId:
        now_ms = (self._clock() - EPOCH) // _MILLISECOND
        if now_ms > self._last_ms:
            self._last_ms, self._sequence = now_ms, 0
        elif self._sequence + 1 < 1 << _SEQUENCE_BITS:
            self._sequence += 1
        else:
            # More than 4096 ids in a millisecond: borrow the next one.
            self._last_ms, self._sequence = self._last_ms + 1, 0
        prefix = self._last_ms << _PROCESS_BITS | self._process
        return HoldId(prefix << _SEQUENCE_BITS | self._sequence)


def first_id_at(moment: datetime) -> HoldId:
    """The smallest id of a moment, to cut a range of ids by time."""
    return HoldId((moment - EPOCH) // _MILLISECOND * IDS_PER_MS)


def moment_of(hold_id: int) -> datetime:
    """When the request came, to the millisecond."""
    return EPOCH + hold_id // IDS_PER_MS * _MILLISECOND


def id_text(hold_id: int) -> str:
    high, low, pairs = hold_id >> 30, hold_id & 0x3FFFFFFF, _PAIRS
    front = _ALPHABET[high >> 30] + pairs[high >> 20 & 1023] + pairs[high >> 10 & 1023] + pairs[high & 1023]
    return front + pairs[low >> 20] + pairs[low >> 10 & 1023] + pairs[low & 1023]


def parse_id(text: str) -> HoldId | None:
    """The id that a text stands for, or None when it is not one."""
    value = 0
    for character in text.upper() if len(text) == _LENGTH and text.isascii() else "-":
        if character not in _VALUES:
            return None
        value = value * 32 + _VALUES[character]
    return HoldId(value) if value < 1 << 63 else None

"""Durations, sizes and addresses: units are said, bounds are kept, and no number is too long to be refused."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from config.quantities import MAX_DURATION, MAX_SIZE, Address, Duration, ListenAddress, Size

_duration: TypeAdapter[timedelta] = TypeAdapter(Duration)
_size: TypeAdapter[int] = TypeAdapter(Size)
_address: TypeAdapter[Address] = TypeAdapter(ListenAddress)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1ms", 0.001), ("1500ms", 1.5), ("30s", 30), ("5m", 300), ("2h", 7200), ("7d", 604_800), ("3660d", 316_224_000)],
)
def test_durations(text: str, seconds: float) -> None:
    """A whole number and one of ms, s, m, h, d."""
    assert _duration.validate_python(text).total_seconds() == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        "5",
        5,
        5.0,
        True,
        None,
        [],
        "5 s",
        " 5s",
        "5s ",
        "5s\n",
        "-5s",
        "+5s",
        "5.5s",
        "1e3s",
        "5S",
        "5sec",
        "s",
        "5m30s",
        "٣s",
        "0s",
        "0ms",
        "3661d",
        "9" * 12 + "d",
        "9" * 5_000 + "s",
        "9" * 400 + "ms",
    ],
)
def test_what_is_no_duration(value: object) -> None:
    """Bare numbers, other spellings, zero, and more than ten years, by however many digits."""
    with pytest.raises(ValidationError, match="expected a duration"):
        _duration.validate_python(value)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1B", 1), ("64KiB", 65_536), ("10kB", 10_000), ("1MiB", 2**20), ("10MB", 10_000_000), ("1GiB", 2**30)],
)
def test_sizes(text: str, size: int) -> None:
    """Decimal and binary units are told apart."""
    assert _size.validate_python(text) == size


@pytest.mark.parametrize(
    "value",
    [
        "",
        "5",
        5,
        True,
        None,
        "1 MiB",
        "1mib",
        "1MIB",
        "1K",
        "-1B",
        "1.5MiB",
        "0B",
        "0GiB",
        "2GiB",
        "1073741825B",
        "9" * 5_000 + "B",
        "٣B",
    ],
)
def test_what_is_no_size(value: object) -> None:
    """Bare numbers, other spellings, zero, and more than is kept in memory for one request."""
    with pytest.raises(ValidationError, match="expected a size"):
        _size.validate_python(value)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("localhost:0", "localhost", 0),
        ("0.0.0.0:65535", "0.0.0.0", 65535),
        ("[::1]:8080", "::1", 8080),
        ("[::ffff:127.0.0.1]:80", "::ffff:127.0.0.1", 80),
        ("farebox.internal:443", "farebox.internal", 443),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    """Host and port, IPv6 in brackets; written back the same."""
    address = _address.validate_python(text)
    assert (address.host, address.port) == (host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    "value",
    [
        "",
        "8080",
        8080,
        ":8080",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:http",
        "::1:8080",
        "[::1]",
        "[::1]8080",
        "a b:80",
        "host:80\n",
        "host:٣",
        None,
        True,
        "host:" + "9" * 5_000,
    ],
)
def test_what_is_no_address(value: object) -> None:
    """A host alone, a port alone, a port that cannot be, IPv6 without brackets."""
    with pytest.raises(ValidationError, match="expected an address"):
        _address.validate_python(value)


@settings(deadline=None)
@given(st.one_of(st.text(), st.integers(), st.floats(), st.from_regex(r"\A[0-9]+(ms|s|m|h|d|B|GiB)\Z")))
def test_anything_else_is_a_validation_error(value: object) -> None:
    """No value makes them raise anything else, and what is accepted is within its bounds."""
    for adapter, most in ((_duration, MAX_DURATION), (_size, MAX_SIZE)):
        try:
            assert type(most)() < adapter.validate_python(value) <= most  # type: ignore[operator]
        except ValidationError:
            continue
    try:
        assert 0 <= _address.validate_python(value).port <= 65535
    except ValidationError:
        return

"""Idempotency keys: any headers get a key or a refusal; two requests share a fingerprint only where they are one."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

from policies.refusals import Refusal
from proxy.headers import HeaderList
from proxy.pipeline.exchange import Asked, Body
from proxy.pipeline.idempotency import fingerprint, key_of
from tests.fuzz.inputs import Bytes

WORDS = [
    b"\n",
    b"\n\n",
    b"application/json",
    b"key-1",
    b"\0",
    b"\xff",
    b"POST",
    b"/a?b",
    b"shop:m",
    b"n=1",
    b" ",
    b"a" * 256,
]
SEEDS = [
    b"\1application/json\nann\n/a?b\nm\n12\nbody\n\n\1application/json\nann\n/a?b\nm\n12\nbody",
    b"key-1\n\n",
    b"\0ann\n/a\nm\n\nbody\n\n\0an\nn/a\nm\n\nbody",
]


def check(data: bytes) -> None:
    one, _, other = data.partition(b"\n\n")
    _key(one.split(b"\n"))
    first, second = _parts(one), _parts(other)
    assert (first == second) == (_fingerprint(first) == _fingerprint(second))


def _key(values: list[bytes]) -> None:
    texts = [value.decode("utf-8", "surrogateescape") for value in values]
    found = key_of(texts)
    if isinstance(found, Refusal):
        return
    assert texts == [found]
    assert found.isascii()
    assert found.isprintable()
    assert 0 < len(found) < 256


Parts = tuple[str, str, tuple[str, ...], str, str, bytes]


def _parts(data: bytes) -> Parts:
    """User, target, content types, model, unit and body of a request, as far as lines give them."""
    source = Bytes(data)
    count = source.choice(3)
    lines = [*source.rest().split(b"\n", 5 + count), *[b""] * 7]
    texts = [line.decode("utf-8", "surrogateescape") for line in lines]
    types, rest = tuple(texts[:count]), [text.encode("utf-8", "replace").decode() for text in texts[count:]]
    # Neither has control characters, by the time that it comes here.
    user, target, model, number = (text.replace("\0", "") for text in rest[:4])
    return (
        user,
        target,
        tuple(text.replace("\0", "") for text in types),
        f"shop:{model}",
        str(len(number)),
        lines[count + 4],
    )


def _fingerprint(parts: Parts) -> str:
    user, target, types, model, number, body = parts
    headers: HeaderList = [("Content-Type", value) for value in types]
    incoming = SimpleNamespace(
        method="POST",
        target=SimpleNamespace(raw=target),
        values=lambda name: [value for key, value in headers if key.lower() == name],
    )
    units = {"n": Decimal(number)} if number != "0" else {}
    asked = Asked(cast(Any, SimpleNamespace(incoming=incoming)), Body(body, complete=True), model, units)
    return fingerprint(asked, user)

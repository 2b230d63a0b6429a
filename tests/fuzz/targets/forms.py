"""Fields of forms and queries: read as frameworks of other kinds read them, or refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.formparsers import FormParser
from yarl import URL

from config.routes import Route
from policies.refusals import Reason, Refusal
from proxy.pipeline.extraction import extract
from proxy.pipeline.parts import RequestParts
from tests.fuzz.inputs import Bytes, at_once

_HEADERS = [("Content-Type", "application/x-www-form-urlencoded")]
WORDS = (
    b"model n = & ; + %20 %6d [ ] [0] %00 %ff %C3%A9 model=m &n=1 Model +model mod.el model%5B%5D = == && utf-8".split()
)
SEEDS = [
    bytes([kind, reader]) + body
    for kind in range(2)
    for reader in range(5)
    for body in (b"model=m&n=5&x=%20+", b"x=1&model=a%2Eb;c=d", b"model=m&model[]=b&n=1.5", b"model=&Model=m")
]
Pairs = list[tuple[str, str]]


def _route(kind: str) -> Route:
    fields = {"model": {kind: "model"}, "units": {"n": {kind: "n", "max": 1000, "optional": True}}}
    return Route.model_validate({"id": "r", "match": "POST /r", "upstream": "u", "app": "shop"} | fields)


_ROUTES = [_route("form"), _route("query")]


def _starlette(data: bytes) -> Pairs:
    async def stream() -> AsyncIterator[bytes]:
        yield data
        yield b""

    form = at_once(FormParser(Headers(), stream()).parse())
    return [(name, str(value)) for name, value in form.multi_items()]


def _yarl(data: bytes) -> Pairs:
    return list(URL.build(scheme="http", host="h", path="/", query_string=data.decode(), encoded=True).query.items())


def _old(data: bytes) -> Pairs:
    """`;` as another `&`, as HTML 4.01 had it."""
    return parse_qsl(data.decode().replace(";", "&"), keep_blank_values=True)


def _php(data: bytes) -> Pairs:
    """Spaces before names are lost, dots become underscores, and brackets make arrays."""
    pairs = parse_qsl(data.decode(), keep_blank_values=True)
    return [(name.lstrip(" ").partition("[")[0].replace(".", "_"), value) for name, value in pairs]


def _asp(data: bytes) -> Pairs:
    """Capitals make no difference."""
    return [(name.lower(), value) for name, value in parse_qsl(data.decode(), keep_blank_values=True)]


READERS: list[Callable[[bytes], Pairs]] = [_starlette, _yarl, _old, _php, _asp]


def check(data: bytes) -> None:
    source = Bytes(data)
    kind, reader = source.choice(2), READERS[source.choice(len(READERS))]
    body = source.rest()
    # No other characters come this far in a query (`proxy.paths`).
    query = "".join(char for char in body.decode("ascii", "ignore") if " " < char <= "~") if kind else ""
    found = extract(_ROUTES[kind], RequestParts({}, query, _HEADERS, b"" if kind else body, {}))
    if isinstance(found, Refusal):
        assert found.reason is Reason.INVALID_REQUEST
        return
    key, units = found
    pairs = reader(query.encode() if kind else body)
    models = [f"shop:{value.removeprefix('shop:')}" for name, value in pairs if name == "model"]
    assert models == [key], (reader.__name__, pairs)
    assert [value for name, value in pairs if name == "n" and Decimal(value) != units.get("n")] == []
    assert ("n" in units) == ("n" in dict(pairs))

"""Forms in parts: the fields that two other parsers read, in any pieces, or no form."""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.parser import BytesParser
from email.policy import HTTP

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException, MultiPartParser

from proxy.pipeline.multipart import MultipartReader
from proxy.pipeline.parts import is_alike
from proxy.strict_json import Unreadable
from tests.fuzz.inputs import Bytes, at_once, singly

_WANTED = ("model", "n")
_TYPE = b"multipart/form-data; boundary=b"
WORDS = [
    b"--b\r\n",
    b"\r\n--b\r\n",
    b"\r\n--b--\r\n",
    b"--b",
    b"\r\n\r\n",
    b'Content-Disposition: form-data; name="model"\r\n\r\nm',
    b"Content-Disposition: form-data; name=n\r\n\r\n7",
    b'Content-Disposition: form-data; name="f"; filename="a.bin"\r\n\r\n',
    b"; filename*=UTF-8''%e2",
    b"Content-Type: text/plain; charset=utf-8\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Length: 1\r\n",
    b"\r\n ",
    b"\r",
    b"\n",
    b"\\",
    b'"',
    b"\t",
    b"model[]",
]
_HEAD = b"--b\r\nContent-Disposition: form-data; name="
SEEDS = [
    b"\0" + _HEAD + b'"model"\r\n\r\nm\r\n' + _HEAD + b"n\r\n\r\n7\r\n--b--\r\n",
    b"\0" + _HEAD + b'"model"\r\n\r\nm\r\n' + _HEAD + b'"f"; filename="a.bin"\r\n\r\nxyz\r\n--b--',
    b"\0" + _HEAD + b'"model"\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\nm\r\n--b--\r\n',
    b"\0" + _HEAD + b'"x"\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n',
]


def check(data: bytes) -> None:
    source = Bytes(data)
    pieces = source.cut_up()
    body = b"".join(pieces)
    found = _read(pieces)
    assert found == _read([body]) == _read(singly(body)), "however it is cut"
    if found is None:
        return
    assert _starlette(body) == found
    assert _mail(body) == found


def _read(pieces: list[bytes]) -> dict[str, list[str]] | None:
    """The wanted fields, or None where it is refused."""
    reader = MultipartReader(b"b", _WANTED, is_alike)
    try:
        for piece in pieces:
            reader.feed(piece)
        reader.end()
    except Unreadable:
        return None
    return reader.fields


def _starlette(body: bytes) -> dict[str, list[str]]:
    async def stream() -> AsyncIterator[bytes]:
        yield body

    parser = MultiPartParser(Headers({"content-type": _TYPE.decode()}), stream())
    try:
        form = at_once(parser.parse())
    except MultiPartException as error:
        raise AssertionError(f"refused elsewhere: {error.message}") from None
    found = {name: [str(value) for value in form.getlist(name)] for name in _WANTED}
    at_once(form.close())
    return found


def _mail(body: bytes) -> dict[str, list[str]]:
    """As the standard library reads mail, which is where the format comes from (RFC 2046)."""
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + _TYPE + b"\r\n\r\n" + body)
    found: dict[str, list[str]] = {name: [] for name in _WANTED}
    for part in message.get_payload():
        name = part.get_param("name", header="content-disposition")  # type: ignore[union-attr]
        if name in found:
            found[name].append(part.get_payload(decode=True).decode())  # type: ignore[union-attr]
    return found

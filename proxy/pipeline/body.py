"""Request bodies: read ahead as far as a route needs, then streamed on. A body has one owner at a time.

A body is read ahead only after the caller is known, and only on routes that read their model or a unit from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

from aiohttp import HttpVersion11, web

from policies.refusals import Reason, Refusal, invalid_request
from proxy.pipeline.codings import TooLong, coding_of, decoded
from proxy.pipeline.exchange import Body, Incoming
from proxy.pipeline.multipart import MultipartReader, boundary_of
from proxy.pipeline.parts import is_alike
from proxy.strict_json import Unreadable


class BodyCut(Exception):
    """A body that is streamed did not come to its end, by the client's fault; `refusal` is what the client is told."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.error)
        self.refusal = refusal


async def read_ahead(incoming: Incoming, limit: int, patience: timedelta, *, coded: bool = False) -> Body | Refusal:
    """The whole body, at most `limit` bytes of it, within `patience`; compressed only where a `coded` one will do."""
    length = incoming.request.content_length
    if length is not None and length > limit:
        return _too_large(limit)
    try:
        coding = None if coded else coding_of(incoming.values("content-encoding"))
    except Unreadable as error:
        return _unreadable(error)
    content = incoming.request.content
    if length is not None and content.is_eof():
        # It has arrived already, so there is nothing to wait for.
        return _whole(content.read_nowait(), coding, limit)
    await answer_expectation(incoming)
    peeked = bytearray()
    try:
        async with asyncio.timeout(patience.total_seconds()):
            while piece := await content.readany():
                peeked += piece
                if len(peeked) > limit:
                    return _too_large(limit)
    except TimeoutError:
        return _too_slow()
    except web.RequestPayloadError:
        return _malformed()
    return _whole(bytes(peeked), coding, limit)


def _whole(peeked: bytes, coding: str | None, limit: int) -> Body | Refusal:
    """A body that is there, with what it says; it travels on as it came."""
    if coding is None:
        return Body(peeked, complete=True)
    try:
        return Body(peeked, complete=True, content=decoded(peeked, coding, limit))
    except TooLong:
        return _too_large(limit)
    except Unreadable as error:
        return _unreadable(error)


async def read_fields(incoming: Incoming, names: frozenset[str], limit: int, patience: timedelta) -> Body | Refusal:
    """A form in parts, until its first file begins: at most `limit` bytes of it, within `patience`."""
    content_types = incoming.values("content-type")
    boundary = boundary_of(content_types[0]) if len(content_types) == 1 else None
    if boundary is None:
        hint = "Send the body as multipart/form-data in UTF-8."
        return invalid_request("The content type does not fit this route", "Content-Type", hint)
    if any(value.lower() not in ("", "identity") for value in incoming.values("content-encoding")):
        return invalid_request("The form is compressed", "Content-Encoding", "Send it uncompressed.")
    await answer_expectation(incoming)
    form, peeked = MultipartReader(boundary, names, is_alike), bytearray()
    try:
        async with asyncio.timeout(patience.total_seconds()):
            while not form.in_files:
                piece = await incoming.request.content.readany()
                if not piece:
                    form.end()
                    return Body(bytes(peeked), complete=True, form=form)
                form.feed(piece)
                peeked += piece
                if len(peeked) > limit and not form.in_files:
                    return _too_large(limit)
    except TimeoutError:
        return _too_slow()
    except web.RequestPayloadError:
        return _malformed()
    except Unreadable as error:
        return _unreadable(error)
    return Body(bytes(peeked), complete=False, form=form)


def _unreadable(error: Unreadable) -> Refusal:
    return invalid_request(f"The request cannot be read: {error}", "body")


def _too_large(limit: int) -> Refusal:
    hint = f"The body of this request is read before it is acted on, and may have at most {limit} bytes."
    return Refusal(Reason.TOO_LARGE, "Request body is too large", hint)


def _too_slow() -> Refusal:
    return invalid_request("The body arrived too slowly", "body", "Send the body without pauses.")


def _malformed() -> Refusal:
    return invalid_request("The body is malformed or incomplete", "body")


async def answer_expectation(incoming: Incoming) -> None:
    """Tell a client that waits with its body to send it (RFC 9110 §10.1.1); called once, when it is wanted."""
    request = incoming.request
    if incoming.values("expect") and request.version >= HttpVersion11 and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def outgoing_body(
    incoming: Incoming, body: Body, patience: timedelta
) -> tuple[bytes | AsyncIterator[bytes] | None, int | None]:
    """What is sent to the backend, and its length if it is known: the bytes that were read, or the stream.

    The stream raises BodyCut when the next piece takes longer than `patience`, or is malformed.
    """
    if body.form is not None and not body.complete:
        return _form(incoming, body, patience), incoming.request.content_length
    if body.complete:
        return body.peeked or None, len(body.peeked) if body.peeked or incoming.request.body_exists else None
    request = incoming.request
    if not request.body_exists:
        return None, request.content_length
    if request.content_length is not None and request.content.is_eof():
        # It has arrived already, so there is nothing to wait for.
        return request.content.read_nowait(), request.content_length
    return _stream(incoming, patience), request.content_length


async def _stream(incoming: Incoming, patience: timedelta) -> AsyncIterator[bytes]:
    await answer_expectation(incoming)
    while piece := await _next_piece(incoming, patience):
        yield piece


async def _form(incoming: Incoming, body: Body, patience: timedelta) -> AsyncIterator[bytes]:
    """A form of which the beginning was read ahead. What does not fit to what was judged is cut off.

    Each piece waits for the next one: the backend has all of a form only when all of it was found to be one.
    """
    assert body.form is not None, "asked for with one"
    latest = body.peeked
    try:
        while piece := await _next_piece(incoming, patience):
            body.form.feed(piece)
            yield latest
            latest = piece
        body.form.end()
    except Unreadable as error:
        raise BodyCut(_unreadable(error)) from None
    yield latest


async def _next_piece(incoming: Incoming, patience: timedelta) -> bytes:
    try:
        async with asyncio.timeout(patience.total_seconds()):
            return await incoming.request.content.readany()
    except TimeoutError:
        raise BodyCut(_too_slow()) from None
    except (web.RequestPayloadError, ConnectionError):
        raise BodyCut(_malformed()) from None

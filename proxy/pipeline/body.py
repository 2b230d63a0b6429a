"""Request bodies: read ahead as far as a route needs, then streamed on. A body has one owner at a time.

A body is read ahead only after the caller is known, and only on routes that read their model or a unit from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

from aiohttp import HttpVersion11, web

from policies.refusals import Reason, Refusal, invalid_request
from proxy.pipeline.exchange import Body, Incoming


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
    if not coded and any(value.lower() not in ("", "identity") for value in incoming.values("content-encoding")):
        hint = "Send the body uncompressed: it is read before it is acted on."
        return invalid_request("The body is compressed", "Content-Encoding", hint)
    content = incoming.request.content
    if length is not None and content.is_eof():
        # It has arrived already, so there is nothing to wait for.
        return Body(content.read_nowait(), complete=True)
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
    return Body(bytes(peeked), complete=True)


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


async def _next_piece(incoming: Incoming, patience: timedelta) -> bytes:
    try:
        async with asyncio.timeout(patience.total_seconds()):
            return await incoming.request.content.readany()
    except TimeoutError:
        raise BodyCut(_too_slow()) from None
    except (web.RequestPayloadError, ConnectionError):
        raise BodyCut(_malformed()) from None

"""One connection to a backend, over TCP or TLS. It carries one exchange at a time.

Made and kept by a `Target`. It never decides whether a request is sent again: it says how far one has come.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import AsyncIterator
from functools import partial
from math import inf
from typing import Protocol, cast

from proxy.upstream.answer import UpstreamAnswer
from proxy.upstream.deadline import Deadline
from proxy.upstream.exchange import DeadConnection, Outgoing, Patience, UpstreamBroken, UpstreamTimeout
from proxy.upstream.parsing import AnswerParser, MalformedAnswer
from proxy.upstream.tunnel import Tunnel

ONE_WRITE = 64 * 2**10
"""Bytes of a body that leave together with the head: copying more costs more than a second write."""


class Owner(Protocol):
    """Who made a connection."""

    def finished(self, connection: Connection, *, reusable: bool) -> None:
        """The exchange that was given to it is over."""

    def lost(self, connection: Connection) -> None:
        """It has ended, or has become useless while nothing was asked of it."""


class Connection(asyncio.BufferedProtocol):
    """`name` is for messages: which upstream this is."""

    def __init__(self, name: str, owner: Owner, buffer: memoryview) -> None:
        """`buffer` is what it reads into. Connections of one loop may share it: a piece is copied out at once."""
        self._name = name
        self._owner = owner
        self._buffer = buffer
        self._loop = asyncio.get_running_loop()
        self._transport = cast(asyncio.Transport, None)
        self._readable = select.poll()
        self._patience = Patience(inf, inf, inf)
        self._deadline = Deadline(self._late)
        self._parser: AnswerParser | None = None
        self._answer: UpstreamAnswer | None = None
        self._head: asyncio.Future[UpstreamAnswer | Exception] | None = None
        self._upload: asyncio.Task[None] | None = None
        self._tunnel: Tunnel | None = None
        self._writable: asyncio.Future[None] | None = None
        self._lost = False
        self.used = False
        """Whether it has carried an exchange to its end."""
        self.idle_since = 0.0
        """By the clock of the loop."""

    # The exchange.

    async def exchange(self, head: bytes, outgoing: Outgoing, patience: Patience) -> UpstreamAnswer:
        """The head of the answer. Raises DeadConnection, UpstreamBroken, UpstreamTimeout, or what the body raises."""
        self._patience = patience
        self._deadline.cut_at = self._loop.time() + patience.total_s
        self._deadline.wait(patience.response_s)
        is_head, may_switch = outgoing.method == "HEAD", outgoing.switches
        parser = AnswerParser(is_head=is_head, may_switch=may_switch, interim=outgoing.interim)
        self._parser = parser
        self._head = self._loop.create_future()
        self._send(head, outgoing)
        try:
            outcome = await self._head
        except BaseException:
            await self.abandon(parser)
            raise
        if isinstance(outcome, Exception):
            await self._stop_upload()
            raise outcome
        return outcome

    async def abandon(self, parser: AnswerParser) -> None:
        """End the exchange that `parser` reads, whatever state it is in, and the connection with it.

        It may be over already, and another one may be under way here: who was cancelled learns of it late.
        """
        if self._tunnel is not None:
            self._tunnel.abandon()
        if self._parser is parser:
            self._end(None, reusable=False)
        if self._parser is None:
            await self._stop_upload()

    def hold_back(self, hold: bool) -> None:
        """Stop reading, or go on. While the backend is held back it cannot be late."""
        if hold:
            self._transport.pause_reading()
            self._deadline.wait()
        else:
            self._transport.resume_reading()
            self._deadline.wait(self._patience.idle_s)

    def _fail(self, error: Exception) -> None:
        """The exchange under way has failed; who reads its answer hears of it as the backend's failure."""
        known = isinstance(error, UpstreamBroken | UpstreamTimeout)
        self._over(error, error if known else UpstreamBroken(f"a request to upstream {self._name!r} was cut short"))

    def _over(self, outcome: Exception | None, told: Exception | None, *, reusable: bool = False) -> None:
        answer = self._answer
        self._end(outcome, reusable=reusable)
        if answer is not None:
            answer.over(told)

    def _end(self, outcome: Exception | None, *, reusable: bool) -> None:
        """The exchange is over, once. A connection with anything left on it is never used again."""
        self._parser = self._answer = None
        self._deadline.stop()
        self.used = True
        if outcome is not None and self._head is not None and not self._head.done():
            self._head.set_result(outcome)
        if not reusable:
            self._transport.abort()
        self._owner.finished(self, reusable=reusable)

    def _end_if_complete(self) -> None:
        """Over means: the answer is here and the request is gone."""
        parser = self._parser
        if parser is not None and parser.complete and self._upload is None:
            self._over(None, None, reusable=parser.reusable and not self._transport.is_closing())

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._readable.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        parser = self._parser
        if parser is None:
            # Nobody has asked for anything.
            self._transport.abort()
            self._owner.lost(self)
            return
        try:
            parser.feed(self._buffer[:nbytes])
        except MalformedAnswer as problem:
            self._fail(UpstreamBroken(f"upstream {self._name!r} broke the connection: {problem}"))
            return
        self._arrived(parser)

    def _arrived(self, parser: AnswerParser) -> None:
        if not parser.headers_complete:
            return
        if parser.switched:
            self._switch(parser)
            return
        if not parser.complete:
            self._deadline.wait(self._patience.idle_s)
        if self._answer is None:
            self._answer = UpstreamAnswer(parser, self)
            if self._head is not None and not self._head.done():
                self._head.set_result(self._answer)
        self._answer.arrived()
        self._end_if_complete()

    def _switch(self, parser: AnswerParser) -> None:
        """The transport is the tunnel's from now on; this connection is over when that one is."""
        self._parser = None
        self._deadline.close()
        over = partial(self._owner.finished, self, reusable=False)
        self._tunnel = Tunnel(self._name, self._transport, parser.pieces, over)
        if self._head is not None and not self._head.done():
            self._head.set_result(UpstreamAnswer(parser, self, self._tunnel))

    def eof_received(self) -> None:
        parser = self._parser
        if parser is not None and self._has_ended_orderly() and parser.end():
            self._arrived(parser)

    def _has_ended_orderly(self) -> bool:
        """Anybody in between can end a connection below TLS; only the backend can end it in TLS (RFC 9112 §9.8)."""
        secured: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        try:
            return secured is None or secured.read(1) == b""
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLError:
            return False

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        self._deadline.close()
        parser = self._parser
        if parser is None:
            self._owner.lost(self)
        elif parser.complete:
            # The rest of the request is of no interest to the backend any more.
            self._over(None, None)
        elif self.used and not parser.began:
            text = f"upstream {self._name!r} broke the connection, which it had answered on before"
            self._fail(DeadConnection(text, unsent=False))
        else:
            where = "in the middle of its answer" if parser.headers_complete else "before its answer"
            self._fail(UpstreamBroken(f"upstream {self._name!r} broke the connection {where}"))
        if self._writable is not None:
            self._writable.cancel()

    # The request.

    def _send(self, head: bytes, outgoing: Outgoing) -> None:
        """Raises DeadConnection when nothing of it can be sent."""
        body, transport = outgoing.body, self._transport
        at_once = isinstance(body, bytes) and len(body) <= ONE_WRITE
        transport.write(head + body if isinstance(body, bytes) and at_once else head)
        if transport.is_closing():
            # asyncio hands a write to the system at once. One that the system refused has not left in any part.
            self._end(None, reusable=False)
            raise DeadConnection(f"a connection to upstream {self._name!r} had ended", unsent=True)
        if isinstance(body, bytes):
            if not at_once:
                transport.write(body)
        elif body is not None:
            self._upload = asyncio.create_task(self._send_body(body, outgoing.length))

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    async def _send_body(self, pieces: AsyncIterator[bytes], length: int | None) -> None:
        """Pass a body on as it arrives."""
        try:
            await self._send_pieces(pieces, length)
        except Exception as error:
            if self._parser is not None:
                self._fail(error)
            return
        self._upload = None
        self._await_backend()
        self._end_if_complete()

    async def _send_pieces(self, pieces: AsyncIterator[bytes], length: int | None) -> None:
        left = length
        self._await_client()
        async for piece in pieces:
            if self._lost:
                raise UpstreamBroken(f"upstream {self._name!r} broke the connection")
            if not piece:
                # As a chunk it would be the last one.
                continue
            if left is None:
                self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            else:
                left -= len(piece)
                if left < 0:
                    raise UpstreamBroken("the body of a request was longer than its length")
                self._transport.write(piece)
            if self._writable is not None:
                self._await_backend()
                await self._writable
            self._await_client()
        if left:
            raise UpstreamBroken("the body of a request was shorter than its length")
        if left is None:
            self._transport.write(b"0\r\n\r\n")

    def _await_client(self) -> None:
        """While its client delivers, the backend is not late with its answer."""
        if self._parser is not None and not self._parser.headers_complete:
            self._deadline.wait()

    def _await_backend(self) -> None:
        if self._parser is not None and not self._parser.headers_complete:
            self._deadline.wait(self._patience.response_s)

    async def _stop_upload(self) -> None:
        """Until nothing of the exchange touches the client's body any more."""
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.cancel()
            await asyncio.wait([upload])

    def _late(self) -> None:
        parser = self._parser
        if parser is None or parser.complete:
            # What is left of a request whose answer is here waits for its client.
            return
        if self._deadline.is_cut:
            problem = f"an exchange with upstream {self._name!r} took too long"
        elif parser.headers_complete:
            problem = f"upstream {self._name!r} fell silent in the middle of its answer"
        else:
            problem = f"upstream {self._name!r} did not answer in time"
        self._fail(UpstreamTimeout(problem))

    # Between two exchanges.

    @property
    def is_dead(self) -> bool:
        """Whether it has ended, or will be found to have: what the loop has not read yet counts as well.

        The system is asked, because the loop may not have come round since the backend closed.
        """
        return self._lost or self._transport.is_closing() or bool(self._readable.poll(0))

    def close(self) -> None:
        """End it in an orderly way: nothing is under way on it."""
        self._transport.close()

    def abort(self) -> None:
        """End it at once; an exchange that is under way fails."""
        self._transport.abort()

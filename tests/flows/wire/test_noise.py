"""Bytes that nobody meant: whatever comes from either side, nothing falls over and nothing is lost."""

from __future__ import annotations

import asyncio
import gzip
import logging
import random

import pytest

from tests.flows.raw import chunked, closing, json_answer, request
from tests.flows.wire.wire import Wire, order

pytestmark = pytest.mark.asyncio(loop_scope="module")

SUSPECTS = b'\0\t\r\n :;,%/\\"{}[]0159aAzZ\x7f\x80\xff'


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The same bytes with some flipped, dropped, doubled or cut off."""
    result = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(result))
        match chance.randrange(5):
            case 0:
                result[at] = chance.choice(SUSPECTS)
            case 1:
                result[at] = chance.randrange(256)
            case 2:
                del result[at : at + chance.randint(1, 9)]
            case 3:
                result[at:at] = result[at : at + chance.randint(1, 30)]
            case _:
                del result[at:]
        result = result or bytearray(b"\r\n")
    return bytes(result)


async def all_is_well(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """It still serves, no hold is open, and the log has no fault of ours."""
    wire.backend.reset()
    assert (await wire.ask("GET /open/x")).status == 200
    faults = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]
    assert not faults
    await wire.until(lambda: wire.open_count(wire.may_stay_open))


async def test_noise_from_clients(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """Good requests, damaged, from clients that stay for a moment or leave at once."""
    chance = random.Random(20250115)
    requests = [
        request("POST /buy?a=b", wire.bearer(), "Content-Type: application/json", body=order(max_tokens=5)),
        request("POST /buy", wire.bearer(), "Transfer-Encoding: chunked", body=chunked(order(), b"   ")),
        request("GET /jobs/x", wire.bearer(), "Accept-Encoding: gzip, br"),
        request("GET /api/quota/status", wire.bearer()),
        request("POST /flat", wire.bearer(), "Expect: 100-continue", body=b"abc"),
        request("POST /by-header", wire.bearer(), "X-Model: cheap", "Connection: keep-alive, X-A", body=b"abc"),
    ]
    for number in range(240):
        client = await wire.connect()
        await client.send(damaged(requests[number % len(requests)], chance))
        if number % 3 == 0:
            await asyncio.sleep(0.002)
        client.leave()
    await all_is_well(wire, caplog)


async def test_noise_from_backends(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """Good answers, damaged: passed on, cut or 502, and each is charged once or not at all."""
    chance = random.Random(20250116)
    stated = b'{"usage": {"tokens": 30}, "id": "j%d", "status": "done"}'
    event = b"data: " + stated + b"\r\n\r\ndata: [DONE]\n\n"
    streamed = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    lines = ["POST /buy", "POST /flat", "POST /jobs", "GET /jobs/x", "GET /jobs", "GET /open/x"]
    for number in range(150):
        body = stated % (wire.number * 1000 + number)
        answers = [
            json_answer(body, b"X-Farebox-Charged: 0", b"Set-Cookie: a=1"),
            json_answer(gzip.compress(body), b"Content-Encoding: gzip"),
            streamed + chunked(event[:20], event[20:]),
        ]
        wire.backend.script = closing(damaged(answers[number % 3], chance))
        client = await wire.start(lines[number % len(lines)], "Connection: close", body=order(), user=f"u{number % 7}")
        assert not (await client.rest()).startswith(b"HTTP/1.1 500 ")
    wire.may_stay_open = len([hold for hold in await wire.open_holds() if hold["job_id"] is not None])
    await all_is_well(wire, caplog)

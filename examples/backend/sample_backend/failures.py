"""Failures on demand, so that demos and tests can watch a sidecar refund.

A word in the `prompt`, or in a field `simulate` where a route has no prompt, makes the backend misbehave. Words count
only when they stand alone: `fail-job` in a sentence works, the `cut` in `execute` does not.

| word | effect |
|---|---|
| `fail-job` | the job is accepted, and has failed when its time is over |
| `fail-now` | the route answers 500 |
| `slow` | the answer comes two seconds later |
| `hang` | no answer ever, until the client goes away |
| `cut` | a chat stream breaks off after a few chunks |
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from .bodies import Refusal

FAIL_JOB, FAIL_NOW, SLOW, HANG, CUT = "fail-job", "fail-now", "slow", "hang", "cut"
SLOW_SECONDS = 2.0
HANG_CHECK_SECONDS = 0.05
"""How often a hanging answer looks whether anybody is still waiting for it."""
MESSAGE = "Simulated failure"
_WORD = re.compile(rf"(?<![\w-])({FAIL_JOB}|{FAIL_NOW}|{SLOW}|{HANG}|{CUT})(?![\w-])")


def wishes(body: Mapping[str, Any]) -> frozenset[str]:
    """The failure words in a body's `prompt` and `simulate`."""
    return words_in(body.get("prompt"), body.get("simulate"))


def words_in(*texts: object) -> frozenset[str]:
    """The failure words that stand alone in any of the texts; what is not a string holds none."""
    return frozenset(word for text in texts if isinstance(text, str) for word in _WORD.findall(text))


async def obey(request: web.Request, words: frozenset[str]) -> None:
    """Do what must be done before an answer: wait, hang, or raise Refusal(500).

    `fail-job` and `cut` are left to the caller: they concern what comes after the answer has begun.
    """
    if SLOW in words:
        await asyncio.sleep(SLOW_SECONDS)
    if HANG in words:
        await _until_client_leaves(request)
        # An answer to nobody: it ends the handler before a job is started, and no byte of it can be sent.
        raise Refusal(503, "The client went away")
    if FAIL_NOW in words:
        raise Refusal(500, MESSAGE)


async def _until_client_leaves(request: web.Request) -> None:
    """Return when the connection is closed; the server tells no handler about it, so the connection is looked at."""
    while True:
        connection = request.transport
        if connection is None or connection.is_closing():
            return
        await asyncio.sleep(HANG_CHECK_SECONDS)

"""One odd request after the other through Farebox, and what its backend's parsers make of what came of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import tests.differential.bends  # noqa: F401 - fills the table of kinds
from tests.differential.drafts import Case, cases
from tests.differential.field import CLIENTS, Field, credential, user_of
from tests.differential.readers import H11, PART, WHOLE, Found, Node, Reader, Reading
from tests.differential.recorder import ANSWERED, Recorder

LEAVING_S = 0.02

SETTLE_S = 3
"""For what is to come about by itself: a hold that ends, a connection that is given up."""


@dataclass
class Outcome:
    """What came of one case: how many requests its backend saw, beside the ordinary last one, whole and cut; and all
    that must not be.
    """

    case: Case
    forwarded: int = 0
    cut: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass
class Requests:
    """The run over requests."""

    field: Field
    readers: Sequence[Reader]
    node: Node | None = None

    async def run(self, seed: int, count: int, progress: Callable[[int], None] = lambda _: None) -> list[Outcome]:
        """Every case, in the order of its number."""
        tokens: dict[str, bytes] = {}

        def bearer(number: int) -> bytes:
            user = user_of(number % CLIENTS, number)
            return tokens.setdefault(user, credential(user))

        queue = list(cases(seed, count, prefix_of, bearer))
        outcomes: list[Outcome] = []

        async def client(at: int) -> None:
            for case in queue[at::CLIENTS]:
                outcomes.append(await self._try(case, self.field.recorders[at], user_of(at, case.number)))
                progress(len(outcomes))

        async with asyncio.TaskGroup() as group:
            for at in range(CLIENTS):
                group.create_task(client(at))
        return sorted(outcomes, key=lambda outcome: outcome.case.number)

    async def _try(self, case: Case, recorder: Recorder, user: str) -> Outcome:
        outcome = Outcome(case)
        before = await self.field.taken(user)
        answer, closed = await self.field.say(case.pieces)
        if not closed:
            # The client has left; what was under way for it ends at once, and is seen here.
            await asyncio.sleep(LEAVING_S)
        if not await _until(lambda: recorder.is_settled):
            outcome.problems.append("the backend is left with half a request on an open connection")
        requests: list[Found] = []
        for data in recorder.news():
            reading = await self._read(data, outcome)
            requests += reading.requests
            outcome.cut += reading.rest == PART
        answered = answer.count(ANSWERED)
        outcome.forwarded = sum(not request.target.endswith("/open/last") for request in requests)
        if closed and answered != len(requests):
            outcome.problems.append(f"the backend saw {len(requests)} requests, and the client {answered} answers")
        outcome.problems += [f"not what the client has sent: {request}" for request in _foreign(case.data, requests)]
        paid = sum(request.target.partition("?")[0].endswith("/flat") for request in requests)

        async def is_paid() -> bool:
            taken = await self.field.taken(user) - before
            return taken == paid if closed else taken <= paid

        if not await _until(is_paid):
            took = await self.field.taken(user) - before
            outcome.problems.append(f"{paid} paid requests reached the backend, and {took} were charged")
        return outcome

    async def _read(self, data: bytes, outcome: Outcome) -> Reading:
        """By every reader; a difference between two of them is a problem."""
        readings = {reader.name: reader.read(data) for reader in self.readers}
        everything = {name: readings[name] for name in (reader.name for reader in self.readers if reader.underscores)}
        if self.node is not None:
            readings["node"] = everything["node"] = await self.node.ask(data)
        for compared, underscores in ((everything, True), (readings, False)):
            if len({reading.comparable(underscores) for reading in compared.values()}) > 1:
                told = "; ".join(f"{name}: {reading.comparable(underscores)}" for name, reading in compared.items())
                outcome.problems.append(f"{told}; of {data!r}")
                break
        return readings[self.readers[0].name]


def prefix_of(number: int) -> bytes:
    return b"/w%d/%d" % (number % CLIENTS, number)


def _foreign(sent: bytes, arrived: Sequence[Found]) -> list[Found]:
    """Of what has arrived, what a strict reader does not find as often in what was sent. Where it refuses some of that,
    there is nothing to compare with.
    """
    own = H11().read(sent)
    if own.rest != WHOLE:
        return []
    left = Counter((found.method, found.target, found.body) for found in own.requests)
    left.subtract((found.method, found.target, found.body) for found in arrived)
    return [found for found in arrived if left[found.method, found.target, found.body] < 0]


async def _until(is_so: Callable[[], Any]) -> bool:
    end = asyncio.get_running_loop().time() + SETTLE_S
    while True:
        found = is_so()
        if found if isinstance(found, bool) else await found:
            return True
        if asyncio.get_running_loop().time() > end:
            return False
        await asyncio.sleep(0.01)

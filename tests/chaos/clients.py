"""Clients and an operator: they call whatever happens, never repeat a call, and write down what they got.

Each user belongs to two clients that call at the same time, so that one account is always asked for more than it has.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random

from tests.chaos.calls import JOBS, STREAMS, Call, Kind, Outcome, decide
from tests.chaos.processes import Stuck
from tests.chaos.shop import MICRO, PLAN
from tests.flows.house import SECRET, token
from tests.flows.raw import Message, RawClient, request

CLIENTS = 12
USERS = 6
"""Users of a round: half of them pay with credits alone, half have subscribed."""

PATIENCE_S = 15
"""After this a client hangs up."""

POLLS = 20
"""How often a client asks after a job before it forgets it."""

PAUSE_S = 0.05
"""Between two attempts to reach anybody, and between two polls."""

GRANT = MICRO // 2
"""What the operator adds at a time."""

OUT_OF_ORDER = (502, 503, 504)
"""Statuses after which a client waits, and which are no sign of health."""

GONE = (OSError, asyncio.IncompleteReadError, TimeoutError)
"""What a connection ends with."""


@dataclass(slots=True)
class Grant:
    """Credits that the operator added, repeating the same key until it was acknowledged, if it ever was."""

    user: str
    key: str
    amount: int
    acknowledged: bool = False


@dataclass
class ClientBook:
    """Everything that clients and the operator know."""

    calls: list[Call] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    balances: list[tuple[str, int]] = field(default_factory=list)
    """Micro-credits that a user was told to have."""
    subscribed: set[str] = field(default_factory=set)


class Crew:
    """All clients of a run. `ports` has the public and the admin port of each node."""

    def __init__(self, seed: str, ports: list[tuple[int, int]]) -> None:
        self.book = ClientBook()
        self._ports = ports
        self._seed = seed
        self._round = 0
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._tokens: dict[str, str] = {}
        self._answered = asyncio.Semaphore(0)

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(CLIENTS)]
        self._tasks.append(asyncio.create_task(self._operator()))

    async def answers(self, count: int) -> None:
        """Until so many more calls have been answered by who is well. Raises Stuck when nobody is any more."""
        while not self._answered.locked():
            await self._answered.acquire()
        try:
            for _ in range(count):
                await asyncio.wait_for(self._answered.acquire(), 2 * PATIENCE_S)
        except TimeoutError:
            raise Stuck(f"no call is answered any more; the last was {self.book.calls[-1].line()}") from None

    def next_round(self) -> None:
        """From now on other users, with funds of their own."""
        self._round += 1

    async def stop(self) -> None:
        """Every client ends the call that it is at. Raises whatever was wrong with one of them."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def abandon(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def users(self) -> list[str]:
        return [f"r{self._round}-{'payg' if number % 2 else 'sub'}-{number}" for number in range(USERS)]

    def bearer(self, user: str) -> str:
        return f"Authorization: Bearer {self._tokens.setdefault(user, token(user))}"

    async def _client(self, number: int) -> None:
        chance = Random(f"{self._seed}/{number}")
        line = _Line(lambda: chance.choice(self._ports)[0])
        count = 0
        while not self._stopping:
            user = self.users()[number % USERS]
            if "-sub-" in user and user not in self.book.subscribed:
                await self._subscribe(line, user)
            elif chance.random() < 0.05:
                await self._read_balance(line, user)
            else:
                count += 1
                await self._call(line, decide(f"{number}.{count}", user, chance))
            await asyncio.sleep(chance.random() * 0.02)
        line.hang_up()

    async def _subscribe(self, line: _Line, user: str) -> None:
        """Until it is acknowledged, now or by the refusal of a second subscription."""
        plan = json.dumps({"planId": PLAN}).encode()
        data = request("POST /api/subscription/subscribe", self.bearer(user), body=plan)
        answer = await line.ask(data)
        if answer is not None and answer.status in (201, 409):
            self.book.subscribed.add(user)

    async def _read_balance(self, line: _Line, user: str) -> None:
        answer = await line.ask(request("GET /api/credits/balance", self.bearer(user)))
        if answer is not None and answer.status == 200:
            balance = json.loads(answer.body, parse_float=Decimal)["balance"]
            self.book.balances.append((user, int(balance * MICRO)))

    async def _call(self, line: _Line, call: Call) -> None:
        data = request(f"POST {call.path}", self.bearer(call.user), body=call.body())
        with suppress(*GONE):
            async with asyncio.timeout(PATIENCE_S), line.connected() as client:
                call.sent_at = time.time()
                self.book.calls.append(call)
                await client.send(data)
                head = await client.head()
                _note_head(call, head)
                call.outcome = Outcome.CUT
                await _read_body(call, head, client)
        call.ended_at = time.time()
        if call.status in OUT_OF_ORDER:
            await asyncio.sleep(PAUSE_S)
        elif call.outcome is Outcome.ANSWERED:
            self._answered.release()
        if call.kind in (Kind.JOB, Kind.FAILING_JOB) and call.job_id is not None:
            await self._poll(line, call)

    async def _poll(self, line: _Line, call: Call) -> None:
        for _ in range(POLLS):
            answer = await line.ask(request(f"GET /jobs/{call.job_id}", self.bearer(call.user)))
            if answer is not None and answer.status == 200:
                status = json.loads(answer.body)["status"]
                if status == JOBS[call.kind]:
                    call.job_end, call.ended_at = status, time.time()
                    return
            await asyncio.sleep(PAUSE_S)

    async def _operator(self) -> None:
        """One after another gets credits; none of them before the user is known."""
        chance = Random(f"{self._seed}/operator")
        line = _Line(lambda: chance.choice(self._ports)[1])
        while not self._stopping:
            grant = Grant(chance.choice(self.users()), f"key-{len(self.book.grants)}", GRANT)
            told = {"account": grant.user, "credits": GRANT / MICRO, "source": "bonus", "key": grant.key}
            data = request(
                "POST /admin/credits/grant", f"Authorization: Bearer {SECRET}", body=json.dumps(told).encode()
            )
            answer = await line.ask(data)
            if answer is not None and answer.status == 404:
                await asyncio.sleep(PAUSE_S)
                continue
            self.book.grants.append(grant)
            while (answer is None or answer.status != 200) and not self._stopping:
                answer = await line.ask(data)
            grant.acknowledged = answer is not None and answer.status == 200
            await asyncio.sleep(chance.random())
        line.hang_up()


class _Line:
    """A client's connection, kept open as long as it holds, and made anew when it does not."""

    def __init__(self, port: Callable[[], int]) -> None:
        self._port = port
        self._client: RawClient | None = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[RawClient]:
        """The connection; hung up unless what is inside goes well. Waits for somebody to connect to."""
        while self._client is None or self._client.reader.at_eof():
            self.hang_up()
            try:
                self._client = await RawClient.connect("127.0.0.1", self._port())
            except OSError:
                await asyncio.sleep(PAUSE_S)
        client, self._client = self._client, None
        try:
            yield client
        except BaseException:
            client.leave()
            raise
        self._client = client

    async def ask(self, data: bytes) -> Message | None:
        """A request and its answer, or None."""
        with suppress(*GONE):
            async with asyncio.timeout(PATIENCE_S), self.connected() as client:
                await client.send(data)
                return await client.answer()
        await asyncio.sleep(PAUSE_S)
        return None

    def hang_up(self) -> None:
        if self._client is not None:
            self._client.leave()
            self._client = None


def _note_head(call: Call, head: Message) -> None:
    call.status = head.status
    call.request_id = _text(head, b"x-request-id")
    call.funding = _text(head, b"x-farebox-funding")
    call.charged, call.reserved = _amount(head, b"x-farebox-charged"), _amount(head, b"x-farebox-reserved")
    left = b"x-farebox-quota-remaining" if call.funding == "quota" else b"x-farebox-credits-remaining"
    call.remaining = _amount(head, left)


def _text(head: Message, name: bytes) -> str | None:
    values = head.values(name)
    return values[0].decode() if values else None


def _amount(head: Message, name: bytes) -> int | None:
    """Credits as micro-credits, quota as units."""
    text = _text(head, name)
    if text is None:
        return None
    return int(text) if _text(head, b"x-farebox-funding") == "quota" else int(Decimal(text) * MICRO)


async def _read_body(call: Call, head: Message, client: RawClient) -> None:
    """The rest of the answer. Raises one of GONE when it is cut, also when it is the client that leaves."""
    if head.chunked:
        pieces = 0
        while await client.chunk():
            pieces += 1
            if pieces == 2 and call.kind is Kind.LEAVES:
                raise ConnectionAbortedError("the client has seen enough")
        # The empty chunk has a line end of its own, which `chunk` has read.
        call.outcome = Outcome.ANSWERED
        return
    assert head.length is not None, "there are no other framings here"
    head.body = await client.reader.readexactly(head.length)
    call.outcome = Outcome.ANSWERED
    document = json.loads(head.body)
    call.code = document.get("code")
    if call.status == 202:
        call.job_id = document["id"]


assert STREAMS.isdisjoint(JOBS), "a job is accepted in one piece"

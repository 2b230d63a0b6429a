"""The clients' book: every call with what its client meant by it, and what the client got.

A call's kind says what the backend does with it; `decide` draws kinds and amounts from a seeded chance, so that the
same seed decides the same calls. Which of them meet which kill is up to the machine.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from random import Random

from tests.chaos.shop import JOB, price


class Kind(StrEnum):
    """What becomes of a call where nothing is killed."""

    QUICK = "quick"
    """A JSON answer that states its usage."""
    SLOW = "slow"
    """The same after a while."""
    STREAM = "stream"
    """Events over a while, the last of which states the usage."""
    LEAVES = "leaves"
    """The same, and the client hangs up in the middle."""
    BREAKS = "breaks"
    """The same, and the backend hangs up in the middle."""
    FAILS = "fails"
    """500 of the backend."""
    VANISHES = "vanishes"
    """The backend hangs up before its answer."""
    JOB = "job"
    """A job that is polled until it is done."""
    FAILING_JOB = "failing_job"
    """A job that is polled until it has failed."""
    LONELY_JOB = "lonely_job"
    """A job that nobody polls."""
    DENIED = "denied"
    """A model above everybody's tier."""


OFTEN = {
    Kind.QUICK: 30,
    Kind.SLOW: 12,
    Kind.STREAM: 12,
    Kind.LEAVES: 4,
    Kind.BREAKS: 4,
    Kind.FAILS: 6,
    Kind.VANISHES: 3,
    Kind.JOB: 8,
    Kind.FAILING_JOB: 4,
    Kind.LONELY_JOB: 3,
    Kind.DENIED: 3,
}
"""How often a client decides for what, in comparison."""

JOBS = {Kind.JOB: "done", Kind.FAILING_JOB: "failed", Kind.LONELY_JOB: "done"}
"""The kinds that start jobs, with how the jobs end."""

STREAMS = {Kind.STREAM, Kind.LEAVES, Kind.BREAKS}
"""The kinds whose charge is not known yet when their answer begins."""

WORTH_NOTHING = {Kind.FAILS, Kind.VANISHES, Kind.DENIED}
"""The kinds that bring their client nothing, and so cost nothing."""


class Outcome(StrEnum):
    """How much of an answer the client saw."""

    ANSWERED = "answered"
    """All of it."""
    CUT = "cut"
    """Its head, and not its end; or the client has hung up."""
    SILENT = "silent"
    """Nothing."""


@dataclass(slots=True)
class Call:
    """One call. Everything from `outcome` on is what the client saw; amounts are in the unit of the funding."""

    id: str
    user: str
    kind: Kind
    strict: bool
    """By a route that charges the quote for what was cut or has died."""
    tokens: int
    max_tokens: int
    delay_ms: int
    sent_at: float = 0.0
    ended_at: float = 0.0
    outcome: Outcome = Outcome.SILENT
    status: int | None = None
    request_id: str | None = None
    funding: str | None = None
    charged: int | None = None
    reserved: int | None = None
    remaining: int | None = None
    code: str | None = None
    """The code of a refusal."""
    job_id: str | None = None
    job_end: str | None = None
    """What a poll said, once it said that the job has ended."""

    @property
    def path(self) -> str:
        if self.kind is Kind.DENIED:
            return "/dear"
        return ("/start" if self.kind in JOBS else "/buy") + ("-strictly" if self.strict else "")

    @property
    def quote(self) -> int:
        """Micro-credits."""
        return JOB if self.kind in JOBS else price(self.max_tokens)

    @property
    def cost(self) -> int:
        """Micro-credits that a complete answer costs where the account has them."""
        return JOB if self.kind in JOBS else price(self.tokens)

    def body(self) -> bytes:
        """What the backend is told to do."""
        end = JOBS.get(self.kind)
        told = {"call": self.id, "kind": self.kind, "tokens": self.tokens, "delay_ms": self.delay_ms, "end": end}
        return json.dumps({"max_tokens": self.max_tokens, **told}).encode()

    def line(self) -> str:
        """For the file that is kept when something is wrong."""
        return json.dumps(asdict(self))


def decide(call_id: str, user: str, chance: Random) -> Call:
    """The next call of a client. Some use more than they were quoted for."""
    kind = chance.choices(list(OFTEN), list(OFTEN.values()))[0]
    max_tokens = chance.randint(5, 30)
    tokens = chance.randint(0, max_tokens + 10)
    return Call(call_id, user, kind, chance.random() < 0.3, tokens, max_tokens, chance.randint(0, 150))

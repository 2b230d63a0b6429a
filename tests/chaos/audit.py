"""The comparison of the three books: what clients got, what the backend received, what the ledger says.

Each rule is a function from books to breaches. None of them knows how Farebox works; they know what it promises.
docs/chaos.md says what the words mean.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tests.chaos.backend import Receipt
from tests.chaos.calls import JOBS, WORTH_NOTHING, Call, Outcome
from tests.chaos.clients import ClientBook
from tests.chaos.ledger import Hold, LedgerBook
from tests.chaos.shop import DEADLINE_S, WELCOME

CUT_S = 0.9 * DEADLINE_S
"""From here on a call may have outlived its hold."""

REFUSALS = {400, 401, 402, 403, 404, 429, 503}
"""Statuses that say that a call was not forwarded. The backend here answers none of them itself."""


class Wrong(StrEnum):
    """What can be wrong, each a column of the table."""

    OVERSPENT = "overspent"
    UNPAID = "forwarded unpaid"
    LOST = "lost"
    TWICE = "charged twice"
    FOR_NOTHING = "charged for nothing"
    FAULT = "faults"


@dataclass(frozen=True, slots=True)
class Breach:
    """`where` is a request id, an account, or whatever it happened to."""

    wrong: Wrong
    where: str
    what: str


@dataclass
class Books:
    """`outages` are the spans in which the database could not be relied upon, in seconds since 1970."""

    clients: ClientBook
    backend: list[Receipt]
    ledger: LedgerBook
    outages: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.received: Mapping[str, list[Receipt]] = defaultdict(list)
        for receipt in self.backend:
            self.received[receipt.call].append(receipt)

    def hold_of(self, call: Call) -> Hold | None:
        """By the id that the client was told, or else by the one that the backend was."""
        known = call.request_id or next((receipt.request_id for receipt in self.received.get(call.id, ())), None)
        return self.ledger.holds.get(known) if known is not None else None

    def excused(self, call: Call) -> bool:
        """Whether the database was out of reach while the call lasted."""
        return any(call.sent_at <= end and start <= call.ended_at for start, end in self.outages)


def audit(books: Books) -> list[Breach]:
    """Everything that is wrong."""
    rules = (_calls, _receipts, _holds, _charges, _histories, _worth, _grants)
    return [breach for rule in rules for breach in rule(books)]


# What each client saw.


def _calls(books: Books) -> Iterator[Breach]:
    for call in books.clients.calls:
        hold, where = books.hold_of(call), call.request_id or f"call {call.id}"
        if call.remaining is not None and call.remaining < 0:
            yield Breach(Wrong.OVERSPENT, where, f"{call.remaining} remain")
        if call.status in REFUSALS:
            yield from _refused(books, call, hold, where)
        elif call.code == "internal_error":
            yield Breach(Wrong.FAULT, where, f"{call.kind} was answered with 500 by Farebox itself")
        if call.kind in WORTH_NOTHING or call.status in (500, 502, 504):
            yield from _failed(books, call, hold, where)
        if call.outcome is Outcome.ANSWERED:
            yield from _told(hold, call, where)
        if call.status in (200, 202) and call.outcome is Outcome.ANSWERED:
            yield from _delivered(books, call, hold, where)
        elif call.status == 200 and hold is not None and hold.settled < _least(call, hold) and not hold.expired:
            # Both rules for streams that are cut charge what was stated, or else the quote: leaving is no free ride.
            yield Breach(Wrong.LOST, where, f"{call.kind} was cut after it had begun, {_of(hold)}")
        if hold is not None and hold.settled > _most(call, hold):
            yield Breach(Wrong.FOR_NOTHING, where, f"{call.kind} costs {_most(call, hold)} at most, {_of(hold)}")


def _refused(books: Books, call: Call, hold: Hold | None, where: str) -> Iterator[Breach]:
    """Who was refused was not served, and has not paid."""
    if call.id in books.received:
        yield Breach(Wrong.UNPAID, where, f"refused with {call.status}, and received by the backend")
    if hold is not None and hold.settled and not (quoted(hold) and books.excused(call)):
        yield Breach(Wrong.FOR_NOTHING, where, f"refused with {call.status}, {_of(hold)}")


def _failed(books: Books, call: Call, hold: Hold | None, where: str) -> Iterator[Breach]:
    """A failed call costs nothing, unless nobody could write that down, and its route leaves the quote to pay then."""
    if hold is None or not hold.settled or call.status in REFUSALS:
        return
    if not (quoted(hold) and (call.outcome is not Outcome.ANSWERED or books.excused(call))):
        yield Breach(Wrong.FOR_NOTHING, where, f"{call.kind} failed with {call.status}, {_of(hold)}")


def _told(hold: Hold | None, call: Call, where: str) -> Iterator[Breach]:
    """Amounts in an answer are those of the ledger, exactly."""
    told = call.charged if call.charged is not None else call.reserved
    if told is None:
        return
    if hold is None:
        yield Breach(Wrong.LOST, where, f"told {told}, and there is no hold")
    elif call.charged is not None and call.charged != hold.settled:
        wrong = Wrong.LOST if hold.settled < call.charged else Wrong.FOR_NOTHING
        yield Breach(wrong, where, f"told that {call.charged} was charged, {_of(hold)}")
    elif call.reserved is not None and call.reserved != hold.amount:
        yield Breach(Wrong.LOST, where, f"told that {call.reserved} was reserved, it was {hold.amount}")


def _delivered(books: Books, call: Call, hold: Hold | None, where: str) -> Iterator[Breach]:
    """Who got the whole answer has paid for it, unless the database was away or the deadline came first."""
    if hold is None:
        yield Breach(Wrong.LOST, where, f"{call.kind} was delivered, and there is no hold")
    elif call.kind in JOBS:
        due = {"done": hold.amount, "failed": 0}.get(call.job_end or "")
        if due is not None and hold.settled != due and not hold.expired and not books.excused(call):
            wrong = Wrong.LOST if hold.settled < due else Wrong.FOR_NOTHING
            yield Breach(wrong, where, f"the job is {call.job_end}, {_of(hold)}")
    elif hold.settled < _least(call, hold) and not hold.expired:
        yield Breach(Wrong.LOST, where, f"{call.kind} was delivered, {_of(hold)}")
    elif hold.funding == "credits" and hold.settled > call.cost and not hold.expired:
        yield Breach(Wrong.FOR_NOTHING, where, f"{call.kind} used {call.cost}, {_of(hold)}")
    elif hold.expired and not books.excused(call) and hold.ended_at is not None and call.ended_at < hold.deadline:
        yield Breach(Wrong.LOST, where, f"{call.kind} was delivered in time, {_of(hold)}")


def _least(call: Call, hold: Hold) -> int:
    return 1 if hold.funding == "quota" else min(call.quote, call.cost)


def _most(call: Call, hold: Hold) -> int:
    return 1 if hold.funding == "quota" else max(call.quote, call.cost)


def quoted(hold: Hold) -> bool:
    """Whether the deadline has charged the quote, as the strict routes want it."""
    return hold.expired and hold.route.endswith("-strictly") and hold.settled == hold.amount


def _of(hold: Hold) -> str:
    return f"its hold {hold.request_id} of {hold.amount} is {hold.state} ({hold.end_reason}) at {hold.settled}"


# What the backend received.


def _receipts(books: Books) -> Iterator[Breach]:
    """Each call arrives once, and after it was paid for by the one who made it."""
    for name in ("request_id", "call"):
        counted = Counter(getattr(receipt, name) for receipt in books.backend)
        for value in (value for value, times in counted.items() if times > 1):
            yield Breach(Wrong.TWICE, value, f"the backend has received this {name} {counted[value]} times")
    for receipt in books.backend:
        hold = books.ledger.holds.get(receipt.request_id)
        if hold is None:
            yield Breach(Wrong.UNPAID, receipt.request_id, f"call {receipt.call} was received without a hold")
        elif hold.created_at > receipt.at:
            late = hold.created_at - receipt.at
            yield Breach(Wrong.UNPAID, receipt.request_id, f"received {late:.6f} s before its hold was made")
        elif hold.user != receipt.user:
            yield Breach(Wrong.UNPAID, receipt.request_id, f"received for {receipt.user}, held of {hold.user}")


# What the ledger says.


def _holds(books: Books) -> Iterator[Breach]:
    """Every hold has ended; and what the backend never received has cost nothing."""
    received = {receipt.request_id for receipt in books.backend}
    for hold in books.ledger.holds.values():
        if hold.state == "reserved":
            yield Breach(Wrong.LOST, hold.request_id, f"{hold.amount} of {hold.user} is still held")
        if hold.settled and hold.request_id not in received and not quoted(hold):
            yield Breach(Wrong.FOR_NOTHING, hold.request_id, f"never forwarded, {_of(hold)}")


def _charges(books: Books) -> Iterator[Breach]:
    """A hold that has settled is charged by one usage event, and by one entry where credits paid; no other one is."""
    usage: dict[str, list[int]] = defaultdict(list)
    for request_id, charged in books.ledger.usage:
        usage[request_id].append(charged)
    entries: dict[str, list[int]] = defaultdict(list)
    for entry in books.ledger.entries:
        if entry.kind == "usage":
            entries[entry.request_id or "?"].append(-entry.amount)
    for request_id in sorted(usage.keys() | entries.keys() | books.ledger.holds.keys()):
        hold = books.ledger.holds.get(request_id)
        settled = hold is not None and hold.state == "settled"
        amount = hold.settled if hold is not None else 0
        booked = [amount] if settled and amount and hold is not None and hold.funding == "credits" else []
        for kind, found, due in (("usage", usage, [amount] if settled else []), ("entries", entries, booked)):
            there = found.get(request_id, [])
            if there != due:
                wrong = Wrong.TWICE if len(there) > len(due) else Wrong.LOST
                yield Breach(wrong, request_id, f"{kind}: {there}, expected {due}")


def _histories(books: Books) -> Iterator[Breach]:
    """At no moment are charges and open holds more than the funds, neither of credits nor of a day's quota."""
    moves: dict[str, list[tuple[float, int]]] = defaultdict(list)
    funds: dict[str, int] = defaultdict(int)
    for entry in books.ledger.entries:
        if entry.kind != "usage":
            moves[f"account {entry.account}"].append((entry.at, -entry.amount))
    for hold in books.ledger.holds.values():
        places = hold.windows if hold.funding == "quota" else ("",)
        for place in places:
            name = f"account {hold.account} {place}".strip()
            funds[name] = books.ledger.daily if place else 0
            moves[name].append((hold.created_at, hold.amount))
            if hold.ended_at is not None:
                moves[name].append((hold.ended_at, hold.settled - hold.amount))
    for name, changes in moves.items():
        taken: dict[float, int] = defaultdict(int)
        for at, change in changes:
            taken[at] += change
        total, most = 0, 0
        for at in sorted(taken):
            total += taken[at]
            most = max(most, total)
        if most > funds[name]:
            yield Breach(Wrong.OVERSPENT, name, f"taken {most - funds[name]} more than there was")


def _worth(books: Books) -> Iterator[Breach]:
    """By what clients saw alone: nobody got answers that are worth more credits than were given to them."""
    given = Counter(dict.fromkeys(books.ledger.accounts, WELCOME))
    for grant in books.clients.grants:
        given[grant.user] += grant.amount
    got: Counter[str] = Counter()
    for call in books.clients.calls:
        if call.funding == "credits" and call.outcome is Outcome.ANSWERED and call.status == 200:
            free = books.excused(call) or call.ended_at - call.sent_at >= CUT_S
            got[call.user] += call.charged if call.charged is not None else 0 if free else min(call.quote, call.cost)
    for user, worth in got.items():
        if worth > given[user]:
            yield Breach(Wrong.OVERSPENT, user, f"got what is worth {worth}, and was given {given[user]}")
    for user, balance in books.clients.balances:
        if not 0 <= balance <= given[user]:
            yield Breach(Wrong.OVERSPENT, user, f"was told to have {balance}, of {given[user]}")


def _grants(books: Books) -> Iterator[Breach]:
    """Each grant is there once, if it was acknowledged or welcomes a user; at most once, if it was not."""
    users = {accounts[0]: user for user, accounts in books.ledger.accounts.items()}
    for user, accounts in books.ledger.accounts.items():
        if len(accounts) > 1:
            yield Breach(Wrong.TWICE, user, f"has the accounts {accounts}")
    found = Counter((users.get(account, "?"), key, amount) for account, key, amount in books.ledger.grants)
    due = Counter((user, "welcome", WELCOME) for user in books.ledger.accounts)
    due.update((grant.user, grant.key, grant.amount) for grant in books.clients.grants if grant.acknowledged)
    asked = due | Counter((grant.user, grant.key, grant.amount) for grant in books.clients.grants)
    for grant in sorted(found.keys() | asked.keys()):
        if found[grant] < due[grant]:
            yield Breach(Wrong.LOST, grant[0], f"the grant {grant[1]} of {grant[2]} is not there")
        if found[grant] > asked[grant]:
            yield Breach(Wrong.TWICE, grant[0], f"the grant {grant[1]} of {grant[2]} is there {found[grant]} times")

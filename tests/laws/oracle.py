"""The ledger once more, as simply as it can be thought of: every micro-credit is a coin that lies somewhere.

Written from the promises and not from the code, for the state machine to compare with. It has no balances, no held
amounts and no provenance records that could be wrong: those are counted from the coins when somebody asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fractions import Fraction
from math import ceil

from policies.holds import HoldState
from policies.quota import QuotaTerms
from policies.terms import AccountId, Funding, HoldId, Metric, OnDeadline, OnLate, Overrun
from policies.windows import UTC_CALENDAR
from store.verbs import (
    BindJob,
    Deduct,
    Ended,
    Expire,
    Extend,
    GrantCredits,
    Granted,
    GrantSource,
    Hold,
    LacksCredits,
    LacksQuota,
    Outcome,
    Refund,
    Refunded,
    Refused,
    Release,
    Reserve,
    Settle,
    Verb,
)
from tests.laws.days import span

SECOND = timedelta(seconds=1)
FREE, GONE = "free", "gone"
"""Where a coin lies when it is neither held nor spent: a hold's coin lies at ("held", id) or ("spent", id)."""

Place = str | tuple[str, int]


@dataclass
class Purse:
    """The coins of one grant."""

    grant: GrantCredits
    since: datetime
    coins: list[Place]

    def rank(self) -> tuple[int, float, int]:
        ends = self.grant.expires_at
        return self.grant.priority, ends.timestamp() if ends else float("inf"), self.grant.grant_id

    def lapsed(self, now: datetime) -> bool:
        return self.grant.expires_at is not None and self.grant.expires_at <= now


Coin = tuple[Purse, int]


@dataclass(eq=False)
class Spell:
    """A day or month of an account, from its first request to its end. `share` is how much of a whole one it is."""

    start: datetime
    end: datetime
    share: Fraction
    carried: int
    limit: int = 0

    def allows(self, limit: int) -> int:
        return ceil(limit * self.share) + self.carried


@dataclass
class Ride:
    """A hold: the coins it took in their order, or the spells it counts on."""

    verb: Reserve
    funding: Funding
    amount: int
    coins: list[Coin] = field(default_factory=list)
    spells: list[Spell] = field(default_factory=list)
    state: HoldState = HoldState.RESERVED
    settled: int = 0
    refunded: int = 0
    job: str | None = None
    deadline: datetime = datetime.max
    rule: OnDeadline = OnDeadline.RELEASE
    late: bool = False


class Oracle:
    """Says what the answer to a verb must be."""

    def __init__(self) -> None:
        self.now = datetime.min
        self.purses: dict[AccountId, list[Purse]] = {}
        self.rides: dict[HoldId, Ride] = {}
        self.spells: dict[tuple[AccountId, str], list[Spell]] = {}
        self.owed: dict[AccountId, int] = {}

    # What can be counted.

    def count(self, account: AccountId, *kinds: str) -> int:
        coins = (coin for purse in self.purses[account] for coin in purse.coins)
        return sum((coin if isinstance(coin, str) else coin[0]) in kinds for coin in coins)

    def used(self, spell: Spell) -> int:
        return sum(ride.settled - ride.refunded for ride in self.rides.values() if spell in ride.spells)

    def held(self, spell: Spell) -> int:
        return sum(r.amount for r in self.rides.values() if spell in r.spells and r.state is HoldState.RESERVED)

    def spendable(self, account: AccountId) -> list[Coin]:
        """In the order in which they are spent."""
        purses = [p for p in self.purses[account] if p.since <= self.now and not p.lapsed(self.now)]
        return [
            (purse, index)
            for purse in sorted(purses, key=Purse.rank)
            for index, coin in enumerate(purse.coins)
            if coin == FREE
        ]

    def left(self, ride: Ride) -> int:
        if ride.funding is Funding.CREDITS:
            return self.count(ride.verb.account_id, FREE) - self.owed.get(ride.verb.account_id, 0)
        return max(min((self.room(spell, spell.limit) for spell in ride.spells), default=0), 0)

    def room(self, spell: Spell, limit: int) -> int:
        """What a spell has left under a plan with this limit; less than nothing after a downgrade."""
        return spell.allows(limit) - self.used(spell) - self.held(spell)

    # What happens.

    def expect(self, verb: Verb) -> Outcome:
        if verb.account_id not in self.purses:
            return Refused.UNKNOWN_ACCOUNT
        self._lapse(verb.account_id)
        outcome = self._happen(verb)
        self._lapse(verb.account_id)
        return outcome

    def _lapse(self, account: AccountId) -> None:
        for purse in self.purses[account]:
            if purse.lapsed(self.now):
                purse.coins = [GONE if coin == FREE else coin for coin in purse.coins]
        for purse, index in self.spendable(account)[: self.owed.get(account, 0)]:
            purse.coins[index] = GONE
            self.owed[account] -= 1

    def posted(self, account: AccountId) -> int:
        return self.count(account, FREE, "held") - self.owed.get(account, 0)

    def _happen(self, verb: Verb) -> Outcome:
        if isinstance(verb, Reserve):
            return self._reserve(verb)
        if isinstance(verb, GrantCredits):
            return self._grant(verb)
        if isinstance(verb, Deduct):
            return self._deduct(verb)
        ride = self.rides.get(verb.hold_id)
        if ride is None or ride.verb.account_id != verb.account_id:
            return Refused.UNKNOWN_HOLD
        match verb:
            case Settle():
                wanted = ride.amount if verb.amount is None else verb.amount
                may = ride.state is HoldState.EXPIRED and ride.verb.on_late is OnLate.CHARGE and not ride.late
                return self._charge_late(ride, wanted) if may else self._end(ride, HoldState.SETTLED, wanted)
            case Release():
                return self._end(ride, HoldState.RELEASED, 0)
            case Expire():
                if ride.state is HoldState.RESERVED and ride.deadline > self.now:
                    return Refused.NOT_DUE
                quote = ride.rule is OnDeadline.QUOTE
                return self._end(ride, HoldState.SETTLED if quote else HoldState.EXPIRED, ride.amount if quote else 0)
            case Extend():
                if ride.state is not HoldState.RESERVED:
                    return Refused.NOT_OPEN
                if ride.job is None:
                    ride.deadline = max(ride.deadline, self.now + verb.lasts)
                return Hold(verb.hold_id, verb.account_id, ride.funding, ride.amount, self.left(ride))
            case BindJob():
                return self._bind(ride, verb)
            case Refund():
                return self._refund(ride, verb)

    def _grant(self, verb: GrantCredits) -> Outcome:
        purses = self.purses[verb.account_id]
        found = next((purse for purse in purses if purse.grant.key == verb.key), None)
        if found is None:
            purses.append(Purse(verb, self.now, [FREE] * verb.amount))
        grant = found.grant if found else verb
        balance = self.posted(verb.account_id)
        return Granted(grant.grant_id, grant.amount, balance, changed=found is None)

    def _deduct(self, verb: Deduct) -> Outcome:
        coins = self.spendable(verb.account_id)
        if self.owed.get(verb.account_id):
            return LacksCredits(verb.amount, -self.owed[verb.account_id])
        if len(coins) < verb.amount:
            return LacksCredits(verb.amount, len(coins))
        for purse, index in coins[: verb.amount]:
            purse.coins[index] = GONE
        return Granted(0, -verb.amount, self.posted(verb.account_id), changed=True)

    def _reserve(self, verb: Reserve) -> Outcome:
        if verb.revision != 0:
            return Refused.STALE
        refusals: list[Outcome] = []
        for funding in verb.fundings:
            refusal = self._ride(verb, funding)
            if refusal is None:
                ride = self.rides[verb.hold_id]
                return Hold(verb.hold_id, verb.account_id, funding, ride.amount, self.left(ride))
            if funding is not Funding.EXEMPT:
                refusals.append(refusal)
        first, *others = refusals
        if isinstance(first, LacksQuota) and others:
            assert isinstance(others[0], LacksCredits)
            return replace(first, credits=others[0])
        return first

    def _ride(self, verb: Reserve, funding: Funding) -> Outcome | None:
        """Begin a ride that this funding pays for, or say why it cannot."""
        amounts = {Funding.EXEMPT: 1, Funding.QUOTA: verb.quota, Funding.CREDITS: verb.credits}
        ride = Ride(verb, funding, amounts[funding], deadline=self.now + verb.lasts, rule=verb.on_deadline)
        refusal: Outcome | None
        if funding is Funding.CREDITS:
            refusal = self._take_coins(ride, ride.amount)
        else:
            refusal = self._count_on_days(ride) if funding is Funding.QUOTA else self._count_for_nothing(ride)
        if refusal is None:
            self.rides[verb.hold_id] = ride
        return refusal

    def _take_coins(self, ride: Ride, amount: int) -> LacksCredits | None:
        coins = self.spendable(ride.verb.account_id)
        if owed := self.owed.get(ride.verb.account_id):
            return LacksCredits(amount, -owed)
        if len(coins) < amount:
            return LacksCredits(amount, len(coins))
        for purse, index in coins[:amount]:
            purse.coins[index] = "held", ride.verb.hold_id
        ride.coins += coins[:amount]
        return None

    def _count_on_days(self, ride: Ride) -> LacksQuota | None:
        terms, account = ride.verb.quota_terms, ride.verb.account_id
        assert terms is not None
        limits = {Metric.DAILY: terms.daily} | ({} if terms.monthly is None else {Metric.MONTHLY: terms.monthly})
        spells = {metric: self._spell(account, metric, limit, terms) for metric, limit in limits.items()}
        return self._count_on(ride, spells)

    def _count_for_nothing(self, ride: Ride) -> LacksQuota | None:
        """On the day or month of UTC that it is now, whatever was before."""
        terms = ride.verb.fair_use
        if terms is None:
            return None
        start, end = span(terms.period, UTC_CALENDAR, self.now)
        spells = self.spells.setdefault((ride.verb.account_id, terms.metric), [])
        if all(spell.start != start for spell in spells):
            spells.append(Spell(start, end, Fraction(1), 0))
        spell = next(spell for spell in spells if spell.start == start)
        spell.limit = terms.limit
        return self._count_on(ride, {terms.metric: spell})

    def _count_on(self, ride: Ride, spells: Mapping[str, Spell]) -> LacksQuota | None:
        for metric, spell in spells.items():
            if self.room(spell, spell.limit) < ride.amount:
                used = self.used(spell) + self.held(spell)
                return LacksQuota(metric, used, spell.allows(spell.limit), spell.end)
        ride.spells = list(spells.values())
        return None

    def _spell(self, account: AccountId, metric: Metric, limit: int, terms: QuotaTerms) -> Spell:
        """The newest one, unless it is over; a clock that was ahead by more than a day has opened none."""
        spells = self.spells.setdefault((account, metric), [])
        last = max((s for s in spells if s.start <= self.now + timedelta(days=1)), key=lambda s: s.start, default=None)
        if last is None or last.end <= self.now:
            start, end, share = self._stretch(metric, terms, self.now, last)
            last = Spell(start, end, share, self._carried(metric, limit, terms, last))
            spells.append(last)
        last.limit = limit
        return last

    def _stretch(
        self, metric: Metric, terms: QuotaTerms, moment: datetime, last: Spell | None
    ) -> tuple[datetime, datetime, Fraction]:
        """The day or month of a moment, as far as it is not the last spell's yet."""
        start, end = span(metric, terms.calendar, moment)
        begin = start if last is None else max(start, last.end)
        return begin, end, Fraction((end - begin) // SECOND, (end - start) // SECOND)

    def _carried(self, metric: Metric, limit: int, terms: QuotaTerms, last: Spell | None) -> int:
        """Going from one to the next, with what each would have left to the next one."""
        cap = terms.daily_rollover if metric is Metric.DAILY else terms.monthly_rollover
        assert terms.since is not None
        moment, carried = terms.since, 0
        if last is not None and last.end > terms.since:
            moment, carried = last.end, min(max(self.room(last, limit), 0), cap)
        while (stretch := self._stretch(metric, terms, moment, last))[1] <= self.now:
            moment, carried = stretch[1], min(carried + ceil(limit * stretch[2]), cap)
        return carried

    def _end(self, ride: Ride, state: HoldState, wanted: int) -> Outcome:
        changed = ride.state is HoldState.RESERVED
        if changed and ride.funding is not Funding.CREDITS:
            ride.state, ride.settled = state, min(wanted, ride.amount)
        elif changed:
            more = min(wanted - ride.amount, len(self.spendable(ride.verb.account_id)))
            if more > 0:
                self._take_coins(ride, more)
            if ride.verb.overrun is Overrun.OVERDRAFT:
                self._lend(ride, wanted - len(ride.coins))
            for number, (purse, index) in enumerate(ride.coins):
                purse.coins[index] = ("spent", ride.verb.hold_id) if number < wanted else FREE
            ride.state, ride.settled = state, min(wanted, len(ride.coins))
            self._lapse(ride.verb.account_id)
        hold_id = ride.verb.hold_id
        return Ended(hold_id, ride.state, ride.funding, ride.settled, self.left(ride), changed)

    def _lend(self, ride: Ride, missing: int) -> None:
        """New coins, in a purse that is named like the ride, and a debt of as many."""
        hold_id, account = ride.verb.hold_id, ride.verb.account_id
        if missing > 0:
            grant = GrantCredits(hold_id, account, missing, GrantSource.REFUND, f"overrun:{hold_id}", "")
            purse = Purse(grant, self.now, [("held", hold_id)] * missing)
            self.purses[account].append(purse)
            ride.coins += [(purse, index) for index in range(missing)]
            self.owed[account] = self.owed.get(account, 0) + missing

    def _charge_late(self, ride: Ride, wanted: int) -> Outcome:
        """From what is there now; the ride stays expired."""
        if ride.funding is not Funding.CREDITS:
            ride.settled = min(wanted, ride.amount, self.left(ride) if ride.spells else ride.amount)
        else:
            ride.coins = self.spendable(ride.verb.account_id)[:wanted]
            ride.settled = len(ride.coins)
            for purse, index in ride.coins:
                purse.coins[index] = "spent", ride.verb.hold_id
        ride.late = True
        return Ended(ride.verb.hold_id, ride.state, ride.funding, ride.settled, self.left(ride), changed=True)

    def _bind(self, ride: Ride, verb: BindJob) -> Outcome:
        taken = any(other.job == verb.job_id for other in self.rides.values() if other is not ride)
        if ride.state is not HoldState.RESERVED:
            if ride.state is HoldState.SETTLED and not taken:
                ride.job = ride.job or verb.job_id
            return Refused.NOT_OPEN
        if taken:
            return Refused.JOB_TAKEN
        ride.job, ride.deadline, ride.rule = verb.job_id, self.now + verb.lasts, verb.on_deadline
        return Hold(verb.hold_id, verb.account_id, ride.funding, ride.amount, self.left(ride))

    def _refund(self, ride: Ride, verb: Refund) -> Outcome:
        if ride.state is not HoldState.SETTLED and not ride.late:
            return Refused.NOT_SETTLED
        left = ride.settled - ride.refunded
        amount = left if verb.amount is None else verb.amount
        if amount > left:
            return Refused.ABOVE_SETTLED
        spent = [(p, i) for p, i in ride.coins if p.coins[i] == ("spent", ride.verb.hold_id)]
        for purse, index in spent[len(spent) - amount :] if ride.funding is Funding.CREDITS else ():
            purse.coins[index] = FREE
        ride.refunded += amount
        self._lapse(verb.account_id)
        return Refunded(ride.verb.hold_id, ride.funding, amount, self.left(ride))

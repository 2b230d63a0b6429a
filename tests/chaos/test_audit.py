"""The audit finds what is wrong: books that agree are passed, and every way in which they can disagree is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.chaos.audit import Books, Wrong, audit
from tests.chaos.backend import Receipt
from tests.chaos.calls import Call, Kind, Outcome
from tests.chaos.clients import ClientBook, Grant
from tests.chaos.ledger import Entry, Hold, LedgerBook
from tests.chaos.shop import BASE, DAILY, WELCOME

ACCOUNT, USER = 1, "ann"
START = 1_000.0


class Story:
    """Books that agree, written call by call."""

    def __init__(self) -> None:
        self.clients, self.ledger, self.receipts = ClientBook(), LedgerBook(), list[Receipt]()
        self.outages: list[tuple[float, float]] = []
        self.ledger.accounts[USER].append(ACCOUNT)
        self.grant("welcome", WELCOME)
        self.now = START

    def grant(self, key: str, amount: int, times: int = 1) -> None:
        self.ledger.grants += [(ACCOUNT, key, amount)] * times
        self.ledger.entries += [Entry(ACCOUNT, "grant", amount, None, START - 1)] * times

    def call(
        self, kind: Kind = Kind.QUICK, *, charged: int = BASE, strict: bool = False, funding: str = "credits"
    ) -> Call:
        """A call that went well: forwarded, answered and charged, each at its moment."""
        number, self.now = len(self.clients.calls), self.now + 1
        call = Call(f"c{number}", USER, kind, strict, 5, 5, 0, self.now, self.now + 0.5, Outcome.ANSWERED, 200)
        call.request_id, call.funding, call.charged = f"H{number}", funding, charged
        self.clients.calls.append(call)
        self.receipts.append(Receipt(call.id, call.request_id, USER, call.path, self.now + 0.2))
        state = "settled" if charged else "released"
        windows = ("daily/today",) if funding == "quota" else ()
        self.ledger.holds[call.request_id] = Hold(
            call.request_id, ACCOUNT, USER, call.path[1:], state, funding, BASE if funding == "credits" else 1, charged,
            "answered", self.now + 0.1, self.now + 0.4, self.now + 4, windows,
        )  # fmt: skip
        if charged:
            self.ledger.usage.append((call.request_id, charged))
            if funding == "credits":
                self.ledger.entries.append(Entry(ACCOUNT, "usage", -charged, call.request_id, self.now + 0.4))
        return call

    def change(self, call: Call, **changes: object) -> None:
        """The hold of a call as it ended otherwise, with the usage that belongs to it."""
        hold = replace(self.ledger.holds[f"H{call.id[1:]}"], **changes)  # type: ignore[arg-type]
        self.ledger.holds[hold.request_id] = hold
        self.ledger.usage = [row for row in self.ledger.usage if row[0] != hold.request_id]
        self.ledger.entries = [entry for entry in self.ledger.entries if entry.request_id != hold.request_id]
        if hold.state == "settled":
            self.ledger.usage.append((hold.request_id, hold.settled))
            self.ledger.entries.append(Entry(ACCOUNT, "usage", -hold.settled, hold.request_id, hold.ended_at or 0))

    def wrong(self) -> set[Wrong]:
        return {breach.wrong for breach in audit(Books(self.clients, self.receipts, self.ledger, self.outages))}


def test_books_that_agree_are_passed() -> None:
    """Charged by credits and by quota, refused, failed, broken off, died and quoted: nothing is wrong with these."""
    story = Story()
    for _ in range(3):
        story.call()
        story.call(funding="quota", charged=1)
    failed = story.call(Kind.FAILS, charged=0)
    failed.status = 500
    refused = story.call(charged=0)
    refused.status, refused.charged, refused.funding = 402, None, None
    story.receipts.pop()
    del story.ledger.holds["H7"]
    died = story.call(charged=0)
    died.outcome, died.status, died.request_id, died.charged = Outcome.SILENT, None, None, None
    story.change(died, state="expired", end_reason="deadline")
    strict = story.call(strict=True)
    strict.outcome, strict.status, strict.request_id, strict.charged = Outcome.SILENT, None, None, None
    story.change(strict, end_reason="deadline")
    job = story.call(Kind.JOB)
    job.status, job.charged, job.reserved, job.job_end = 202, None, BASE, "done"
    story.grant("key-1", 5)
    story.clients.grants.append(Grant(USER, "key-1", 5, acknowledged=True))
    story.clients.grants.append(Grant(USER, "key-2", 5))
    assert story.wrong() == set()


def _too_many_holds(story: Story) -> None:
    for _ in range(WELCOME // BASE + 1):
        call = story.call(charged=0)
        call.charged = None
        story.change(call, state="released", created_at=START + 1, ended_at=START + 2)


def _too_much_quota(story: Story) -> None:
    for _ in range(DAILY + 1):
        story.call(funding="quota", charged=1)


def _worth_more_than_was_given(story: Story) -> None:
    """The ledger has forgotten it all, and only clients know."""
    for _ in range(WELCOME // BASE + 1):
        call = story.call()
        call.charged, call.kind = None, Kind.STREAM
    story.ledger.entries, story.ledger.usage = [story.ledger.entries[0]], []
    story.ledger.holds.clear()


def _told_a_negative_remainder(story: Story) -> None:
    story.call().remaining = -1


def _told_too_high_a_balance(story: Story) -> None:
    story.clients.balances.append((USER, WELCOME + 1))


def _forwarded_before_the_hold(story: Story) -> None:
    story.change(story.call(), created_at=START + 100, ended_at=START + 101)


def _forwarded_without_a_hold(story: Story) -> None:
    story.receipts.append(Receipt("c9", "H9", USER, "/buy", START))


def _forwarded_though_refused(story: Story) -> None:
    call = story.call(charged=0)
    call.status, call.charged = 429, None


def _forwarded_for_somebody_else(story: Story) -> None:
    story.call()
    story.receipts[-1] = replace(story.receipts[-1], user="bob")


def _told_more_than_was_charged(story: Story) -> None:
    story.call().charged = BASE + 1


def _delivered_and_not_charged(story: Story) -> None:
    call = story.call(Kind.STREAM)
    call.charged, call.reserved = None, BASE
    story.change(call, state="released", settled=0)


def _delivered_in_time_and_expired(story: Story) -> None:
    call = story.call(Kind.STREAM)
    call.charged, call.reserved = None, BASE
    story.change(call, state="expired", settled=0, end_reason="deadline")


def _left_in_the_middle_for_nothing(story: Story) -> None:
    call = story.call(Kind.LEAVES)
    call.charged, call.reserved, call.outcome = None, BASE, Outcome.CUT
    story.change(call, state="released", settled=0, end_reason="canceled")


def _still_held(story: Story) -> None:
    call = story.call()
    call.charged, call.reserved, call.outcome = None, BASE, Outcome.CUT
    story.change(call, state="reserved", settled=0, ended_at=None, end_reason=None)


def _a_done_job_that_is_free(story: Story) -> None:
    call = story.call(Kind.JOB)
    call.status, call.charged, call.job_end = 202, None, "done"
    story.change(call, state="released", settled=0)


def _a_charge_without_usage(story: Story) -> None:
    story.call()
    story.ledger.usage.clear()


def _an_acknowledged_grant_is_gone(story: Story) -> None:
    story.clients.grants.append(Grant(USER, "key-1", 5, acknowledged=True))


def _no_welcome(story: Story) -> None:
    story.ledger.grants.clear()


def _two_usage_events(story: Story) -> None:
    story.ledger.usage *= 2 if story.call() else 0


def _two_entries(story: Story) -> None:
    story.call()
    story.ledger.entries.append(story.ledger.entries[-1])


def _sent_twice(story: Story) -> None:
    story.call()
    story.receipts.append(replace(story.receipts[-1], request_id="H9"))


def _received_twice(story: Story) -> None:
    story.call()
    story.receipts.append(story.receipts[-1])


def _granted_twice(story: Story) -> None:
    story.grant("welcome", WELCOME)


def _two_accounts(story: Story) -> None:
    story.ledger.accounts[USER].append(2)


def _charged_for_a_failure(story: Story) -> None:
    call = story.call(Kind.FAILS)
    call.status = 500


def _a_told_failure_is_quoted(story: Story) -> None:
    """`on_crash: quote` is for calls whose end nobody could write down; this one's could have been."""
    call = story.call(Kind.FAILS, strict=True)
    call.status, call.charged, call.reserved = 500, None, BASE
    story.change(call, end_reason="deadline")


def _charged_for_a_refusal(story: Story) -> None:
    call = story.call()
    call.status, call.charged = 503, None
    story.receipts.pop()


def _charged_and_never_forwarded(story: Story) -> None:
    call = story.call()
    call.outcome, call.status, call.charged, call.request_id = Outcome.SILENT, None, None, None
    story.receipts.pop()


def _charged_more_than_it_costs(story: Story) -> None:
    call = story.call()
    call.charged = 2 * BASE
    story.change(call, settled=2 * BASE)


def _charged_the_quote_of_a_cheaper_call(story: Story) -> None:
    call = story.call()
    call.max_tokens, call.charged = 20, 2 * BASE
    story.change(call, amount=2 * BASE, settled=2 * BASE)


def _charged_more_than_told(story: Story) -> None:
    story.call().charged = BASE - 1


def _a_failed_job_is_charged(story: Story) -> None:
    call = story.call(Kind.FAILING_JOB)
    call.status, call.charged, call.job_end = 202, None, "failed"


def _a_fault_of_its_own(story: Story) -> None:
    call = story.call(charged=0)
    call.status, call.code, call.charged = 500, "internal_error", None


TALES: dict[Callable[[Story], None], Wrong] = {
    _too_many_holds: Wrong.OVERSPENT,
    _too_much_quota: Wrong.OVERSPENT,
    _worth_more_than_was_given: Wrong.OVERSPENT,
    _told_a_negative_remainder: Wrong.OVERSPENT,
    _told_too_high_a_balance: Wrong.OVERSPENT,
    _forwarded_before_the_hold: Wrong.UNPAID,
    _forwarded_without_a_hold: Wrong.UNPAID,
    _forwarded_though_refused: Wrong.UNPAID,
    _forwarded_for_somebody_else: Wrong.UNPAID,
    _told_more_than_was_charged: Wrong.LOST,
    _delivered_and_not_charged: Wrong.LOST,
    _delivered_in_time_and_expired: Wrong.LOST,
    _left_in_the_middle_for_nothing: Wrong.LOST,
    _still_held: Wrong.LOST,
    _a_done_job_that_is_free: Wrong.LOST,
    _a_charge_without_usage: Wrong.LOST,
    _an_acknowledged_grant_is_gone: Wrong.LOST,
    _no_welcome: Wrong.LOST,
    _two_usage_events: Wrong.TWICE,
    _two_entries: Wrong.TWICE,
    _sent_twice: Wrong.TWICE,
    _received_twice: Wrong.TWICE,
    _granted_twice: Wrong.TWICE,
    _two_accounts: Wrong.TWICE,
    _charged_for_a_failure: Wrong.FOR_NOTHING,
    _a_told_failure_is_quoted: Wrong.FOR_NOTHING,
    _charged_for_a_refusal: Wrong.FOR_NOTHING,
    _charged_and_never_forwarded: Wrong.FOR_NOTHING,
    _charged_more_than_it_costs: Wrong.FOR_NOTHING,
    _charged_the_quote_of_a_cheaper_call: Wrong.FOR_NOTHING,
    _charged_more_than_told: Wrong.FOR_NOTHING,
    _a_failed_job_is_charged: Wrong.FOR_NOTHING,
    _a_fault_of_its_own: Wrong.FAULT,
}


@pytest.mark.parametrize("tale", TALES, ids=lambda tale: tale.__name__.strip("_"))
def test_each_disagreement_is_told(tale: Callable[[Story], None]) -> None:
    """Whichever book is wrong, in the column of the table where it belongs."""
    story = Story()
    story.call()
    tale(story)
    assert TALES[tale] in story.wrong()


def test_an_outage_excuses_what_was_delivered_meanwhile() -> None:
    """The database could not take the charge; the call is given away, and that is no breach."""
    story = Story()
    call = story.call()
    call.charged, call.reserved = None, BASE
    story.change(call, state="expired", settled=0, end_reason="deadline")
    assert story.wrong() == {Wrong.LOST}
    story.outages.append((call.sent_at + 0.1, call.sent_at + 0.2))
    assert story.wrong() == set()


def test_every_column_can_be_reached() -> None:
    """No column of the table is there for show."""
    assert set(TALES.values()) == set(Wrong)

"""One process of several that share a database: started by tests as `python -m tests.store.worker`.

admit URL ACCOUNT COUNT    says ready, waits for a line, asks COUNT times at once, says how many passed
cycle URL ACCOUNT          reserves and ends holds until it is killed, and says each answer
"""

from __future__ import annotations

import asyncio
import random
import sys
from datetime import timedelta

from config.clock import utc_now
from policies.quota import QuotaTerms
from policies.terms import AccountId, Funding, OnDeadline
from store.opening import Store, open_store
from store.verbs import Ended, Hold, Request, Reserve, Settle, Usage

AT_ONCE = 8
CREDITS, QUOTA = 10, 1
"""What each call costs: one or the other."""


def _reserve(store: Store, account_id: int, fundings: tuple[Funding, ...], daily: int) -> Reserve:
    request = Request("user", None, "app:model", "generate", "route", "policy", "rule", 1)
    terms, lasts = QuotaTerms(daily, 10**6, 1), timedelta(minutes=10)
    identity = store.ids.next(), AccountId(account_id), 0
    return Reserve(*identity, fundings, CREDITS, QUOTA, terms, request, lasts, OnDeadline.RELEASE)


async def admit(url: str, account_id: int, count: int) -> None:
    fundings = Funding.QUOTA, Funding.CREDITS
    async with open_store(url, utc_now) as store:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        answers = await asyncio.gather(
            *(store.ledger.reserve(_reserve(store, account_id, fundings, 20)) for _ in range(count))
        )
    print(sum(isinstance(answer, Hold) for answer in answers), flush=True)


async def cycle(url: str, account_id: int) -> None:
    async with open_store(url, utc_now) as store:
        await asyncio.gather(*(_cycles(store, account_id) for _ in range(AT_ONCE)))


async def _cycles(store: Store, account_id: int) -> None:
    chance = random.Random()
    while True:
        hold = await store.ledger.reserve(_reserve(store, account_id, (chance.choice(list(Funding)[:2]),), 10**6))
        if not isinstance(hold, Hold):
            continue
        print(hold.hold_id, "reserved", 0, flush=True)
        if chance.random() < 0.3:
            ended = await store.ledger.release(hold.hold_id, hold.account_id, "failed")
        else:
            settle = Settle(hold.hold_id, hold.account_id, chance.randint(0, 15), Usage(), "done")
            ended = await store.ledger.settle(settle)
        assert isinstance(ended, Ended)
        print(hold.hold_id, ended.state, ended.charged, flush=True)


if __name__ == "__main__":
    what, url, account, *rest = sys.argv[1:]
    asyncio.run(admit(url, int(account), int(rest[0])) if what == "admit" else cycle(url, int(account)))

"""A desk for tests: a store with the catalogue that comes with Farebox, and a clock that tests move."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from config.roles import Role
from config.settings import load_settings
from policies.quota import QuotaTerms
from policies.refusals import Reason, Refusal
from policies.rulebook import Rulebook
from policies.terms import Funding, HoldId, OnDeadline
from proxy.operations.operation import Desk
from proxy.operations.table import OPERATIONS
from proxy.policy_reading import load_rulebook
from store import catalogue
from store.accounts import find_user
from store.ids import id_text
from store.opening import open_store
from store.verbs import Hold, Request, Reserve, Settle, Usage
from tests import canaries

SETTINGS = """
admin: {listen: "127.0.0.1:0", token: "TOKEN"}
listen: 127.0.0.1:0
database: %s
identity: {jwt: [{name: app, algorithms: [HS256], secret: "SECRET"}]}
upstreams: {backend: {url: "http://127.0.0.1:1"}}
routes: [{id: site, match: GET /**, upstream: backend, access: open}]
""".replace("TOKEN", canaries.ADMIN_TOKEN).replace("SECRET", canaries.JWT_SECRET)

NOW = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)
MICRO = 1_000_000


@dataclass
class Clock:
    """Stands until it is moved."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


class Counter:
    """Verbs done by hand: `await counter.do("credits grant", account="ana", credits=5)`."""

    def __init__(self, desk: Desk, clock: Clock) -> None:
        self.desk = desk
        self.clock = clock

    async def try_to(self, verb: str, **given: object) -> dict[str, Any] | Refusal:
        operation = next(found for found in OPERATIONS if f"{found.noun} {found.verb}" == verb)
        arguments = operation.read(given)
        return arguments if isinstance(arguments, Refusal) else await operation.perform(self.desk, arguments)

    async def do(self, verb: str, **given: object) -> dict[str, Any]:
        """The answer of a verb that must not be refused."""
        answer = await self.try_to(verb, **given)
        assert isinstance(answer, dict), answer
        return answer

    async def refused(self, verb: str, reason: Reason, **given: object) -> Refusal:
        """The refusal of a verb that must be refused for this reason."""
        answer = await self.try_to(verb, **given)
        assert isinstance(answer, Refusal), answer
        assert answer.reason is reason, answer
        return answer

    async def reserve(self, user: str, amount: int, funding: Funding = Funding.CREDITS, **rules: Any) -> str:
        """The id of a new open hold, as text."""
        found = await self.desk.store.database.read(find_user, user)
        assert found is not None, "the user exists"
        request = Request(user, None, "video-generator:wan2.2", "generate", "generate-video", "r1", "tier-models", 1)
        verb = Reserve(
            hold_id=self.desk.store.ids.next(),
            account_id=found.account.account_id,
            revision=found.account.revision,
            fundings=(funding,),
            credits=amount,
            quota=amount,
            quota_terms=found.account.at(self.clock.now).quota_terms or QuotaTerms(50, 1500, 1),
            request=request,
            lasts=timedelta(hours=1),
            on_deadline=OnDeadline.RELEASE,
            **rules,
        )
        outcome = await self.desk.store.ledger.reserve(verb)
        assert isinstance(outcome, Hold), outcome
        return id_text(outcome.hold_id)

    async def settle(self, hold_id: HoldId, user: str, amount: int | None = None) -> None:
        """End a hold as the gate does."""
        found = await self.desk.store.database.read(find_user, user)
        assert found is not None, "the user exists"
        await self.desk.store.ledger.settle(Settle(hold_id, found.account.account_id, amount, Usage(), "answered"))


@asynccontextmanager
async def open_counter(url: str, folder: Path, clock: Clock) -> AsyncIterator[Counter]:
    (folder / "farebox.yaml").write_text(SETTINGS % url)
    settings = load_settings(folder / "farebox.yaml", {}).values
    async with open_store(url, clock) as store:

        async def rulebook() -> Rulebook:
            return load_rulebook(None, await store.database.read(catalogue.load))

        yield Counter(Desk(store, settings, rulebook, "tester", Role.OWNER, archive_folder=folder / "archive"), clock)

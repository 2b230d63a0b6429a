"""What was used: every finished request of the caller's account, and the models that everybody uses most."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from policies.refusals import Refusal, invalid_request
from policies.terms import Funding, Model
from proxy.management.endpoint import ApiRequest
from proxy.management.models import ModelSummary
from proxy.management.shapes import Credits, Moment, Page, Shape
from proxy.services import Services
from store import reports
from store.ids import id_text, parse_id
from store.usage_sums import last_days, popular

POPULAR_DAYS = 30
POPULAR_COUNT = 10
POPULAR_CANDIDATES = 100
"""Asked of the store for ten, because models that were switched off meanwhile are left out."""
POPULAR_MEMORY = timedelta(minutes=1)
"""How long the answer is remembered: it is about everybody's usage, and anyone may ask for it."""


class Usage(Shape):
    """One finished request, with what it was charged and what of that was given back later."""

    id: str
    """The request's id, as in `X-Request-Id`."""
    user_id: str
    app_id: str
    model_key: str
    usage_type: Literal["credit", "quota", "exempt"]
    credit_used: Credits | None
    """Null unless credits paid, like `creditRefunded`."""
    credit_refunded: Credits | None
    quota_used: int | None
    """Null unless quota paid, like `quotaRefunded`."""
    quota_refunded: int | None
    action: str
    units: dict[str, str]
    """What was asked for or measured, as exact decimal numbers."""
    estimated: bool
    """The usage could not be measured, and the quote was charged."""
    created_at: Moment
    model: ModelSummary | None
    """Null when the model is no longer in the catalogue."""


class UsageHistory(Shape):
    """Finished requests, newest first."""

    usages: list[Usage]
    next_cursor: str | None
    """Null on the last page."""


class PopularModel(ModelSummary):
    """A model with the number of its calls in the last 30 days."""

    model_key: str
    total_usage: int


class PopularModelList(Shape):
    """The most used models of the last 30 days (UTC, with today), most used first."""

    models: list[PopularModel]


async def usage_history(services: Services, request: ApiRequest) -> UsageHistory | Refusal:
    page = request.query_as(Page)
    before = parse_id(page.cursor) if page.cursor is not None else None
    if page.cursor is not None and before is None:
        return invalid_request("cursor: expected the nextCursor of an earlier page", "cursor")
    rows = await services.store.database.read(reports.usage, request.caller.account.account_id, before, page.limit + 1)
    shown, models = rows[: page.limit], services.rulebooks.current.catalogue.models
    return UsageHistory(
        usages=[_usage(row, models) for row in shown],
        next_cursor=id_text(shown[-1]["id"]) if len(rows) > len(shown) else None,
    )


def _usage(row: dict[str, Any], models: Mapping[str, Model]) -> Usage:
    funding, model = Funding(row["funding"]), models.get(row["model_key"])
    by_credits, by_quota = funding is Funding.CREDITS, funding is Funding.QUOTA
    return Usage(
        id=id_text(row["id"]),
        user_id=row["user_id"],
        app_id=row["model_key"].partition(":")[0],
        model_key=row["model_key"],
        usage_type="credit" if by_credits else "quota" if by_quota else "exempt",
        credit_used=row["charged"] if by_credits else None,
        credit_refunded=row["refunded"] if by_credits else None,
        quota_used=row["charged"] if by_quota else None,
        quota_refunded=row["refunded"] if by_quota else None,
        action=row["action"],
        units=row["units"],
        estimated=row["estimated"],
        created_at=row["at"],
        model=ModelSummary(name=model.name, provider=model.provider, tier=model.tier) if model else None,
    )


class PopularModels:
    """Answers from memory for a minute; whoever asks while it is being read waits for that one reading."""

    def __init__(self) -> None:
        self._reading = asyncio.Lock()
        self._calls: list[tuple[str, int]] = []
        self._until: datetime | None = None

    async def answer(self, services: Services, request: ApiRequest) -> PopularModelList:
        async with self._reading:
            if self._until is None or request.now >= self._until:
                scope = last_days(POPULAR_DAYS, request.now)
                self._calls = await services.store.database.read(popular, scope, POPULAR_CANDIDATES)
                self._until = request.now + POPULAR_MEMORY
        models = services.rulebooks.current.catalogue.models
        found = [(models[key], calls) for key, calls in self._calls if key in models and models[key].enabled]
        return PopularModelList(models=[_popular(model, calls) for model, calls in found[:POPULAR_COUNT]])


def _popular(model: Model, calls: int) -> PopularModel:
    return PopularModel(
        name=model.name, provider=model.provider, tier=model.tier, model_key=model.key, total_usage=calls
    )

"""The desk of the command line: the same verbs as in the admin API, on a store opened for one command."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from config.clock import utc_now
from config.settings import LoadedSettings
from policies.rulebook import Rulebook
from policies.spending import order_of
from proxy.operations.auditing import command_line
from proxy.operations.operation import Desk, Progress, silent
from store import catalogue
from store.opening import open_store


@asynccontextmanager
async def open_desk(settings: LoadedSettings, progress: Progress = silent) -> AsyncIterator[Desk]:
    """A desk whose rulebook is the policy on disk. Raises StoreUnavailable and SchemaOutdated."""
    order = order_of(settings.values.credits.spend_order)
    async with open_store(settings.database_url, utc_now, spend_order=order) as store:

        async def rulebook() -> Rulebook:
            # Casbin is needed by two verbs of forty.
            from proxy.policy_reading import load_rulebook, metered_routes

            for_sale, routes = await store.database.read(catalogue.load), metered_routes(settings.values.routes)
            return load_rulebook(settings.policies_folder, for_sale, routes)

        yield Desk(
            store,
            settings.values,
            rulebook,
            actor="operator",
            progress=progress,
            archive_folder=settings.archive_folder,
            policies=settings.policies_folder,
            place=command_line(),
        )

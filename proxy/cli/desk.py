"""The desk of the command line: the same verbs as in the admin API, on a store opened for one command."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from config.clock import utc_now
from config.roles import Role
from config.settings import LoadedSettings
from policies.rulebook import Rulebook
from policies.spending import order_of
from proxy.operations.auditing import command_line
from proxy.operations.operation import Desk, Progress, silent
from store import catalogue, policy_history
from store.opening import open_store


@asynccontextmanager
async def open_desk(settings: LoadedSettings, progress: Progress = silent) -> AsyncIterator[Desk]:
    """A desk whose rulebook is the one that a process would have that starts now: that of the files, or what stands in
    for them after a rollback, or the last good one. Raises StoreUnavailable and SchemaOutdated.
    """
    order = order_of(settings.values.credits.spend_order)
    async with open_store(settings.database_url, utc_now, spend_order=order) as store:

        async def rulebook() -> Rulebook:
            # Casbin is needed by two verbs of forty.
            from proxy.policy_reading import metered_routes
            from proxy.rulebooks import Rulebooks

            for_sale, stored = (
                await store.database.read(catalogue.load),
                await store.database.read(policy_history.latest),
            )
            routes = metered_routes(settings.values.routes)
            return Rulebooks(settings.policies_folder, for_sale, utc_now(), routes, stored).current

        yield Desk(
            store,
            settings.values,
            rulebook,
            actor="operator",
            # Whoever may read the settings could as well write to the database that they name.
            role=Role.OWNER,
            progress=progress,
            archive_folder=settings.archive_folder,
            policies=settings.policies_folder,
            place=command_line(),
        )

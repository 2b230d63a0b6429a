"""Policies of the past, compiled beside the requests that a process serves meanwhile."""

from __future__ import annotations

import asyncio

from policies.rulebook import Rulebook
from proxy.operations.operation import Desk
from store import catalogue
from store.policy_history import Source


async def compiled_again(desk: Desk, source: Source) -> Rulebook:
    """A policy that was kept, over what is for sale now. Raises InvalidDocument where they do not fit together.

    In a thread, for a large policy takes seconds, and one at a time, as every other compilation (`proxy.watching`).
    """
    # Reading policies needs Casbin, which other verbs do without.
    from proxy.policy_reading import compiled, kept_policy, metered_routes

    for_sale = await desk.store.database.read(catalogue.load)
    routes = metered_routes(desk.settings.routes)
    async with desk.compiling:
        return await asyncio.to_thread(lambda: compiled(kept_policy(source), for_sale, routes))

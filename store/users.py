"""Making sure that a user exists, whoever else makes them at the same moment."""

from __future__ import annotations

from store.accounts import User, create_user
from store.engine import AlreadyExists
from store.opening import Store


async def ensure_user(store: Store, user_id: str, email: str | None, welcome: int) -> tuple[User, bool]:
    """The user, and whether they are new: then with a pay-as-you-go account and `welcome` micro-credits."""
    arguments = (user_id, email, welcome, store.ids.next(), store.clock())
    try:
        return await store.database.write(create_user, *arguments)
    except AlreadyExists:
        # Lost the race on a database with several writers: the winner's user is there now.
        return await store.database.write(create_user, *arguments)

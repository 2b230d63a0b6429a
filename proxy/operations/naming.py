"""Which account an operator means: by its number, or by the id of one of its users.

Both may look alike. When a name fits two different accounts the operator is asked which, since freezing or charging
the wrong one is worse than asking: `account:17` is the number, `user:17` the user.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from policies.callers import Account
from policies.refusals import Refusal
from proxy.operations.operation import conflict, not_found
from store.accounts import User, find_account, find_user
from store.operators import users_of

if TYPE_CHECKING:
    from store.opening import Store

_NUMBER = re.compile(r"(?:account:)?([0-9]{1,18})")


async def named_account(store: Store, name: str) -> Account | Refusal:
    """The account of this number or of this user."""
    users = await _users(store, name)
    found = {user.account.account_id: user.account for user in users}
    number = _NUMBER.fullmatch(name)
    if number is not None and (account := await store.database.read(find_account, int(number[1]))) is not None:
        found[account.account_id] = account
    if len(found) > 1:
        return _ambiguous(name)
    if not found:
        return not_found(f"There is no account {name!r}", "Name an account by its number or by the id of a user.")
    return next(iter(found.values()))


async def named_user(store: Store, name: str) -> User | Refusal:
    """The user of this id, or the only user of the account of this number."""
    account = await named_account(store, name)
    if isinstance(account, Refusal):
        return account
    by_name = await _users(store, name)
    if by_name:
        return by_name[0]
    ids = [row["id"] for row in await store.database.read(users_of, account.account_id)]
    user = await store.database.read(find_user, ids[0]) if len(ids) == 1 else None
    if user is None:
        return conflict(f"Account {account.account_id} has {len(ids)} users", f"Name one of them: {', '.join(ids)}.")
    return user


async def _users(store: Store, name: str) -> list[User]:
    """The users that the name may mean: of exactly this id, or of the id after `user:`."""
    ids = [name, name.removeprefix("user:")] if name.startswith("user:") else [name]
    found = [await store.database.read(find_user, user_id) for user_id in ids if user_id]
    return [user for user in found if user is not None]


def _ambiguous(name: str) -> Refusal:
    bare = name.rpartition(":")[2]
    error = f"{name!r} is the number of one account and a user of another"
    return conflict(error, f"Write account:{bare} or user:{bare}.")

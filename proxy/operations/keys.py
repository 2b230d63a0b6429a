"""API keys: making one for a user, listing them, ending one. A key itself is shown once, when it is made."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from policies.refusals import Refusal, invalid_request, iso
from proxy.operations.arguments import Moment, Name, Patterns
from proxy.operations.naming import named_account, named_user
from proxy.operations.operation import Answer, Arguments, Desk, Operation, not_found
from store import api_keys


class Create(Arguments):
    user: Name
    """The user that the key speaks for, or the number of an account with one user."""
    name: Name = "made by an operator"
    """What the key is for."""
    models: Patterns = []
    """Only models whose keys fit, such as video-generator:*; may be given several times."""
    expires: Moment | None = None
    """When the key ends: a date or a moment, in UTC."""


async def create(desk: Desk, given: Create) -> Answer | Refusal:
    now = desk.now()
    if given.expires is not None and given.expires <= now:
        return invalid_request(f"{iso(given.expires)} has passed; the key would never work", "expires")
    user = await named_user(desk.store, given.user)
    if isinstance(user, Refusal):
        return user
    account_id = user.account.account_id
    key_id, key = await desk.store.database.write(
        api_keys.create, user.user_id, account_id, given.name, given.models, given.expires, now
    )
    return {
        "id": key_id,
        "key": key,
        "user": user.user_id,
        "account": account_id,
        "name": given.name,
        "models": given.models,
        "expires_at": iso(given.expires) if given.expires else None,
        "note": "Keep the key now: it is not stored and cannot be shown again.",
    }


class ListKeys(Arguments):
    account: Name | None = None
    """Only the keys of this account: its number, or the id of one of its users."""


async def list_keys(desk: Desk, given: ListKeys) -> Answer | Refusal:
    account_id: int | None = None
    if given.account is not None:
        account = await named_account(desk.store, given.account)
        if isinstance(account, Refusal):
            return account
        account_id = account.account_id
    rows = await desk.store.database.read(api_keys.page, account_id)
    now = desk.now()
    return {"keys": [_shown(row, now) for row in rows]}


def _shown(row: dict[str, Any], now: datetime) -> Answer:
    ended = row["expires_at"] is not None and row["expires_at"] <= now
    return {
        "id": row["id"],
        "name": row["name"],
        "user": row["user_id"],
        "account": row["account_id"],
        "models": row["models"],
        "state": "revoked" if row["revoked_at"] else "expired" if ended else "valid",
        "created_at": iso(row["created_at"]),
        "expires_at": iso(row["expires_at"]) if row["expires_at"] else None,
        "revoked_at": iso(row["revoked_at"]) if row["revoked_at"] else None,
    }


class Revoke(Arguments):
    id: Name
    """The id of the key: its visible beginning, as `keys list` shows it."""


async def revoke(desk: Desk, given: Revoke) -> Answer | Refusal:
    if not await desk.store.database.write(api_keys.revoke, given.id, desk.now()):
        return not_found(f"There is no key {given.id!r}", "The ids are listed by: farebox keys list")
    return {"id": given.id, "state": "revoked"}


OPERATIONS = (
    Operation("keys", "create", "Makes an API key for a user and shows it this one time.",
              'keys create user-1001 --name "night batch" --models "video-generator:*" --expires 2027-01-01',
              Create, create, changes=True, positional=("user",)),
    Operation("keys", "list", "Lists API keys by their visible beginnings.", "keys list --account user-1001",
              ListKeys, list_keys),
    Operation("keys", "revoke", "Ends an API key; requests with it are refused from now on.",
              "keys revoke fbx_Zk3pQ9aL", Revoke, revoke, changes=True, positional=("id",)),
)  # fmt: skip

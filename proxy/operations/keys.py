"""API keys: making one for a user, listing them, ending one. A key itself is shown once, when it is made."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_serializer

from config.quantities import Duration
from config.roles import Role
from policies.refusals import Refusal, invalid_request, iso
from policies.terms import Scope
from proxy.operations.arguments import Moment, Name, Patterns, one_or_many
from proxy.operations.naming import named_account, named_user
from proxy.operations.operation import Answer, Arguments, Desk, Operation, conflict, not_found
from store import api_keys

NOTE = "Keep the key now: it is not stored and cannot be shown again."
LISTED = "The ids are listed by: farebox keys list"

Scopes = Annotated[list[Scope], BeforeValidator(one_or_many), Field(min_length=1, max_length=len(Scope))]


class Create(Arguments):
    user: Name
    """The user that the key speaks for, or the number of an account with one user."""
    name: Name = "made by an operator"
    """What the key is for."""
    models: Patterns = []
    """Only models whose keys fit, such as video-generator:*; may be given several times."""
    scopes: Scopes = list(Scope)
    """What it may be used for: use (routes), read (the management API), manage (changes there); several times for
    several, and without it all.
    """
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
        api_keys.create, user.user_id, account_id, given.name, given.models, given.expires, now, given.scopes
    )
    return {
        "id": key_id,
        "key": key,
        "user": user.user_id,
        "account": account_id,
        "name": given.name,
        "models": given.models,
        "scopes": given.scopes,
        "expires_at": iso(given.expires) if given.expires else None,
        "note": NOTE,
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
        "scopes": row["scopes"],
        "state": "revoked" if row["revoked_at"] else "expired" if ended else "valid",
        "created_at": iso(row["created_at"]),
        "expires_at": iso(row["expires_at"]) if row["expires_at"] else None,
        "revoked_at": iso(row["revoked_at"]) if row["revoked_at"] else None,
        "replaced_by": row["replaced_by"],
    }


class Rotate(Arguments):
    id: Name
    """The id of the key that gets a successor."""
    overlap: Duration = timedelta(days=1)
    """How long both keys work, such as 30m or 7d; then the old one ends."""

    @field_serializer("overlap")
    def _in_seconds(self, overlap: timedelta) -> str:
        return f"{overlap.total_seconds():g}s"


async def rotate(desk: Desk, given: Rotate) -> Answer | Refusal:
    done = await desk.store.database.write(api_keys.rotate, given.id, given.overlap, desk.now())
    match done:
        case api_keys.NotRotated.UNKNOWN:
            return not_found(f"There is no key {given.id!r}", LISTED)
        case api_keys.NotRotated.ENDED:
            return conflict(f"The key {given.id!r} has ended already", "Make a new one: farebox keys create")
        case api_keys.NotRotated.ROTATED:
            return conflict(f"The key {given.id!r} has a successor already", LISTED)
    return {
        "id": done.key_id,
        "key": done.key,
        "replaces": given.id,
        "old_ends_at": iso(done.old_ends_at),
        "user": done.user_id,
        "account": done.account_id,
        "models": list(done.models),
        "scopes": list(done.scopes),
        "expires_at": iso(done.expires_at) if done.expires_at else None,
        "note": NOTE,
    }


class Revoke(Arguments):
    id: Name
    """The id of the key: its visible beginning, as `keys list` shows it."""


async def revoke(desk: Desk, given: Revoke) -> Answer | Refusal:
    if not await desk.store.database.write(api_keys.revoke, given.id, desk.now()):
        return not_found(f"There is no key {given.id!r}", LISTED)
    return {"id": given.id, "state": "revoked"}


OPERATIONS = (
    Operation("keys", "create", "Makes an API key for a user and shows it this one time.",
              'keys create user-1001 --name "night batch" --models "video-generator:*" --expires 2027-01-01',
              Create, create, Role.OWNER, changes=True, positional=("user",)),
    Operation("keys", "list", "Lists API keys by their visible beginnings.", "keys list --account user-1001",
              ListKeys, list_keys, Role.VIEWER),
    Operation("keys", "rotate", "Makes a successor of an API key and shows it this one time; the old one ends later.",
              "keys rotate fbx_Zk3pQ9aL --overlap 7d", Rotate, rotate, Role.OWNER, changes=True, positional=("id",)),
    Operation("keys", "revoke", "Ends an API key; requests with it are refused from now on.",
              "keys revoke fbx_Zk3pQ9aL", Revoke, revoke, Role.OPERATOR, changes=True, positional=("id",)),
)  # fmt: skip

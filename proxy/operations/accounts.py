"""Accounts: who pays, and what operators may say about them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from config.roles import Role
from policies.callers import Account
from policies.pricing import to_credits, to_micro
from policies.quota import QuotaTerms
from policies.refusals import Refusal, iso
from proxy.operations.arguments import CreditsOrNone, Cursor, Email, Limit, Name, Tags
from proxy.operations.authority import Kind, Moved
from proxy.operations.naming import named_account
from proxy.operations.operation import Answer, Arguments, Desk, Operation, conflict
from proxy.operations.subscription_answers import subscription_answer
from store import accounts, reports
from store.operators import change_tags, users_of
from store.quota_reports import windows, windows_now
from store.users import ensure_user


class ListAccounts(Arguments):
    after: Cursor = 0
    """Start after this account number, the `next` of the page before."""
    limit: Limit = 50
    """Accounts on a page."""


async def list_accounts(desk: Desk, given: ListAccounts) -> Answer:
    rows = await desk.store.database.read(accounts.page, given.after, given.limit)
    shown = [
        {
            "account": row["id"],
            "user": row["user_id"],
            "email": row["email"],
            "kind": row["kind"],
            "tags": row["tags"],
            "frozen": row["frozen_at"] is not None,
            "credits": to_credits(row["available"]),
            "created_at": iso(row["created_at"]),
        }
        for row in rows
    ]
    return {"accounts": shown, "next": rows[-1]["id"] if len(rows) == given.limit else None}


class OneAccount(Arguments):
    account: Name
    """The account: its number, or the id of one of its users."""


async def show(desk: Desk, given: OneAccount) -> Answer | Refusal:
    account = await named_account(desk.store, given.account)
    return account if isinstance(account, Refusal) else await _details(desk, account)


async def _details(desk: Desk, stored: Account) -> Answer:
    database, now = desk.store.database, desk.now()
    account = stored.at(now)
    balance = await database.read(reports.balance, account.account_id, now)
    users = await database.read(users_of, account.account_id)
    return {
        "account": account.account_id,
        "kind": account.kind,
        "type": account.account_type,
        "tags": sorted(account.tags),
        "frozen": account.frozen,
        "credits": {
            "available": to_credits(balance.available),
            "held": to_credits(balance.pending),
            "posted": to_credits(balance.posted),
        },
        "subscription": subscription_answer(account.subscription) if account.subscription else None,
        "quota": await _windows(desk, account, account.quota_terms) if account.quota_terms else [],
        "users": [
            {"user": user["id"], "email": user["email"], "created_at": iso(user["created_at"])} for user in users
        ],
    }


async def _windows(desk: Desk, account: Account, terms: QuotaTerms) -> list[Answer]:
    """What is left of the plan's quota in the windows of now."""
    database = desk.store.database
    rows = await database.read(
        lambda connection: windows_now(connection, account.account_id, terms, database.now(connection))
    )
    return [
        {
            "window": row.metric,
            "used": row.used,
            "held": row.held,
            "limit": row.allowed,
            "carried": row.carried,
            "remaining": max(row.allowed - row.in_use, 0),
            "resets_at": iso(row.end),
        }
        for row in rows
    ]


class Create(Arguments):
    user: Name
    """The id of the user, as their tokens will name it."""
    email: Email | None = None
    """For people to recognise the account by; nothing is sent to it."""
    credits: CreditsOrNone | None = None
    """Credits to start with instead of the welcome credits of the settings."""


async def create(desk: Desk, given: Create) -> Answer | Refusal:
    welcome = to_micro(desk.settings.accounts.welcome_credits) if given.credits is None else given.credits
    user, created = await ensure_user(desk.store, given.user, given.email, welcome)
    if not created:
        return conflict(f"There is a user {given.user!r} already", f"See: farebox accounts show {given.user}")
    return await _details(desk, user.account)


async def create_moves(desk: Desk, given: Create) -> Moved | None:
    """The welcome credits are the settings' own."""
    return None if given.credits is None else Moved(Kind.CREDITS, given.credits)


class ChangeTags(OneAccount):
    tags: Tags
    """Tags that rules of the policy ask for."""


async def tag(desk: Desk, given: ChangeTags) -> Answer | Refusal:
    return await _retag(desk, given.account, add=given.tags, remove=[])


async def untag(desk: Desk, given: ChangeTags) -> Answer | Refusal:
    return await _retag(desk, given.account, add=[], remove=given.tags)


async def _retag(desk: Desk, name: str, add: list[str], remove: list[str]) -> Answer | Refusal:
    account = await named_account(desk.store, name)
    if isinstance(account, Refusal):
        return account
    tags = await desk.store.database.write(change_tags, account.account_id, add, remove)
    return {"account": account.account_id, "tags": tags}


async def freeze(desk: Desk, given: OneAccount) -> Answer | Refusal:
    return await _set_frozen(desk, given.account, frozen=True)


async def unfreeze(desk: Desk, given: OneAccount) -> Answer | Refusal:
    return await _set_frozen(desk, given.account, frozen=False)


async def _set_frozen(desk: Desk, name: str, frozen: bool) -> Answer | Refusal:
    account = await named_account(desk.store, name)
    if isinstance(account, Refusal):
        return account
    if account.frozen != frozen:
        moment = desk.now() if frozen else None
        await desk.store.database.write(accounts.set_frozen, account.account_id, moment)
    return {"account": account.account_id, "frozen": frozen, "changed": account.frozen != frozen}


class QuotaHistory(OneAccount):
    days: Annotated[int, Field(ge=1, le=366)] = 30
    """How far back."""


async def quota(desk: Desk, given: QuotaHistory) -> Answer | Refusal:
    account = await named_account(desk.store, given.account)
    if isinstance(account, Refusal):
        return account
    since = desk.now() - timedelta(days=given.days)
    rows = await desk.store.database.read(windows, account.account_id, since)
    shown = [
        {
            "window": row["metric"],
            "day": str(row["day"]),
            "start": iso(row["window_start"]),
            "end": iso(row["window_end"]),
            "used": row["used"],
            "held": row["held"],
            "limit": row["allowed"],
            "carried": row["carried"],
        }
        for row in rows
    ]
    return {"account": account.account_id, "windows": shown}


OPERATIONS = (
    Operation("accounts", "list", "Lists accounts with their users and credits.", "accounts list --limit 20",
              ListAccounts, list_accounts, Role.VIEWER, personal=("email",)),
    Operation("accounts", "show", "Shows an account: its credits, subscription, quota and users.",
              "accounts show user-1001", OneAccount, show, Role.VIEWER, positional=("account",), personal=("email",)),
    Operation("accounts", "create", "Creates a user with a pay-as-you-go account.",
              "accounts create user-1001 --email ana@example.com --credits 50",
              Create, create, Role.OPERATOR, changes=True, positional=("user",), hidden=("email",), personal=("email",),
              moves=create_moves),
    Operation("accounts", "tag", "Adds tags to an account.", "accounts tag user-1001 beta_tester",
              ChangeTags, tag, Role.OPERATOR, changes=True, positional=("account", "tags")),
    Operation("accounts", "untag", "Takes tags from an account.", "accounts untag user-1001 beta_tester",
              ChangeTags, untag, Role.OPERATOR, changes=True, positional=("account", "tags")),
    Operation("accounts", "freeze", "Refuses everything an account asks for; it keeps what it has.",
              "accounts freeze user-1001", OneAccount, freeze, Role.OPERATOR, changes=True, positional=("account",)),
    Operation("accounts", "unfreeze", "Lets a frozen account ride again.", "accounts unfreeze user-1001",
              OneAccount, unfreeze, Role.OPERATOR, changes=True, positional=("account",)),
    Operation("accounts", "quota", "Lists the quota windows of an account, newest first.",
              "accounts quota user-1001 --days 7", QuotaHistory, quota, Role.VIEWER, positional=("account",)),
)  # fmt: skip

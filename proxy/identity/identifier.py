"""From a credential to a Caller: verified once, then remembered for a few seconds.

The cache makes a verified token and its account a dictionary look-up. It cannot let anyone ride on what has changed
meanwhile: a decision carries the account's revision, the ledger compares it in the same transaction that takes the
funds, and a stale decision is made again with fresh eyes. Nor does it refuse anyone for what has changed meanwhile:
before a caller is told no, it is looked up again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from config.clock import Clock
from config.settings import FareboxSettings
from policies.callers import Caller
from policies.pricing import to_micro
from policies.refusals import Reason, Refusal, out_of_scope, unauthorized
from policies.terms import Credential, Scope, UserId
from proxy.chain import Chain
from proxy.headers import HeaderList
from proxy.identity import jwt
from proxy.identity.credentials import Credentials, Presented, Shown
from proxy.identity.failures import Failures, source_of
from proxy.identity.jwt import Issuer
from store import accounts, api_keys
from store.accounts import User
from store.api_keys import ApiKey
from store.opening import Store
from store.users import ensure_user

CACHE_SIZE = 50_000
"""Callers remembered at about 1 KiB each."""

CACHE_TIME = timedelta(seconds=5)
"""How long the caller of a token is remembered: bounds how late a freeze is seen by routes that cost nothing."""

KEY_CACHE_TIME = timedelta(seconds=1)
"""How long the caller of an API key is, counted from before it was looked up. Any process may revoke it meanwhile, and
tells nobody: so a revoked key stops within this everywhere, and at once where the ledger is asked.
"""


@dataclass(frozen=True, slots=True)
class _Remembered:
    caller: Caller
    until: datetime


class Identifier:
    """Identifies callers for one process."""

    def __init__(self, settings: FareboxSettings, issuers: Sequence[Issuer], store: Store, clock: Clock) -> None:
        self._settings = settings
        self._issuers = issuers
        self._credentials = Credentials(settings.identity)
        self._chain = Chain(settings)
        self._failures = Failures(settings.identity.failures)
        self._store = store
        self._clock = clock
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()

    async def identify(self, shown: Shown, scope: Scope, *, fresh: bool = False) -> Caller | Refusal:
        """The caller, from what a request shows, if the credential is for this `scope`; `fresh` if it must not come
        from memory. Raises StoreUnavailable.
        """
        caller = await self._caller(shown, fresh)
        return out_of_scope(scope) if isinstance(caller, Caller) and scope not in caller.scopes else caller

    def by_cookie(self, shown: Shown) -> bool:
        """Whether a browser has added the credential by itself, whoever made it ask."""
        return self._credentials.by_cookie(shown)

    def travelling(self, headers: HeaderList, shown: Shown) -> HeaderList:
        """Of the headers of a request those that its backend may see."""
        return self._credentials.travelling(headers, shown)

    async def _caller(self, shown: Shown, fresh: bool) -> Caller | Refusal:
        credential = self._credentials.find(shown)
        if isinstance(credential, Refusal):
            return credential
        # The digest, not the token: what a memory dump shows should not be usable.
        digest = hashlib.sha256(f"{credential.kind}:{credential.text}".encode("utf-8", "surrogateescape")).digest()
        now = self._clock()
        remembered = self._remembered.get(digest)
        if remembered is not None and now < remembered.until and not fresh:
            return remembered.caller
        source = source_of(self._chain.client(shown).address)
        # Who was known before, even if no longer for certain, need not wait for others at the same address.
        held_up = remembered is None and self._failures.over_limit(source, now)
        found = await self._look_up(credential, now, held_up)
        if found is None:
            return self._failures.refusal(source, now)
        if isinstance(found, Refusal):
            self._remembered.pop(digest, None)
            if found.reason is not Reason.UNAUTHORIZED:
                return found
            self._failures.count(source, now)
            return self._failures.refusal(source, now) if held_up else found
        caller, until = found
        self._remembered[digest] = _Remembered(caller, until)
        self._remembered.move_to_end(digest)
        if len(self._remembered) > CACHE_SIZE:
            self._remembered.popitem(last=False)
        return caller

    def forget(self, caller: Caller) -> None:
        """Drop what is remembered of an account, because it has changed."""
        account_id = caller.account.account_id
        stale = [key for key, entry in self._remembered.items() if entry.caller.account.account_id == account_id]
        for key in stale:
            del self._remembered[key]

    async def _look_up(
        self, credential: Presented, now: datetime, held_up: bool
    ) -> tuple[Caller, datetime] | Refusal | None:
        """The caller and until when they are remembered; None for what is not looked at, because it is `held_up`."""
        if credential.kind is Credential.API_KEY:
            return None if held_up else await self._by_api_key(credential.text, now)
        if credential.kind is Credential.TRUSTED_HEADER:
            return await self._by_name(credential, now)
        claims = await jwt.verify(credential.text, self._issuers, now, fetch=not held_up)
        if isinstance(claims, Refusal):
            return claims
        user = await self._user(claims.user_id, claims.email)
        if user is None:
            return _nobody()
        until = min(now + CACHE_TIME, claims.expires_at or now + CACHE_TIME)
        return Caller(user.user_id, user.account, Credential.JWT, user.email, roles=claims.roles), until

    async def _by_name(self, credential: Presented, now: datetime) -> tuple[Caller, datetime] | Refusal:
        user = await self._user(credential.text, credential.email)
        if user is None:
            return _nobody()
        return Caller(user.user_id, user.account, credential.kind, user.email), now + CACHE_TIME

    async def _by_api_key(self, text: str, now: datetime) -> tuple[Caller, datetime] | Refusal:
        key = await self._store.database.read(api_keys.find, text) if self._settings.identity.api_keys else None
        if key is None or not _valid(key, now):
            return unauthorized("Invalid token", "The API key is unknown, revoked or expired.")
        user = await self._store.database.read(accounts.find_user, key.user_id)
        if user is None:
            return unauthorized("User not found")
        caller = Caller(
            UserId(key.user_id), user.account, Credential.API_KEY, user.email, key.key_id, key.models, scopes=key.scopes
        )
        return caller, min(now + KEY_CACHE_TIME, key.expires_at or now + KEY_CACHE_TIME)

    async def _user(self, user_id: str, email: str | None) -> User | None:
        user = await self._store.database.read(accounts.find_user, user_id)
        if user is None and self._settings.identity.unknown_users == "create":
            user = await asyncio.shield(self._create(user_id, email))
        return user

    async def _create(self, user_id: str, email: str | None) -> User:
        welcome = to_micro(self._settings.accounts.welcome_credits)
        user, _ = await ensure_user(self._store, user_id, email, welcome)
        return user


def _nobody() -> Refusal:
    return unauthorized("User not found", "This user has no account here; ask the operator for one.")


def _valid(key: ApiKey, now: datetime) -> bool:
    return key.revoked_at is None and (key.expires_at is None or now < key.expires_at)

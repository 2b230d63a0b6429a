"""Finding the one credential that a request carries, among the ways that the settings allow.

A token or an API key in `Authorization: Bearer …`, an API key in `X-Api-Key`, a token in a cookie, or a user's name in
a header of a proxy that is trusted. None of them wins over another: two credentials are refused, because the backend
might follow the one that was not judged.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import field
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from config.identity import Identity, TrustedHeader
from config.proxies import Network
from policies.refusals import Reason, Refusal, invalid_request, unauthorized
from policies.terms import Credential
from policies.values import value
from proxy.headers import HeaderList, folded
from proxy.identity.jwt import MAX_EMAIL, MAX_USER_ID
from store.api_keys import PREFIX

MAX_TOKEN = 8192
"""Characters: larger than any token that carries claims, small enough to refuse early."""

_SAFE = frozenset({"GET", "HEAD"})

_SPACE = " \t"
"""What may stand around a value and is no part of it (RFC 9110 §5.6.3). Python's `strip` would take more, such as the
no-break space, and then another user would be judged than the one whom the backend sees.
"""


class Shown(NamedTuple):
    """What a request shows of its sender: the method, all headers, and the address of its connection's other end."""

    method: str
    headers: Sequence[tuple[str, str]]
    peer: str | None

    def values(self, name: str) -> list[str]:
        """All values of a header, by its name in small letters, in order."""
        return [value for key, value in self.headers if key.lower() == name]


@value
class Presented:
    """A credential as it was sent. Nothing about a token or a key has been verified; a name is that of a user whom a
    trusted proxy vouches for.
    """

    kind: Credential
    text: str = field(repr=False)
    email: str | None = field(default=None, repr=False)


class Credentials:
    """Looks for credentials as the settings say."""

    def __init__(self, settings: Identity) -> None:
        self._trusted = None if settings.trusted_header is None else _Trusted(settings.trusted_header)
        self._cookie = settings.cookie

    def find(self, shown: Shown) -> Presented | Refusal:
        """The one credential of a request."""
        authorization, api_key = shown.values("authorization"), shown.values("x-api-key")
        cookies = [] if self._cookie is None else _cookies(shown.values("cookie"), self._cookie.name)
        named = self._trusted is not None and self._trusted.names_somebody(shown)
        number = len(authorization) + len(api_key) + len(cookies) + named
        if number > 1:
            return invalid_request("Several credentials were sent", "Authorization", "Send exactly one credential.")
        if number == 0:
            return unauthorized("No token provided", "Send a token as `Authorization: Bearer …`.")
        if named:
            assert self._trusted is not None, "else nobody is named"
            return self._trusted.vouched(shown)
        if cookies:
            return self._from_cookie(shown, cookies[0])
        scheme, _, text = authorization[0].strip(_SPACE).partition(" ") if authorization else ("bearer", "", api_key[0])
        text = text.strip(_SPACE)
        if scheme.lower() != "bearer" or not text:
            return unauthorized("No token provided", "Send the token as `Authorization: Bearer …`.")
        return _presented(Credential.API_KEY if text.startswith(PREFIX) else Credential.JWT, text)

    def by_cookie(self, shown: Shown) -> bool:
        """Whether the credential is one that a browser adds by itself."""
        return self._cookie is not None and bool(_cookies(shown.values("cookie"), self._cookie.name))

    def travelling(self, headers: HeaderList, shown: Shown) -> HeaderList:
        """`headers` without what only a trusted proxy may say, unless it is one that says it; its secret never goes on.

        Else a backend that believes the same header would believe anybody.
        """
        return headers if self._trusted is None else self._trusted.travelling(headers, shown)

    def _from_cookie(self, shown: Shown, text: str) -> Presented | Refusal:
        """A cookie is sent by a browser whoever asks it to, so the asker has to be a page of this service."""
        assert self._cookie is not None, "else no cookie is looked at"
        elsewhere = says_elsewhere(shown, self._cookie.origins)
        # Browsers too old to say where a request comes from are believed where it only reads.
        if elsewhere or (elsewhere is None and shown.method not in _SAFE):
            hint = "Cookies count in requests of this service's own pages; list other origins in `identity.cookie`."
            return Refusal(Reason.FORBIDDEN, "The request comes from a page of another site", hint)
        return _presented(Credential.JWT, text)


class _Trusted:
    """A header in which trusted proxies name the user."""

    def __init__(self, settings: TrustedHeader) -> None:
        self._name = settings.name.lower()
        self._email = None if settings.email is None else settings.email.lower()
        self._secret = None if settings.secret is None else _hash(settings.secret.get_secret_value())
        self._secret_header = settings.secret_header.lower()
        self._peers = settings.peers
        self._folded = folded(self._name)
        self._private = {folded(name) for name in (self._name, self._email, self._secret_header) if name is not None}

    def names_somebody(self, shown: Shown) -> bool:
        """Whether a trusted peer names a user, in any spelling; what others say is as good as nothing."""
        return any(folded(name) == self._folded for name, _ in shown.headers) and is_in(shown.peer, self._peers)

    def vouched(self, shown: Shown) -> Presented | Refusal:
        """The user whom a trusted peer names."""
        spelled = [(name.lower(), value) for name, value in shown.headers if folded(name) == self._folded]
        if len(spelled) > 1 or spelled[0][0] != self._name:
            # A client's own header in another spelling, which the proxy did not know to take away.
            return invalid_request("The user is named more than once, or in another spelling", self._name)
        user = spelled[0][1].strip(_SPACE)
        # Proxies join repeated headers with a comma: then one of the names may be the client's.
        if not self._shares_secret(shown) or not user.isprintable() or not 0 < len(user) <= MAX_USER_ID or "," in user:
            return unauthorized("Invalid token", "The proxy in front does not vouch for this user.")
        emails = [] if self._email is None else shown.values(self._email)
        email = emails[0] if len(emails) == 1 and emails[0].isprintable() and len(emails[0]) <= MAX_EMAIL else None
        return Presented(Credential.TRUSTED_HEADER, user, email)

    def travelling(self, headers: HeaderList, shown: Shown) -> HeaderList:
        kept: set[str | None] = set()
        if self.names_somebody(shown) and isinstance(self.vouched(shown), Presented):
            kept = {self._name, self._email}
        return [header for header in headers if header[0].lower() in kept or folded(header[0]) not in self._private]

    def _shares_secret(self, shown: Shown) -> bool:
        if self._secret is None:
            return True
        given = shown.values(self._secret_header)
        return len(given) == 1 and hmac.compare_digest(_hash(given[0]), self._secret)


def is_in(address: str | None, networks: Sequence[Network]) -> bool:
    """Whether an address is in one of the networks. A connection without one, such as of a local socket, is in none."""
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return any((mapped or parsed) in network for network in networks)


def _presented(kind: Credential, text: str) -> Presented | Refusal:
    if len(text) > MAX_TOKEN:
        return unauthorized("Invalid token", f"Tokens have at most {MAX_TOKEN} characters.")
    return Presented(kind, text)


def _cookies(headers: Sequence[str], name: str) -> list[str]:
    """All values of a cookie (RFC 6265 §5.4). A browser sends two of one name where another host could set one."""
    pairs = (pair.partition("=") for header in headers for pair in header.split(";"))
    return [value.strip(_SPACE).strip('"') for key, equals, value in pairs if equals and key.strip(_SPACE) == name]


def says_elsewhere(shown: Shown, origins: Sequence[str]) -> bool | None:
    """Whether a browser says that a page of another site asks for this (Fetch, `Origin` and `Sec-Fetch-Site`); None
    when nothing is said, as by programs that are no browsers.
    """
    origin, site = shown.values("origin"), shown.values("sec-fetch-site")
    if origin:
        own = len(origin) == 1 and [_host(origin[0])] == [host.lower() for host in shown.values("host")]
        return not own and not (len(origin) == 1 and origin[0] in origins)
    return site not in (["same-origin"], ["none"]) if site else None


def _host(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _hash(text: str) -> bytes:
    """Compared in place of the text: neither content nor length leaks through the time it takes."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()

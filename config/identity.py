"""Who may prove themselves how: the `identity` of `farebox.yaml`."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)

from config.cors import Origin
from config.extractors import Settings
from config.jobs import Identifier
from config.proxies import Network
from config.quantities import Duration
from config.secrets import HeaderSecret, Secret
from config.upstreams import HeaderName

MIN_HS256_SECRET = 32
"""Bytes: RFC 7518 §3.2 asks for a key at least as long as the hash, since shorter ones are guessed offline."""

MAX_PUBLIC_KEYS = 16
"""Of one issuer: a rotation needs two, and each may have to be tried for a token."""

Algorithm = Literal["HS256", "RS256", "PS256", "ES256", "EdDSA"]
"""RFC 7518 §3.1 and RFC 8037. `none` has no place here, and no setting can give it one."""

_SPOKEN_FOR = frozenset(
    {"authorization", "connection", "contentlength", "contenttype", "cookie", "expect", "host", "keepalive", "origin"}
    | {"forwarded", "te", "transferencoding", "upgrade", "via", "xapikey", "xrequestid"}
    | {"xforwardedfor", "xforwardedhost", "xforwardedproto"}
)


ClaimName = Annotated[str, StringConstraints(min_length=1, max_length=200)]


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _key_set_url(url: str) -> str:
    if any(character in "@#" or not "!" <= character <= "~" for character in url):
        raise ValueError("the URL of a key set has no user, fragment or space")
    try:
        parts = urlsplit(url)
        host, complete = parts.hostname or "", parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:
        host, complete = "", False
    if not (complete and host):
        raise ValueError("expected https:// with a host and a path, such as https://id.example.com/jwks.json")
    if parts.scheme == "http" and not is_loopback(host):
        # Whoever can change the answer on its way could sign as anybody.
        raise ValueError("keys are fetched by https:// only; http:// is for this machine's own loopback addresses")
    return url


class Jwt(Settings):
    """One issuer of tokens that the app already hands to its clients. Its keys come from exactly one of `secret`,
    `public_keys` and `jwks_url`.
    """

    name: Identifier
    """For people: which issuer this is."""
    algorithms: Annotated[list[Algorithm], Field(min_length=1)]
    """Signatures that are accepted, whatever a token says of itself. `HS256` goes with `secret`."""
    secret: Secret | None = None
    """For HS256, the key that the issuer signs with, at least 32 bytes."""
    public_keys: Annotated[list[str], Field(max_length=MAX_PUBLIC_KEYS)] = []
    """Public keys that do not change by themselves: PEM files, relative to the folder of the settings file, or PEM
    texts."""
    jwks_url: Annotated[str, AfterValidator(_key_set_url)] | None = None
    """Where the issuer publishes its keys (RFC 7517), by https; redirects are not followed."""
    jwks_ca: str | None = None
    """A PEM file with the authorities that vouch for the host of `jwks_url`, instead of the system's."""
    jwks_refresh: Duration = timedelta(minutes=5)
    """How often the keys are fetched: a key that the issuer has taken back works no longer than that."""
    jwks_cooldown: Duration = timedelta(seconds=30)
    """Between two fetches that an unknown key, or a failure, asks for: made-up keys cannot cause more."""
    jwks_keep: Duration = timedelta(days=1)
    """How long the last good keys are used while they cannot be fetched; then tokens are answered with 503."""
    user: ClaimName = "sub"
    """The claim that names the user."""
    user_prefix: Annotated[str, StringConstraints(pattern=r"^[\w.:@/|-]{0,50}$")] = ""
    """Put before that name. With several issuers, it keeps the users of one apart from those of another."""
    email: ClaimName | None = None
    """The claim that holds the e-mail address, if there is one: shown to operators, decides nothing."""
    roles: ClaimName | None = None
    """The claim that holds the user's roles, if there is one: a list, or one text with spaces; policies may ask."""
    issuer: str | None = None
    """What `iss` has to be; without it, any."""
    audience: str | None = None
    """What `aud` has to name; without it, any."""
    types: list[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.+/_-]{1,100}$")]] = []
    """What the header `typ` has to be, such as `at+jwt` for access tokens only; without it, `JWT`, `at+jwt` or none."""
    require: Annotated[list[ClaimName], Field(max_length=20)] = []
    """Claims that have to be there, such as `exp`: without it, a token that never ends is accepted."""
    leeway: Duration = timedelta(seconds=30)
    """Clock difference between the issuer and this machine that is tolerated."""

    @field_validator("secret")
    @classmethod
    def _strong(cls, secret: SecretStr | None) -> SecretStr | None:
        text = "" if secret is None else secret.get_secret_value()
        if secret is not None and len(text.encode()) < MIN_HS256_SECRET:
            raise ValueError(f"the secret is shorter than {MIN_HS256_SECRET} bytes (RFC 7518, 3.2)")
        if "-----BEGIN" in text or '"kty"' in text or text.startswith(("ssh-", "ecdsa-")):
            # RFC 8725 §2.1: everybody knows a public key, so everybody could sign with it.
            raise ValueError("this is a public key or a certificate, which is no secret; put it into `public_keys`")
        return secret

    @model_validator(mode="after")
    def _one_kind_of_key(self) -> Self:
        if sum([self.secret is not None, bool(self.public_keys), self.jwks_url is not None]) != 1:
            raise ValueError("an issuer has exactly one of `secret`, `public_keys` and `jwks_url`")
        if {algorithm == "HS256" for algorithm in self.algorithms} != {self.secret is not None}:
            raise ValueError("HS256 goes with `secret`; RS256, PS256, ES256 and EdDSA with `public_keys` or `jwks_url`")
        if self.jwks_ca is not None and not (self.jwks_url or "").startswith("https:"):
            raise ValueError("`jwks_ca` has no meaning without a `jwks_url` with https")
        return self

    @property
    def speaks_for_all(self) -> bool:
        """Whether tokens can be signed in its name, for any user by the name that Farebox knows."""
        return self.secret is not None and not self.user_prefix


class TrustedHeader(Settings):
    """A header in which a proxy in front names the user that it has logged in."""

    name: HeaderName
    """Such as X-User-Id. From anybody but the peers it is ignored, and no backend sees it."""
    email: HeaderName | None = None
    """A header with the user's e-mail address, if there is one: shown to operators, decides nothing."""
    peers: Annotated[list[Network], Field(min_length=1, max_length=100)]
    """Who may name users: addresses and networks of that proxy, as Farebox sees its connections come."""
    secret: HeaderSecret | None = None
    """What the proxy sends with each request to prove itself, at least 32 bytes. Only without other peers than loopback
    addresses it may be left out."""
    secret_header: HeaderName = "X-Proxy-Secret"
    """The header that the secret comes in; no backend sees it."""

    @field_validator("secret")
    @classmethod
    def _strong(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value().encode()) < MIN_HS256_SECRET:
            raise ValueError(f"the secret is shorter than {MIN_HS256_SECRET} bytes")
        return secret

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.secret is None and not all(peer.is_loopback for peer in self.peers):
            # An address is easily borrowed: by a neighbour in the network, by any server that can be made to ask.
            raise ValueError("peers that are not on this machine need a `secret`")
        names = [self.name, self.secret_header, *([self.email] if self.email else [])]
        plain = {re.sub("[^a-z0-9]", "", name.lower()) for name in names}
        if len(plain) < len(names) or plain & _SPOKEN_FOR or any(name.startswith("xfarebox") for name in plain):
            raise ValueError("each header needs a name of its own, which HTTP and Farebox have no other use for")
        return self


class Cookie(Settings):
    """A cookie in which browsers bring a token of an issuer."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")]
    """Such as session; the backend sees it as it is."""
    origins: list[Origin] = []
    """Other origins than Farebox's own host whose pages may send it, such as https://app.example.com."""


class Failures(Settings):
    """How many credentials may fail from one address before they are no longer looked at."""

    limit: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Failures in `per`: an office behind one address whose tokens all end at once stays below."""
    per: Duration = timedelta(minutes=1)
    """Over what time they count."""


class Identity(Settings):
    jwt: list[Jwt] = []
    """Issuers of tokens; the first that vouches for a token decides."""
    api_keys: bool = True
    """Whether the keys that operators make for users are accepted."""
    trusted_header: TrustedHeader | None = None
    """Users whom a proxy in front names."""
    cookie: Cookie | None = None
    """Tokens that browsers bring by themselves."""
    failures: Failures = Failures()
    """Bounds on guessing."""
    unknown_users: Literal["create", "refuse"] = "create"
    """A user who is proven but not known: becomes a pay-as-you-go account with the welcome credits, or is refused."""

    @model_validator(mode="after")
    def _some_way_in(self) -> Self:
        if not self.jwt and not self.api_keys and self.trusted_header is None:
            raise ValueError("nobody could ever be identified: configure `jwt`, or leave `api_keys` on")
        if self.cookie is not None and not self.jwt:
            raise ValueError("`cookie` brings tokens, and without `jwt` none is accepted")
        return self

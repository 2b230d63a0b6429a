"""The keys that verify tokens. Each is bound to the algorithms it is for, whatever a token asks for (RFC 8725 §3.1).

They come from the settings (a secret, public keys in PEM) or from a key set that an issuer publishes. What could not
be trusted is refused: private keys in a published set, RSA keys that can be factored, curves and uses of other kinds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import get_default_algorithms
from jwt.exceptions import InvalidKeyError

from config.findings import Finding
from config.identity import Jwt
from config.settings import LoadedSettings
from proxy import strict_json
from proxy.identity.jws import MAX_KEY_ID

MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
"""RFC 7518 §3.3 asks for 2048; a verification with more than 8192 takes longer than the rest of a request."""

MAX_SET = 100
"""Keys of a set: the largest providers publish about ten. All that fit a token without a `kid` are tried."""

_ALGORITHMS = get_default_algorithms()
_OWN = "d", "p", "q", "dp", "dq", "qi", "oth", "k"
"""Members of a JWK that only its owner should have (RFC 7518 §6.2.2, §6.3.2, §6.4)."""


class UnusableKey(Exception):
    """Not a key to verify with; the message says why."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key, with the id that its issuer gave it and the algorithms that it may be used with."""

    algorithms: frozenset[str]
    material: Any = field(repr=False)
    key_id: str | None = None

    def fits(self, algorithm: str, key_id: str | None) -> bool:
        """Whether it may have signed a token of this algorithm that names this key, or none."""
        return algorithm in self.algorithms and (self.key_id is None or key_id is None or self.key_id == key_id)

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        assert algorithm in self.algorithms, "only keys that fit are asked"
        return bool(_ALGORITHMS[algorithm].verify(signed, self.material, signature))


def static_keys(issuer: Jwt, folder: Path) -> list[Key]:
    """The keys that the settings of an issuer hold. Raises UnusableKey or OSError."""
    if issuer.secret is not None:
        return [Key(frozenset({"HS256"}), issuer.secret.get_secret_value().encode())]
    return [_from_pem(text, issuer, folder) for text in issuer.public_keys]


def findings_of(settings: LoadedSettings) -> Iterator[Finding]:
    """What is wrong with the public keys of the settings, each in its place."""
    for number, issuer in enumerate(settings.values.identity.jwt):
        for position, text in enumerate(issuer.public_keys):
            try:
                _from_pem(text, issuer, settings.folder)
            except (UnusableKey, OSError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                shown = "this key" if "-----BEGIN" in text else repr(text)
                where = ("identity", "jwt", number, "public_keys", position)
                yield settings.source.finding(where, "unusable-key", f"cannot use {shown}: {reason}")


def _from_pem(text: str, issuer: Jwt, folder: Path) -> Key:
    pem = text.encode() if "-----BEGIN" in text else (folder / text).read_bytes()
    if b"PRIVATE KEY" in pem:
        raise UnusableKey("it is a private key; only its public part belongs here, and this one should be replaced")
    try:
        is_certificate = b"-----BEGIN CERTIFICATE-----" in pem
        material = x509.load_pem_x509_certificate(pem).public_key() if is_certificate else load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableKey("it is no public key in PEM, beginning with -----BEGIN PUBLIC KEY-----") from None
    algorithms = _algorithms_of(material) & set(issuer.algorithms)
    if not algorithms:
        raise UnusableKey(f"it cannot have signed with {' or '.join(issuer.algorithms)}")
    return Key(algorithms, material)


def key_set(body: bytes, algorithms: Sequence[str]) -> list[Key]:
    """The keys of a published set (RFC 7517 §5) that can verify one of the algorithms; others are left out, as the RFC
    asks. Raises UnusableKey when it is no key set, or none of its keys can be used.
    """
    try:
        document = strict_json.parse(body)
        entries = strict_json.find(document, ("keys",))
    except strict_json.Unreadable as error:
        raise UnusableKey(str(error)) from None
    if not isinstance(entries, list) or len(entries) > MAX_SET:
        raise UnusableKey(f"expected an object with a list `keys` of at most {MAX_SET}")
    keys = [key for entry in entries if (key := _from_jwk(entry, frozenset(algorithms))) is not None]
    if not keys:
        raise UnusableKey(f"none of its {len(entries)} keys is a public key for {' or '.join(algorithms)}")
    return keys


def _from_jwk(entry: object, wanted: frozenset[str]) -> Key | None:
    if not isinstance(entry, dict) or strict_json.has_repeated_key(entry) or any(name in entry for name in _OWN):
        return None
    key_id, operations = entry.get("kid"), entry.get("key_ops", ["verify"])
    if key_id is not None and not (isinstance(key_id, str) and len(key_id) <= MAX_KEY_ID):
        return None
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        material = _material(entry)
        algorithms = _algorithms_of(material) & wanted
    except (UnusableKey, InvalidKeyError, ValueError, TypeError, AttributeError, KeyError, UnsupportedAlgorithm):
        return None
    stated = entry.get("alg")
    algorithms &= {stated} if stated is not None else algorithms
    return Key(algorithms, material, key_id) if algorithms else None


def _material(entry: Mapping[str, Any]) -> Any:
    kinds = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
    return _ALGORITHMS[kinds[entry["kty"]]].from_jwk(dict(entry))


def _algorithms_of(material: object) -> frozenset[str]:
    """What a key can be used for. Raises UnusableKey when that is nothing here."""
    match material:
        case RSAPublicKey() if MIN_RSA_BITS <= material.key_size <= MAX_RSA_BITS:
            return frozenset({"RS256", "PS256"})
        case RSAPublicKey():
            raise UnusableKey(f"an RSA key has {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, and this one {material.key_size}")
        case EllipticCurvePublicKey() if isinstance(material.curve, SECP256R1):
            return frozenset({"ES256"})
        case Ed25519PublicKey():
            return frozenset({"EdDSA"})
        case _:
            raise UnusableKey("it is neither RSA, nor of the curve P-256 or Ed25519")

"""Keys of every kind, and tokens made by hand: so that one can say what no library would write."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

from config.identity import Jwt
from policies.refusals import Refusal
from proxy.identity.jwt import Claims, Fixed, Issuer
from proxy.identity.keys import static_keys
from tests import canaries

SECRET = canaries.JWT_SECRET
ALGORITHMS = ("HS256", "RS256", "PS256", "ES256", "EdDSA")
LIBRARY = get_default_algorithms()


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def private_key(kind: str, number: int = 0) -> Any:
    """A key that signs; another `number` is another key."""
    return _made(kind, number)


@cache
def _made(kind: str, number: int) -> Any:
    match kind:
        case "HS256":
            return (SECRET + "x" * number).encode()
        case "RS256" | "PS256":
            return rsa.generate_private_key(65537, 2048)
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ES256K":
            return ec.generate_private_key(ec.SECP256K1())
        case "ES384":
            return ec.generate_private_key(ec.SECP384R1())
        case "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            raise AssertionError(kind)


def pem(kind: str, number: int = 0) -> str:
    public = private_key(kind, number).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()  # type: ignore[no-any-return]


def jwk(kind: str, number: int = 0, **members: object) -> dict[str, object]:
    """The public key as an issuer publishes it."""
    found = LIBRARY[kind].to_jwk(private_key(kind, number).public_key(), as_dict=True)
    return {name: value for name, value in found.items() if name != "key_ops"} | members


def signature(algorithm: str, signed: str, key: Any) -> bytes:
    return LIBRARY[algorithm].sign(signed.encode(), key)


def token(
    claims: object,
    algorithm: str = "RS256",
    *,
    key: Any = None,
    header: Mapping[str, object] | None = None,
    raw_header: bytes | None = None,
    raw_claims: bytes | None = None,
) -> str:
    """A signed token. `header` replaces members of the usual one; what is None there is left out."""
    head = {"alg": algorithm, "typ": "JWT"} | dict(header or {})
    head = {name: value for name, value in head.items() if value is not None}
    first = raw_header if raw_header is not None else json.dumps(head).encode()
    second = raw_claims if raw_claims is not None else json.dumps(claims).encode()
    signed = f"{b64(first)}.{b64(second)}"
    return f"{signed}.{b64(signature(algorithm, signed, private_key(algorithm) if key is None else key))}"


def settings(algorithm: str, **more: object) -> Jwt:
    """An issuer that signs with this algorithm, its key in the settings."""
    source: dict[str, object] = {"secret": SECRET} if algorithm == "HS256" else {"public_keys": [pem(algorithm)]}
    return Jwt.model_validate({"name": "idp", "algorithms": [algorithm]} | source | more)


def issuer(given: Jwt) -> Issuer:
    return Issuer(given, Fixed(static_keys(given, Path())))


def at_once(asking: Any) -> Claims | Refusal:
    """What a verification answers that has nothing to wait for."""
    try:
        asking.send(None)
    except StopIteration as ended:
        return ended.value  # type: ignore[no-any-return]
    raise AssertionError("it waits for something")

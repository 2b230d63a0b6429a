"""Published keys: public ones for the algorithms in force, that PyJWT finds in the set as well."""

from __future__ import annotations

import json
from pathlib import Path

from jwt import PyJWKSet
from jwt.exceptions import PyJWTError

from config.identity import Jwt
from proxy.identity.keys import UnusableKey, key_set, static_keys
from tests.fuzz.inputs import Bytes

_ALGORITHMS = ("RS256", "ES256", "EdDSA")
_EC = (
    b'{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",'
    b'"y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}'
)
_ED = b'{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}'
_PEM = b"""-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
"""
_WORDS = rb"""{"keys":[ ]} {"keys":[] , : "kty" "EC" "OKP" "RSA" "oct" "crv" "P-256" "P-384" "secp256k1" "Ed25519"
"X25519" "x" "y" "d" "k" "n" "e" "AQAB" "kid":"a" "alg":"ES256" "alg":"HS256" "alg":[] "use":"sig" "use":"enc"
"key_ops":["verify"] "key_ops":["sign"] null 7"""
WORDS = [*_WORDS.split(), _EC, _ED, _PEM, b'{"keys":[' + _EC + b"," + _ED + b"]}", b"-----BEGIN CERTIFICATE-----"]
SEEDS = [b"\1" + b'{"keys":[' + _EC + b"," + _ED + b"]}", b"\0" + _PEM.removeprefix(b"-----BEGIN")]
SEEDS += [b'\1{"keys":[' + _ED[:-1] + b',"kid":"a","alg":"EdDSA","use":"sig"},{"kty":"oct","k":"AQAB"}]}']
SEEDS += [b'\1{"keys":[' + _ED[:-1] + b',"d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}]}']


def check(data: bytes) -> None:
    source = Bytes(data)
    if source.choice(4) == 0:
        _pem(source.rest())
    else:
        _set(source.rest())


def _set(body: bytes) -> None:
    try:
        keys = key_set(body, _ALGORITHMS)
    except UnusableKey:
        return
    assert all(key.algorithms and key.algorithms <= set(_ALGORITHMS) for key in keys)
    assert not any(hasattr(key.material, "sign") or hasattr(key.material, "private_numbers") for key in keys)
    assert not any(key.verifies(algorithm, b"a", b"b" * 64) for key in keys for algorithm in key.algorithms)
    try:
        theirs = [key.key_id for key in PyJWKSet.from_dict(json.loads(body)).keys]
    except PyJWTError as error:
        raise AssertionError(f"a set of no keys elsewhere: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError):
        # It stumbles over a key that we leave out.
        return
    assert all(key.key_id in theirs for key in keys)


def _pem(body: bytes) -> None:
    text = "-----BEGIN" + body.decode("latin-1")
    try:
        values = {"name": "a", "algorithms": list(_ALGORITHMS), "public_keys": [text], "user": "sub"}
        keys = static_keys(Jwt.model_validate(values), Path())
    except (UnusableKey, ValueError):
        return
    assert "PRIVATE KEY" not in text
    assert all(key.algorithms <= set(_ALGORITHMS) for key in keys)
    assert not any(hasattr(key.material, "sign") for key in keys)

"""Keys of the settings: looked at before the start, each told with its place when it cannot be used."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from trustme import CA

from config.findings import Finding, InvalidDocument
from config.settings import LoadedSettings, load_settings
from proxy.identity.jwt import Claims, Fixed, Issuer, verify
from proxy.identity.keys import findings_of, static_keys
from tests.proxy.identity.tokens import SECRET, at_once, pem, private_key, token

NOW = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)


def loaded(folder: Path, **issuer: object) -> LoadedSettings:
    (folder / "farebox.yaml").write_text(json.dumps({
        "identity": {"jwt": [{"name": "idp"} | issuer]},
        "upstreams": {"u": {"url": "http://u"}},
        "routes": [{"id": "r", "match": "GET /", "upstream": "u", "access": "open"}],
    }, indent=1))  # fmt: skip
    return load_settings(folder / "farebox.yaml", {})


def found(folder: Path, *keys: str, algorithm: str = "RS256") -> list[Finding]:
    return list(findings_of(loaded(folder, algorithms=[algorithm], public_keys=list(keys))))


def test_a_key_is_a_file_or_a_text(tmp_path: Path) -> None:
    """A file counts from the folder of the settings; both may be used for one issuer."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "new.pem").write_text(pem("RS256", 1))
    settings = loaded(tmp_path, algorithms=["RS256"], public_keys=[pem("RS256"), "keys/new.pem"])
    assert list(findings_of(settings)) == []
    (given,) = settings.values.identity.jwt
    issuer = Issuer(given, Fixed(static_keys(given, settings.folder)))
    for number in (0, 1):
        text = token({"sub": "ann"}, key=private_key("RS256", number))
        assert isinstance(at_once(verify(text, [issuer], NOW)), Claims)


def test_a_certificate_will_do(tmp_path: Path) -> None:
    """Some issuers hand out their key in one; it is the key that counts, and no date of it."""
    (tmp_path / "idp.pem").write_bytes(CA().cert_pem.bytes())
    assert found(tmp_path, "idp.pem", algorithm="ES256") == []


@pytest.mark.parametrize(
    ("content", "algorithm", "reason"),
    [
        (None, "RS256", "No such file or directory"),
        ("", "RS256", "no public key in PEM"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "RS256", "no public key in PEM"),
        (pem("RS256"), "ES256", "it cannot have signed with ES256"),
        (pem("EdDSA"), "RS256", "it cannot have signed with RS256"),
        (pem("ES384"), "ES256", "neither RSA, nor of the curve P-256 or Ed25519"),
    ],
)
def test_a_key_that_cannot_be_used_is_told(tmp_path: Path, content: str | None, algorithm: str, reason: str) -> None:
    """Before the start, with the line of the settings that names it."""
    if content is not None:
        (tmp_path / "key.pem").write_text(content)
    (finding,) = found(tmp_path, "key.pem", algorithm=algorithm)
    lines = (tmp_path / "farebox.yaml").read_text().splitlines()
    assert (finding.code, lines[finding.line - 1].strip()) == ("unusable-key", '"key.pem"')
    assert finding.message.startswith("cannot use 'key.pem': ")
    assert reason in finding.message


@pytest.mark.parametrize("bits", [1024, 9216])
def test_an_rsa_key_has_a_fitting_size(tmp_path: Path, bits: int) -> None:
    """Shorter ones can be factored, longer ones take too long for each request."""
    numbers = rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) + 1)
    (tmp_path / "key.pem").write_bytes(
        numbers.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    (finding,) = found(tmp_path, "key.pem")
    assert f"and this one {bits}" in finding.message


def test_a_private_key_is_refused_and_not_shown(tmp_path: Path) -> None:
    """Whoever put it here has given it away; a finding must not show it either."""
    secret = private_key("RS256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    (tmp_path / "key.pem").write_text(secret)
    for finding in (*found(tmp_path, "key.pem"), *found(tmp_path, secret)):
        assert "it is a private key" in finding.message
        assert secret.splitlines()[1] not in str(finding)


@pytest.mark.parametrize(
    ("issuer", "told"),
    [
        ({"algorithms": ["HS256"], "secret": "x" * 31}, "shorter than 32 bytes"),
        ({"algorithms": ["HS256"], "secret": pem("RS256")}, "this is a public key or a certificate"),
        ({"algorithms": ["HS256"], "secret": '{"kty": "RSA", "n": "0123456789012345678"}'}, "this is a public key"),
        ({"algorithms": ["HS256"], "secret": "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAB"}, "this is a public key"),
        ({"algorithms": ["HS256"]}, "exactly one of"),
        ({"algorithms": ["RS256"], "public_keys": []}, "exactly one of"),
        ({"algorithms": ["HS256"], "secret": SECRET, "public_keys": ["a.pem"]}, "exactly one of"),
        ({"algorithms": ["RS256"], "jwks_url": "https://id/", "public_keys": ["a.pem"]}, "exactly one of"),
        ({"algorithms": ["HS256", "RS256"], "secret": SECRET}, "HS256 goes with `secret`"),
        ({"algorithms": ["HS256", "RS256"], "jwks_url": "https://id/"}, "HS256 goes with `secret`"),
        ({"algorithms": ["HS256"], "jwks_url": "https://id/"}, "HS256 goes with `secret`"),
        ({"algorithms": ["RS256"], "secret": SECRET}, "HS256 goes with `secret`"),
        ({"algorithms": [], "secret": SECRET}, "at least 1 item"),
        ({"algorithms": ["none"], "secret": SECRET}, "expected 'HS256'"),
        ({"algorithms": ["RS512"], "jwks_url": "https://id/"}, "expected 'HS256'"),
        ({"algorithms": ["RS256"], "public_keys": ["a.pem"], "jwks_ca": "b.pem"}, "`jwks_ca` has no meaning"),
        ({"algorithms": ["RS256"], "jwks_url": "http://127.0.0.1/", "jwks_ca": "b.pem"}, "`jwks_ca` has no meaning"),
        ({"algorithms": ["RS256"], "jwks_url": "https://id/", "user_prefix": "a b"}, "should match pattern"),
        ({"algorithms": ["RS256"], "jwks_url": "https://id/", "types": [""]}, "should match pattern"),
    ],
)
def test_j08_settings_that_would_let_a_forger_in(tmp_path: Path, issuer: dict[str, object], told: str) -> None:
    """Weak secrets, public keys as secrets, and algorithms without a key of their kind are refused at the start."""
    with pytest.raises(InvalidDocument) as refused:
        loaded(tmp_path, **issuer)
    text = str(refused.value)
    assert told in text
    assert str(issuer.get("secret", "no secret")) not in text

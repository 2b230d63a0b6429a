"""Every attack on tokens that has a name, for every algorithm: none of the forged is accepted, all of the honest are.

The ideas are those of RFC 8725, of the advisories of the libraries, and of the public collections of odd tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from policies.refusals import Refusal
from proxy.identity.jwt import Claims, verify
from tests.proxy.identity.tokens import (
    ALGORITHMS,
    LIBRARY,
    SECRET,
    at_once,
    b64,
    issuer,
    jwk,
    pem,
    private_key,
    settings,
    signature,
    token,
)

NOW = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
MARGIN = {"issuer": "https://id/", "audience": "app"}
CLAIMS: dict[str, Any] = {
    "sub": "ann", "iss": "https://id/", "aud": "app", "exp": SECONDS + 60, "nbf": SECONDS - 60, "iat": SECONDS - 60,
}  # fmt: skip

Forged = Iterator[tuple[str, str]]
"""A name for people, and a token."""


def _unsigned(algorithm: str) -> Forged:
    """J01: algorithms that are none, and no signature."""
    honest = token(CLAIMS, algorithm)
    payload = honest.split(".")[1]
    for name in ("none", "None", "NONE", "nOnE", " none", "none\0", "", "null", "HS", "RS256 ", "rs256", "hs256"):
        head = b64(json.dumps({"alg": name, "typ": "JWT"}).encode())
        yield f"alg {name!r} unsigned", f"{head}.{payload}."
        yield f"alg {name!r} signed", f"{head}.{payload}.{honest.rpartition('.')[2]}"
        yield f"alg {name!r} signed anew", token(CLAIMS, algorithm, header={"alg": name})
    for other in (None, 5, True, ["HS256"], {"alg": "HS256"}, [algorithm], {}):
        yield f"alg {other!r}", token(CLAIMS, algorithm, header={"alg": other})
    yield "no algorithm", token(CLAIMS, algorithm, header={"alg": None})
    yield "no signature", honest.rpartition(".")[0] + "."
    yield "no last part", honest.rpartition(".")[0]


def _swapped(algorithm: str) -> Forged:
    """J01: a key used with an algorithm that it is not for, the public key as a secret above all."""
    publics = [text for kind in ALGORITHMS[1:] for text in (pem(kind), pem(kind).strip(), json.dumps(jwk(kind)))]
    for number, public in enumerate(publics):
        yield f"HS256 with public key {number}", token(CLAIMS, "HS256", key=public.encode())
    for other in ALGORITHMS:
        if other != algorithm:
            yield f"{other} by its own key", token(CLAIMS, other)
            yield f"{other} that says {algorithm}", token(CLAIMS, other, header={"alg": algorithm})
            yield f"{algorithm} that says {other}", token(CLAIMS, algorithm, header={"alg": other})
    for larger in ("HS384", "HS512"):
        yield f"the secret with {larger}", token(CLAIMS, larger, key=SECRET.encode())
    for larger in ("RS384", "RS512", "PS384", "PS512"):
        yield f"the RSA key with {larger}", token(CLAIMS, larger, key=private_key("RS256"))
    for kind in ("ES384", "ES256K"):
        yield f"another curve: {kind}", token(CLAIMS, kind, key=private_key(kind))


def _foreign(algorithm: str) -> Forged:
    """J03: keys that a token brings along or names, all of them the forger's."""
    mine = private_key(algorithm, 1)
    public = {"kty": "oct", "k": b64(mine)} if algorithm == "HS256" else jwk(algorithm, 1)
    yield "another key", token(CLAIMS, algorithm, key=mine)
    for name, value in [
        ("jwk", public),
        ("jku", "http://127.0.0.1:9/jwks.json"),
        ("x5u", "http://127.0.0.1:9/cert.pem"),
        ("x5c", [b64(b"certificate")]),
        ("x5t", "abc"),
        ("kid", "../../../../dev/null"),
        ("kid", "' UNION SELECT 'x' --"),
        ("kid", "http://127.0.0.1:9/key"),
        ("kid", "/proc/self/environ"),
        ("kid", ""),
    ]:
        yield f"{name} {str(value)[:30]}", token(CLAIMS, algorithm, key=mine, header={name: value})
    for odd in (["a"], {}, 5, True, "k" * 501):
        yield f"kid {str(odd)[:10]!r}", token(CLAIMS, algorithm, header={"kid": odd})


def _critical(algorithm: str) -> Forged:
    """J02: extensions that have to be understood, and are not."""
    for value in (["x"], ["b64"], ["exp"], [], "x", {}, 5):
        header = {"crit": value, "x": 1, "b64": False}
        yield f"crit {value!r}", token(CLAIMS, algorithm, header=header)


def _changed(algorithm: str) -> Forged:
    """J01, J05: one bit of any part; and signatures that some implementations took for any."""
    honest = token(CLAIMS, algorithm)
    head, payload, end = honest.split(".")
    other = b64(json.dumps(CLAIMS | {"sub": "root"}).encode())
    yield "another payload", f"{head}.{other}.{end}"
    for position in (0, len(end) // 2):
        yield (
            f"signature at {position}",
            f"{head}.{payload}.{end[:position]}{_other(end[position])}{end[position + 1 :]}",
        )
    yield "signature cut", f"{head}.{payload}.{end[:-4]}"
    yield "signature doubled", f"{head}.{payload}.{end}{end}"
    for name, raw in [("zeros", bytes(64)), ("ones", b"\1" * 64), ("long zeros", bytes(256)), ("one zero", bytes(1))]:
        yield f"signature of {name}", f"{head}.{payload}.{b64(raw)}"
    yield (
        "signature of the payload alone",
        f"{head}.{payload}.{b64(signature(algorithm, payload, private_key(algorithm)))}",
    )


def _other(character: str) -> str:
    return "B" if character == "A" else "A"


def _spelled(algorithm: str) -> Forged:
    """J05: another text for the same token, other serialisations, members given twice."""
    honest = token(CLAIMS, algorithm)
    head, payload, end = honest.split(".")
    yield from {
        "padding": f"{head}=.{payload}=.{end}=",
        "padding of the signature": f"{honest}==",
        "leading blank": f" {honest}",
        "line end": f"{honest}\n",
        "a blank inside": f"{head}.{payload[:5]} {payload[5:]}.{end}",
        "a foreign character inside": f"{head}.{payload[:5]}!{payload[5:]}.{end}",
        "a line end inside the signature": f"{head}.{payload}.{end[:9]}\r\n{end[9:]}",
        "the other alphabet": f"{head}.{payload}.{end[:9]}+/{end[11:]}",
        "a leading dot": f".{honest}",
        "a fourth part": f"{honest}.{end}",
        "five parts": f"{honest}..",
        "two dots": f"{head}..{end}",
        "digits of another script": f"{head}.{payload}.{end[:-1]}٣",
        "JSON": json.dumps({"protected": head, "payload": payload, "signature": end}),
        "nested": token(honest, algorithm, header={"cty": "JWT"}),
        "encrypted": b64(b'{"alg":"dir","enc":"A128GCM"}') + "..AAAA.AAAA.AAAA",
        "PBES2": b64(b'{"alg":"PBES2-HS256+A128KW","p2c":2147483647,"enc":"A128GCM"}') + ".AA.AA.AA.AA",
        "detached": f"{head}..{end}",
    }.items()
    if len(end) % 4:
        yield "bits that belong to no byte", honest[:-1] + _with_spare_bits(honest[-1])
    twice = json.dumps(CLAIMS)[:-1].encode()
    yield "sub twice", token(None, algorithm, raw_claims=twice + b', "sub": "root"}')
    yield "exp twice", token(None, algorithm, raw_claims=twice + b', "exp": 9999999999}')
    yield "an escaped name twice", token(None, algorithm, raw_claims=twice + b', "\\u0073ub": "root"}')
    yield "alg twice", token(CLAIMS, algorithm, raw_header=b'{"alg":"none","alg":"%b"}' % algorithm.encode())
    for name, raw in [
        ("no object", b'["sub"]'), ("a text", b'"sub"'), ("null", b"null"), ("a mark", b"\xef\xbb\xbf" + twice + b"}"),
        ("UTF-16", json.dumps(CLAIMS).encode("utf-16")), ("no UTF-8", twice + b', "x": "\xff"}'),
        ("two documents", twice + b"}{}"), ("depth", b"[" * 3000), ("NaN", twice + b', "x": NaN}'),
    ]:  # fmt: skip
        yield f"payload: {name}", token(None, algorithm, raw_claims=raw)
        yield f"header: {name}", token(CLAIMS, algorithm, raw_header=raw.replace(b"sub", b"alg"))


def _with_spare_bits(last: str) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return alphabet[alphabet.index(last) + 1]


def _claimed(algorithm: str) -> Forged:
    """J04: dates, audiences, issuers, types and users that are not what they have to be."""
    wrong: list[dict[str, Any]] = [
        {"exp": SECONDS - 31}, {"exp": 0}, {"exp": -1}, {"nbf": SECONDS + 31}, {"iat": SECONDS + 31},
        *({name: value} for name in ("exp", "nbf", "iat")
          for value in ("soon", "", str(SECONDS + 60), None, [], {}, True, [SECONDS + 60], float("nan"), float("inf"))),
        *({"aud": value} for value in ("", "ap", "app2", "APP", " app", [], ["x"], None, 5, {"app": 1}, ["app", 5])),
        *({"iss": value} for value in ("", "https://id", "https://id//", "HTTPS://id/", None, 5, ["https://id/"])),
        *({"sub": value} for value in ("", None, 5, 5.5, True, [], ["ann"], {"id": "ann"}, "a\nb", "a\0", "\u202eann")),
    ]  # fmt: skip
    for changed in wrong:
        yield f"claims {changed!r}", token(CLAIMS | changed, algorithm)
    for name in ("iss", "aud", "sub"):
        yield f"no {name}", token({key: value for key, value in CLAIMS.items() if key != name}, algorithm)
    for kind in ("JWE", "logout+jwt", "secevent+jwt", "dpop+jwt", "id_token", "", 5, [], "application/", "JWT "):
        yield f"typ {kind!r}", token(CLAIMS, algorithm, header={"typ": kind})


ATTACKS: list[Callable[[str], Forged]] = [_unsigned, _swapped, _foreign, _critical, _changed, _spelled, _claimed]


def _outcome(text: str, algorithm: str, **more: object) -> Claims | Refusal:
    return at_once(verify(text, [issuer(settings(algorithm, **MARGIN, **more))], NOW))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.__doc__[:3]} {attack.__name__[1:]}")
def test_no_forged_token_is_accepted(attack: Callable[[str], Forged], algorithm: str) -> None:
    """All of them, with the same words for each: what was wrong is not told."""
    forged = list(attack(algorithm))
    assert len(forged) >= 7
    outcomes = {name: _outcome(text, algorithm) for name, text in forged}
    assert {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Claims)} == {}
    told = {outcome.error for outcome in outcomes.values() if isinstance(outcome, Refusal)}
    assert told == {"Unauthorized - Invalid token"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_honest_token_is_accepted(algorithm: str) -> None:
    """In all the forms that issuers give them."""
    honest = [
        token(CLAIMS, algorithm),
        token(CLAIMS, algorithm, header={"typ": None}),
        *(token(CLAIMS, algorithm, header={"typ": kind}) for kind in ("jwt", "at+jwt", "application/at+JWT")),
        *(token(CLAIMS, algorithm, header={"kid": key_id}) for key_id in ("1", "k" * 500, "https://id/keys/1")),
        token(CLAIMS, algorithm, header={"cty": "json", "x5t": "abc", "jku": "https://id/jwks.json"}),
        *(token(CLAIMS | {"aud": ["x", "app"], name: value}, algorithm) for name, value in [
            ("exp", SECONDS - 29), ("exp", SECONDS - 29.5), ("exp", 10**400), ("exp", 1e300), ("nbf", SECONDS + 29),
            ("nbf", 0), ("iat", SECONDS + 30), ("iat", -5.5), ("jti", 5), ("scope", "a b"), ("Sub", "another"),
        ]),
        token({key: value for key, value in CLAIMS.items() if key not in ("exp", "nbf", "iat")}, algorithm),
        token(None, algorithm, raw_claims=b" \n" + json.dumps(CLAIMS, indent=2).encode() + b"\t"),
        token(CLAIMS | {"note": "x" * 5000, "groups": [{"id": 1}] * 50}, algorithm),
    ]  # fmt: skip
    refused = [text for text in honest if not isinstance(_outcome(text, algorithm), Claims)]
    assert refused == []


def test_the_table_is_as_long_as_it_says() -> None:
    """Some hundreds of forged tokens for each algorithm: an empty list would let every test above pass."""
    numbers = {algorithm: sum(len(list(attack(algorithm))) for attack in ATTACKS) for algorithm in ALGORITHMS}
    assert min(numbers.values()) > 200
    assert set(LIBRARY) > set(ALGORITHMS)


def test_j04_a_type_can_be_asked_for() -> None:
    """With `types: [at+jwt]` an ID token, or one that does not say what it is, is no access token (RFC 9068 §4)."""
    how = {"types": ["at+jwt"]}
    for kind in ("at+jwt", "AT+JWT", "application/at+jwt"):
        assert isinstance(_outcome(token(CLAIMS, header={"typ": kind}), "RS256", **how), Claims)
    for other in ("JWT", None, "at", "application/application/at+jwt"):
        assert isinstance(_outcome(token(CLAIMS, header={"typ": other}), "RS256", **how), Refusal)


def test_j04_claims_can_be_required() -> None:
    """With `require: [exp]` a token that never ends is refused; null is no value."""
    how = {"require": ["exp", "tenant"]}
    assert isinstance(_outcome(token(CLAIMS | {"tenant": "t"}), "RS256", **how), Claims)
    assert isinstance(_outcome(token(CLAIMS), "RS256", **how), Refusal)
    assert isinstance(_outcome(token(CLAIMS | {"tenant": None}), "RS256", **how), Refusal)
    without = {name: value for name, value in CLAIMS.items() if name != "exp"} | {"tenant": "t"}
    assert isinstance(_outcome(token(without), "RS256", **how), Refusal)


@pytest.mark.parametrize(("offset", "valid"), [(-29, True), (-30, False), (-30.001, False), (-29.999, True)])
def test_j04_the_end_is_exact(offset: float, valid: bool) -> None:
    """RFC 7519 §4.1.4: on the moment itself a token is over already; with the tolerance, to the millisecond."""
    outcome = _outcome(token(CLAIMS | {"exp": SECONDS + offset}), "RS256")
    assert isinstance(outcome, Claims) is valid


def test_several_issuers_stay_apart() -> None:
    """Each vouches with its own key for its own `iss`, and a prefix keeps equal names of two issuers two users."""
    ours = issuer(settings("HS256", issuer="https://app/"))
    theirs = issuer(settings("ES256", issuer="https://partner/", user_prefix="partner:"))

    def verified(claims: dict[str, object], algorithm: str) -> Claims | Refusal:
        return at_once(verify(token(claims, algorithm), [ours, theirs], NOW))

    assert verified({"sub": "ann", "iss": "https://app/"}, "HS256") == Claims("ann", None, None)
    assert verified({"sub": "ann", "iss": "https://partner/"}, "ES256") == Claims("partner:ann", None, None)
    assert isinstance(verified({"sub": "ann", "iss": "https://app/"}, "ES256"), Refusal)
    assert isinstance(verified({"sub": "ann", "iss": "https://partner/"}, "HS256"), Refusal)
    assert isinstance(verified({"sub": "partner:ann", "iss": "https://partner/"}, "HS256"), Refusal)


def test_a_rotation_by_hand_has_two_keys() -> None:
    """Several public keys of one issuer count at once; one that is not there does not."""
    both = issuer(settings("EdDSA", public_keys=[pem("EdDSA"), pem("EdDSA", 1)]))
    for number, valid in ((0, True), (1, True), (2, False)):
        text = token({"sub": "ann"}, "EdDSA", key=private_key("EdDSA", number))
        assert isinstance(at_once(verify(text, [both], NOW)), Claims) is valid


def test_j06_a_long_token_costs_no_more_than_a_short_one() -> None:
    """Nothing of a token says how much work it makes: iterations, key sizes and depths are not read from it."""
    outcome = _outcome(token(CLAIMS, header={"p2c": 2**31, "x5c": ["A" * 2000], "kid": "k"}), "RS256")
    assert outcome == Claims("ann", None, NOW + timedelta(seconds=90))

"""The headers of a request: one credential or none, and none that anybody could have put beside it."""

from __future__ import annotations

from dataclasses import replace

from config.identity import Identity
from policies.refusals import Refusal
from policies.terms import Credential
from proxy.headers import HeaderList, folded
from proxy.identity.credentials import Credentials, Shown
from tests.fuzz.inputs import Bytes

_SECRET = "proof-that-the-proxy-in-front-sends"
_CREDENTIALS = Credentials(
    Identity.model_validate(
        {
            "jwt": [{"name": "app", "algorithms": ["HS256"], "secret": "s" * 32, "user": "sub"}],
            "cookie": {"name": "session", "origins": ["https://app.example"]},
            "trusted_header": {"name": "X-User-Id", "peers": ["10.0.0.0/8"], "secret": _SECRET},
        }
    )
)
WORDS = [
    b"Authorization: Bearer abc\n",
    b"authorization: bearer  abc \n",
    b"Authorization: Basic abc\n",
    b"X-Api-Key: fbx_abc\n",
    b"Cookie: session=abc\n",
    b"Cookie: a=b; session=abc; session=def\n",
    b'Cookie: session="abc"\n',
    b"X-User-Id: ann\n",
    b"x_user_id: ann\n",
    b"X-Proxy-Secret: proof-that-the-proxy-in-front-sends\n",
    b"X-Proxy-Secret: other\n",
    b"Origin: https://app.example\n",
    b"Origin: https://evil.example\n",
    b"Sec-Fetch-Site: same-origin\n",
    b"Host: app.example\n",
    b": ",
    b"\n",
    b";",
    b"=",
    b",",
    b"\xff",
    b"Origin: http://[\n",
]
_VOUCHED = b"X-User-Id: ann\nX-Proxy-Secret: " + _SECRET.encode() + b"\n"
SEEDS = [
    b"\0\0" + _VOUCHED,
    b"\0\1" + _VOUCHED,
    b"\1\0Cookie: session=abc\nOrigin: https://app.example\nHost: app.example\n",
]
SEEDS += [b"\0\0Authorization: Bearer abc\nCookie: a=b\n", b"\0\0" + _VOUCHED + b"x_user_id: bob\n"]


def check(data: bytes) -> None:
    source = Bytes(data)
    method, peer = ("GET", "POST")[source.choice(2)], ("10.1.2.3", "192.0.2.1", None)[source.choice(3)]
    pairs = (line.partition(":") for line in source.rest().decode("utf-8", "surrogateescape").split("\n"))
    headers: HeaderList = [(name, value.strip(" \t")) for name, colon, value in pairs if colon and name.isascii()]
    shown = Shown(method, headers, peer)
    found = _CREDENTIALS.find(shown)
    travelling = _CREDENTIALS.travelling(headers, shown)
    assert "xproxysecret" not in {folded(name) for name, _ in travelling}, "the proof stays here"
    named = [value for name, value in travelling if folded(name) == "xuserid"]
    if isinstance(found, Refusal):
        assert not named or peer == "10.1.2.3"
        return
    bearers = [value for name, value in headers if name.lower() in ("authorization", "x-api-key")]
    if found.kind is Credential.TRUSTED_HEADER:
        assert peer == "10.1.2.3"
        assert (named, bearers) == ([found.text], [])
        assert [value for name, value in headers if name.lower() == "x-proxy-secret"] == [_SECRET]
        return
    assert not named, "nobody names a user beside a credential"
    cookies = [value for name, value in headers if name.lower() == "cookie"]
    carriers = bearers or [value for value in cookies if "session" in value]
    assert any(found.text in value for value in carriers)
    assert len(bearers) <= 1
    assert repr(found) == repr(replace(found, text="other")), "it is not told"

"""The settings of identity: what would let somebody in by mistake is told at its line and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.findings import InvalidDocument
from config.settings import load_settings
from tests import canaries

SECRET = canaries.PROXY_SECRET


def load(folder: Path, line: str) -> list[str]:
    """The findings of a file with this line in its identity, without the lines that they quote."""
    (folder / "farebox.yaml").write_text(
        f"identity:\n  {line}\n"
        'upstreams: {u: {url: "http://u"}}\nroutes: [{id: r, match: GET /, upstream: u, access: open}]\n'
    )
    try:
        load_settings(folder / "farebox.yaml", {})
    except InvalidDocument as refused:
        assert SECRET not in str(refused)
        return [f"{found.line}:{found.column}: {found.message}" for found in refused.findings]
    return []


HEADER = "trusted_header: {name: X-User-Id, peers: "


@pytest.mark.parametrize(
    "line",
    [
        HEADER + "[127.0.0.1]}",
        HEADER + '["::1", 127.0.0.0/8]}',
        HEADER + f"[10.0.0.0/8], secret: {SECRET}}}",
        HEADER + f"[10.0.0.0/8], secret: {SECRET}, secret_header: X-Front, email: X-User-Email}}",
        "failures: {limit: 5, per: 1s}",
    ],
)
def test_good_settings(tmp_path: Path, line: str) -> None:
    assert load(tmp_path, line) == []


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        (HEADER + "[]}", "2:44: found a list; list should have at least 1 item"),
        (HEADER + "[10.0.0.1/8]}", "2:45: found '10.0.0.1/8'; expected an address or a network such as 10.0.0.0/8"),
        (HEADER + "[proxy.internal]}", "2:45: found 'proxy.internal'; expected an address or a network"),
        (HEADER + "[10]}", "2:45: found 10; expected an address or a network such as 10.0.0.0/8"),
        (
            HEADER + "[127.0.0.1, 10.0.0.1]}",
            "2:19: found a mapping; peers that are not on this machine need a `secret`",
        ),
        (HEADER + "[0.0.0.0/0]}", "2:19: found a mapping; peers that are not on this machine need a `secret`"),
        (HEADER + "[10.0.0.1], secret: short}", "2:64: the secret is shorter than 32 bytes"),
        (HEADER + "[127.0.0.1], email: X_User}", "2:64: found 'X_User'; string should match pattern"),
        (HEADER + "[127.0.0.1], email: x-user-id}", "2:19: found a mapping; each header needs a name of its own"),
        ("cookie: {name: session}", "2:3: found a mapping; `cookie` brings tokens, and without `jwt` none is accepted"),
        ("failures: {limit: 0}", "2:21: found 0; input should be greater than or equal to 1"),
    ],
)
def test_bad_settings(tmp_path: Path, line: str, finding: str) -> None:
    """With what was found and what was expected."""
    (found,) = load(tmp_path, line)
    assert found.startswith(finding)

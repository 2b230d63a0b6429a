"""Who stands in front, and whose pages may ask: what the settings take, and what they say to the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.findings import InvalidDocument
from config.settings import load_settings


def load(folder: Path, line: str) -> list[str]:
    """The findings on a file with one more line."""
    (folder / "farebox.yaml").write_text(
        f"{line}\nidentity: {{}}\nupstreams: {{u: {{url: http://u}}}}\n"
        "routes: [{id: r, match: GET /, upstream: u, access: open}]\n"
    )
    try:
        load_settings(folder / "farebox.yaml", {})
    except InvalidDocument as refused:
        return [f"{found.line}:{found.column}: {found.message}" for found in refused.findings]
    return []


@pytest.mark.parametrize(
    "line",
    [
        'proxies: {peers: [10.0.0.0/8, "fd00::/8", 192.0.2.1]}',
        "proxies: {peers: [10.0.0.1], header: Forwarded}",
        "proxies: {}",
        'cors: {origins: ["https://app.example.com", "http://localhost:5173"], credentials: true, max_age: 1d}',
        'cors: {origins: ["*"]}',
    ],
)
def test_good_settings(tmp_path: Path, line: str) -> None:
    assert load(tmp_path, line) == []


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        ("proxies: {peers: [10.0.0.1/8]}", "1:19: found '10.0.0.1/8'; expected an address or a network"),
        ("proxies: {peers: [balancer]}", "1:19: found 'balancer'; expected an address or a network"),
        ("proxies: {header: X-Real-IP}", "1:19: found 'X-Real-IP'; expected 'X-Forwarded-For' or 'Forwarded'"),
        ("proxies: {trusted: [10.0.0.1]}", "1:11: unknown key"),
        ("cors: {}", "1:7: the key 'origins' is missing"),
        ("cors: {origins: []}", "1:17: found a list; list should have at least 1 item"),
        ("cors: {origins: [app.example.com]}", "1:18: found 'app.example.com'"),
        ('cors: {origins: ["https://app.example.com/"]}', "1:18: found 'https://app.example.com/'"),
        ('cors: {origins: ["*"], credentials: true}', "1:7: found a mapping; with `credentials` the origins have to"),
    ],
)
def test_bad_settings(tmp_path: Path, line: str, finding: str) -> None:
    """With what was found and what was expected."""
    found = load(tmp_path, line)
    assert any(text.startswith(finding) for text in found), found

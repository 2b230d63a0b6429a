"""`management.off` names endpoints, and is checked like every other name."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from proxy.cli import main

SETTINGS = """
identity: {jwt: [{name: app, algorithms: [HS256], secret: "0123456789012345678901234567890123456789"}]}
upstreams: {app: {url: "http://127.0.0.1:1"}}
routes: [{id: site, match: GET /, upstream: app, access: open}]
management: {off: [GET /credits/balanec]}
"""


def test_an_endpoint_that_does_not_exist_cannot_be_switched_off(tmp_path: Path) -> None:
    """A misspelt endpoint would stay on; the finding names its place and the nearest endpoint."""
    (tmp_path / "farebox.yaml").write_text(SETTINGS)
    result = CliRunner().invoke(main, ["check", "--config", str(tmp_path / "farebox.yaml")])
    assert result.exit_code == 1
    assert "farebox.yaml:5:20: unknown-endpoint" in result.output
    assert "did you mean 'GET /credits/balance'?" in result.output

"""Commands show no secret: what is configured is masked, and a key is shown by the command that makes it."""

from __future__ import annotations

from tests import canaries
from tests.proxy.cli.console import Console

TOKEN, SECRET = canaries.ADMIN_TOKEN, canaries.JWT_SECRET


def test_a03_checking_shows_no_secret(console: Console) -> None:
    """`farebox check` quotes the lines of its findings, also the one that a token is in."""
    shown = [console.run("check").output]
    console.config.write_text(console.config.read_text().replace(f'"{TOKEN}"}}', f'"{TOKEN}", role: owner}}'))
    for form in ("text", "sarif"):
        result = console.run("check", "--format", form)
        assert result.exit_code == 1
        assert "unknown key 'role'" in result.output
        shown.append(result.output)
    for secret in (TOKEN, SECRET):
        assert not [text for text in shown if secret in text]


def test_a03_a_key_is_shown_by_the_command_that_makes_it(console: Console) -> None:
    """And by none after it, for people and for machines."""
    console.json("accounts", "create", "ana")
    made = console.json("keys", "create", "ana")
    rotated = console.json("keys", "rotate", made["id"])
    console.json("keys", "revoke", rotated["id"])
    for command in (["keys", "list"], ["audit", "list"], ["accounts", "show", "ana"], ["audit", "verify"]):
        for output in (console.out(*command), console.out(*command, "--json")):
            assert made["key"] not in output
            assert rotated["key"] not in output


def test_the_audit_log_is_verified(console: Console) -> None:
    """With a head to write down, which has to be in the chain afterwards; another one ends with 1."""
    console.json("accounts", "create", "ana")
    head = console.json("audit", "verify")["head"]
    console.json("accounts", "freeze", "ana")
    verified = console.json("audit", "verify", "--head", head)
    assert (verified["ok"], verified["rows"], verified["breaches"]) == (True, 4, [])
    number, _, _ = head.partition(":")
    broken = console.json("audit", "verify", "--head", f"{number}:{'0' * 64}", code=1)
    assert broken["breaches"] == [f"link {number} is another one than was known"]
    assert console.run("audit", "verify", "--head", "7").exit_code == 2

"""Secrets in the lines that findings show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.masking import is_secret, mask_urls, masked_lines
from tests.policies.samples import LAW


@pytest.mark.parametrize(
    "key",
    [
        "secret",
        "token",
        "password",
        "SECRET",
        "jwt_secret",
        "admin-token",
        "secrt",
        "scret",
        "tokn",
        "pasword",
        "secrets",
        "private_key",
        "headers",
        "Authorization",
    ],
)
def test_secret_keys(key: str) -> None:
    """Also with something before them, and misspelt: an unknown key is shown with its line."""
    assert is_secret(key)


@pytest.mark.parametrize(
    "key",
    [
        "tokens",
        "input_tokens",
        "max_tokens",
        "name",
        "user",
        "header",
        "key",
        "api_keys",
        "path",
        "issuer",
        "x" * 10_000,
    ],
)
def test_other_keys(key: str) -> None:
    """Counting tokens is no secret."""
    assert not is_secret(key)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("secret: hunter2", "secret: *******"),
        ("  secret: 'hunter2'  # note", "  secret: *********  * ****"),
        ("- token: hunter2", "- token: *******"),
        ('"token": hunter2', '"token": *******'),
        ("{name: a, secret: hunter2, user: b}", "{name: a, secret: *******, user: b}"),
        ("{secret: 'a, b}', user: b}", "{secret: *** ***, user: b}"),
        ('{secret: "a\\"b", user: b}', '{secret: ******, user: b}'),
        ('{"secret":"hunter2", "token": "x"}', '{"secret":*********, "token": ***}'),
        ("{secret: hunter2", "{secret: *******"),
        ("headers: {X-Key: hunter2}", "headers: ******* ********"),
        ("a: {headers: {X-Key: hunter2}, b: c}", "a: {headers: ******* *******}, b: c}"),
        ("secret: ${JWT_SECRET}", "secret: ${JWT_SECRET}"),
        ('{token: "${TOKEN}", a: b}', '{token: "${TOKEN}", a: b}'),
        ("{token: ${TOKEN}}", "{token: ${TOKEN}}"),
        ("token: ${TOKEN:-hunter2}", "token: *****************"),
        ("database: postgresql+asyncpg://farebox:hunter2@db/farebox", "database: postgresql+asyncpg://farebox:*******@db/farebox"),
        ("usage: {tokens: {json: /usage/total_tokens}}", "usage: {tokens: {json: /usage/total_tokens}}"),
        ("note: a secret is no key here", "note: a secret is no key here"),
    ],
)  # fmt: skip
def test_a_line_keeps_its_shape(line: str, shown: str) -> None:
    """Every character of a secret becomes an asterisk; the rest stays where it is, and references stay readable."""
    assert masked_lines(line) == [shown]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("secret: |\n  line one\n\n  line two\nuser: x", "secret: *\n  **** ***\n\n  **** ***\nuser: x"),
        ("secret:\n  hunter2\nuser: x", "secret:\n  *******\nuser: x"),
        ("- secret: hun\n    ter2\n  user: x", "- secret: ***\n    ****\n  user: x"),
        ('secret: "hun\n  ter2"\nuser: x', 'secret: ****\n  *****\nuser: x'),
        ("headers:\n  X-A: hunter2\n  X-B: ${KEY}\nurl: x", "headers:\n  **** *******\n  X-B: ${KEY}\nurl: x"),
        ("token:\nuser: x", "token:\nuser: x"),
    ],
)  # fmt: skip
def test_a_secret_may_go_on_below_its_key(text: str, shown: str) -> None:
    """What is indented more than a secret key belongs to it."""
    assert masked_lines(text) == shown.splitlines()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:pw@host/", "http://user:**@host/"),
        ("http://:pw@host", "http://:**@host"),
        ("http://u:p@ss@host", "http://u:****@host"),
        ("http://u:p/s'\"?#s@host/x", "http://u:********@host/x"),
        ("http://u:12345/6@host", "http://u:12345/6@host"),
        ("db://u@h/x?a=b&password=pw&c=d", "db://u@h/x?a=b&password=**&c=d"),
        ("http://h/?api_key=pw#x", "http://h/?api_key=****"),
        ("postgres://u:pw@h/x", "postgres://u:**@h/x"),
        ("postgres://u:p@w@h/x", "postgres://u:*******"),
        ("postgresql+asyncpg://u:p/w", "postgresql+asyncpg://u:***"),
        ("postgres://h:5432/x", "postgres://h:5432/x"),
        ("http://h/?token=", "http://h/?token="),
        ("http://host:80/a@b", "http://host:80/a@b"),
        ("http://host/", "http://host/"),
    ],
)
def test_passwords_of_urls(text: str, shown: str) -> None:
    """The user stays, the password goes; a port is no password."""
    assert mask_urls(text) == shown


_plain = st.text("abcdefgh0123456789!?$%&/()", min_size=6, max_size=40)


@LAW
@given(
    _plain,
    st.sampled_from(
        ["secret: {}", "- token: {}", "{{a: b, secret: '{}', c: d}}", 'x: {{token: "{}"}}', "password:\n  {}"]
    ),
)
def test_no_part_of_a_secret_is_left(secret: str, form: str) -> None:
    """In every usual way of writing it down, and with every line as long as it was."""
    text = form.format(secret)
    shown = masked_lines(text)
    assert secret not in "\n".join(shown)
    assert [len(line) for line in shown] == [len(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    "text",
    [
        "a" * 10**6,
        "a:" * 10**6,
        "secret: " * 10**5,
        "{" + "secret: x, " * 10**5,
        "://a:" * 10**5,
        "postgres://u:a@" * 10**5,
        "postgres://u:?key=" * 10**5,
        "{" * 10**6,
        '{secret: "' + "\\" * 10**6,
        "- " * 10**6,
        " " * 10**6 + "x",
        "'" * 10**6,
    ],
)
def test_no_line_is_slow(text: str) -> None:
    """A megabyte of anything is masked; nothing here backtracks over it."""
    assert len(masked_lines(text)[0]) == len(text)

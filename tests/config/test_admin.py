"""`admin` in the settings: operators that can be told apart, with tokens that cannot be guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.roles import Role
from tests.config.samples import BASE, load, refused

ONE, OTHER = "what only one operator knows", "what another operator knows"


def _admin(text: str) -> str:
    return f"admin: {text}\n{BASE}"


def test_operators_have_names_roles_and_tokens(tmp_path: Path) -> None:
    """`token` is that of an owner named `admin`, who is one of them."""
    text = f"{{token: {ONE}, operators: [{{name: ana, role: viewer, token: {OTHER}}}]}}"
    admin = load(tmp_path, _admin(text)).values.admin
    assert [(operator.name, operator.role) for operator in admin.everybody] == [
        ("admin", Role.OWNER),
        ("ana", Role.VIEWER),
    ]
    assert (admin.who_may(Role.VIEWER), admin.who_may(Role.OPERATOR)) == (["admin", "ana"], ["admin"])


def test_without_a_token_there_is_nobody(tmp_path: Path) -> None:
    """And with operators alone nobody is named `admin`."""
    assert load(tmp_path, BASE).values.admin.everybody == ()
    text = f"{{operators: [{{name: ana, role: owner, token: {OTHER}}}]}}"
    assert [operator.name for operator in load(tmp_path, _admin(text)).values.admin.everybody] == ["ana"]


@pytest.mark.parametrize(
    ("token", "weakness"),
    [
        ("hunter2", "shorter than 24 characters"),
        ("twenty-three characters", "shorter than 24 characters"),
        ("a" * 64, "fewer than 8 different characters"),
        ("0123456" * 9, "fewer than 8 different characters"),
        ("correct horse" * 2, "a short text over and over"),
        ("battery staple " * 3, "a short text over and over"),
        ("abcdefghijklmnopqrstuvwxyz", "follow each other as in the alphabet"),
        ("zyxwvutsrqponmlkjihgfedcba", "follow each other as in the alphabet"),
        ("0123456789abcdefghijklmnop", "follow each other as in the alphabet"),
    ],
)
def test_tokens_that_can_be_guessed_are_refused(tmp_path: Path, token: str, weakness: str) -> None:
    """Of the owner and of operators alike; with how to make a good one, and without showing the bad one."""
    for text in (
        f'{{token: "{token}"}}',
        f'{{operators: [{{name: ana, role: viewer, token: "{token}"}}]}}',
    ):
        told = str(refused(tmp_path, _admin(text)))
        assert weakness in told
        assert "openssl rand -hex 32" in told
        assert token not in told


def test_two_operators_with_one_token_are_refused(tmp_path: Path) -> None:
    """Nobody could tell who did it. Both are named, the token is not shown."""
    for text in (
        f"{{token: {ONE}, operators: [{{name: ana, role: viewer, token: {ONE}}}]}}",
        f"{{operators: [{{name: admins, role: viewer, token: {ONE}}}, {{name: ana, role: owner, token: {ONE}}}]}}",
    ):
        told = str(refused(tmp_path, _admin(text)))
        assert "'ana' have the same token" in told
        assert "'admin" in told
        assert ONE not in told


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("admin", "no operator can be named 'admin'"),
        ("operator", "no operator can be named 'operator'"),
        ("farebox", "no operator can be named 'farebox'"),
        ("signal", "no operator can be named 'signal'"),
        ("Ana", "pattern"),
        ("ana ben", "pattern"),
        ("bea", "2 operators are named 'bea'"),
    ],
)
def test_names_are_of_one_operator(tmp_path: Path, name: str, sentence: str) -> None:
    """The audit log has to tell operators apart, and from processes and commands."""
    text = f"[{{name: bea, role: viewer, token: {ONE}}}, {{name: {name}, role: viewer, token: {OTHER}}}]"
    assert sentence in str(refused(tmp_path, _admin(f"{{operators: {text}}}")))


@pytest.mark.parametrize("host", ["http://farebox", "farebox.internal:8081", "*", "*.internal", "FAREBOX", ""])
def test_hosts_are_plain_names(tmp_path: Path, host: str) -> None:
    """Without scheme, port or pattern: each name is listed."""
    refused(tmp_path, _admin(f'{{hosts: ["{host}"]}}'))

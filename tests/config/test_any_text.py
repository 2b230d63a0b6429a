"""Whatever a file holds, reading it ends with its content or with InvalidDocument, never with anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.documents import parse_document
from config.findings import InvalidDocument
from config.settings import FareboxSettings, load_settings
from config.yaml_source import parse_yaml, read_yaml
from policies.document import PolicyFile
from policies.rulebook import compile_rulebook
from tests.config.samples import BASE
from tests.policies.samples import LADDER

ENVIRONMENT = {"A": "an environment variable", "B": ""}

SETTINGS = (
    BASE
    + """\
    units: {seconds: {json: /s, min: 1, max: 60}, pixels: {product: [{json: /w, max: 9}, {const: 2, max: 2}]}}
    usage: {tokens: {json: /usage/total_tokens}}
    job: {id: {json: /id}, deadline: 10m}
  - {id: jobs, match: 'GET /jobs/{job}', upstream: lumiku, access: account,
     poll: {of: [generate], id: {path: job}, status: {json: /status}, completed: done, failed: [failed]}}
listen: 127.0.0.1:8080
admin: {token: "${A} of operators"}
accounts: {welcome_credits: 12.5}
limits: &limits {peek: 1MiB, body_timeout: 30s}
"""
)
POLICY = """\
version: 1
tiers: [free, basic, pro, enterprise]
payg: {tier: free}
rules:
  - {id: ladder, allow: use, who: {tier: at-least-model}}
  - id: beta
    deny: use
    who: {not: {tag: [tester, staff], credential: jwt}, tier: {at_least: basic}}
    model: {beta: true, provider: edenai}
    because: "Not yet"
  - {id: key, allow: use, who: {credential: api_key}, app: video, model: ["video:*", poster:inpaint]}
"""

ANY = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])

_PIECES = [
    "${A}",
    "${",
    "{",
    "[",
    "]",
    "}",
    ":",
    ": ",
    "- ",
    "\n",
    "\n  ",
    "\t",
    "'",
    '"',
    "#",
    "&a ",
    "*a",
    "|",
    ">",
    "!!",
    "? ",
]
_PIECES += [
    "~",
    "null",
    "yes",
    "012",
    "1e9",
    ".inf",
    "<<: ",
    "---\n",
    "%",
    "\\",
    "\x00",
    "\ud800",
    "\u2028",
    "é",
    "9" * 50,
    "-1",
]


@st.composite
def _mutated(draw: st.DrawFn, text: str) -> str:
    """The text after a few edits such as tired people make: something lost, put in, or repeated elsewhere."""
    for _ in range(draw(st.integers(1, 6))):
        start, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        end = min(end, start + draw(st.integers(0, 30)))
        kind = draw(st.sampled_from(["lose", "put", "put", "repeat"]))
        if kind == "lose":
            text = text[:start] + text[end:]
        elif kind == "put":
            text = text[:start] + draw(st.sampled_from(_PIECES)) + text[start:]
        else:
            place = draw(st.integers(0, len(text)))
            text = text[:place] + text[start:end] + text[place:]
    return text


_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=10),
    st.dates(),
    st.sampled_from(
        ["5s", "9" * 30 + "s", "POST /a", "GET /{a}/**", "/a", "http://a", "free", "video:*", "at-least-model", "${A}"]
    ),
)
_keys = st.sampled_from(
    sorted(
        {
            *FareboxSettings.model_fields,
            "id",
            "match",
            "json",
            "path",
            "max",
            "of",
            "job",
            "units",
            "model",
            "not",
            "tier",
            "who",
        }
    )
)
_data = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.one_of(_keys, st.text(max_size=5)), inner, max_size=4)
    ),
    max_leaves=12,
)


@st.composite
def _replaced(draw: st.DrawFn, text: str) -> str:
    """The document of the text with one of its values, at any depth, replaced by any other."""
    document = yaml.safe_load(text)
    place: Any = document
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or draw(st.booleans()):
            break
        place = place[key]
    place[key] = draw(_data)
    return yaml.safe_dump(document)


def _read_settings(folder: Path, text: str) -> None:
    path = folder / "farebox.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load_settings(path, ENVIRONMENT)
    except InvalidDocument as error:
        _can_be_told(error)


def _can_be_told(error: InvalidDocument) -> None:
    """There is something to tell, each with a place, and it can be written to a log."""
    assert error.findings
    assert all(found.line >= 1 and found.column >= 1 and found.message for found in error.findings)
    str(error).encode("utf-8", "backslashreplace")


def _read_policy(text: str) -> None:
    try:
        document, source = parse_document("main.yaml", text, PolicyFile)
    except InvalidDocument as error:
        _can_be_told(error)
        return
    compiled = compile_rulebook([("main.yaml", document)], LADDER)
    for problem in compiled if isinstance(compiled, list) else ():
        assert source.finding(problem.path, problem.code, problem.message).line >= 1


@ANY
@given(_mutated(SETTINGS))
def test_mutilated_settings(tmp_path: Path, text: str) -> None:
    """A valid farebox.yaml after some slips of the hand."""
    _read_settings(tmp_path, text)


@ANY
@given(_replaced(SETTINGS))
def test_settings_with_a_strange_value(tmp_path: Path, text: str) -> None:
    """A valid farebox.yaml with any value in the place of any other."""
    _read_settings(tmp_path, text)


@ANY
@given(st.one_of(_mutated(POLICY), _replaced(POLICY)))
def test_mutilated_policies(text: str) -> None:
    """A valid policy likewise; what can be read is compiled, and every problem has a place."""
    _read_policy(text)


@ANY
@given(_data.map(yaml.safe_dump))
def test_any_yaml(tmp_path: Path, text: str) -> None:
    """Whatever YAML can say is settings, a policy, or InvalidDocument."""
    _read_settings(tmp_path, text)
    _read_policy(text)


@ANY
@given(st.text())
def test_any_text(text: str) -> None:
    """Most texts are no YAML; all are read to an end."""
    try:
        parse_yaml("f.yaml", text, ENVIRONMENT)
    except InvalidDocument:
        return


@ANY
@given(st.binary())
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    """Most bytes are no text."""
    path = tmp_path / "f.yaml"
    path.write_bytes(content)
    try:
        read_yaml(path)
    except InvalidDocument:
        return


def test_the_samples_are_valid(tmp_path: Path) -> None:
    """What is mutilated above was whole before."""
    (tmp_path / "farebox.yaml").write_text(SETTINGS)
    assert len(load_settings(tmp_path / "farebox.yaml", ENVIRONMENT).values.routes) == 2
    assert len(parse_document("main.yaml", POLICY, PolicyFile)[0].rules) == 3


@pytest.mark.parametrize("text", [SETTINGS, POLICY])
def test_every_beginning_of_a_file(tmp_path: Path, text: str) -> None:
    """A file caught while it is being written, at any character."""
    for length in range(0, len(text), 7):
        _read_settings(tmp_path, text[:length])
        _read_policy(text[:length])

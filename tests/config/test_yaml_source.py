"""Reading YAML: exact, located, without surprises, and with an end to everything."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest

from config.findings import Finding, InvalidDocument
from config.yaml_source import MAX_BYTES, MAX_DEPTH, MAX_NODES, YamlSource, parse_yaml, read_yaml


def _only(text: str, environment: dict[str, str] | None = None) -> Finding:
    """The one thing that is wrong with a text, whether it can be read on or not."""
    try:
        findings = tuple(parse_yaml("f.yaml", text, environment).findings)
    except InvalidDocument as error:
        findings = error.findings
    assert len(findings) == 1, findings
    return findings[0]


def _data(text: str, environment: dict[str, str] | None = None) -> object:
    source = parse_yaml("f.yaml", text, environment)
    assert source.findings == []
    return source.data


def _unread(path: Path) -> str:
    with pytest.raises(InvalidDocument) as caught:
        read_yaml(path)
    return caught.value.findings[0].code


# Values.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a", "a"),
        ("'no'", "no"),
        ('"012"', "012"),
        ("1e3", "1e3"),
        ("0o17", "0o17"),
        ("2025-01-15", "2025-01-15"),
        ("2025-01-15 10:00:00", "2025-01-15 10:00:00"),
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("720p", "720p"),
        ("0", 0),
        ("-7", -7),
        ("+7", 7),
        ("9007199254740993", 9007199254740993),
        ("0.1", Decimal("0.1")),
        (".5", Decimal("0.5")),
        ("-.5", "-.5"),
        ("1.", Decimal(1)),
        ("0.000001", Decimal("0.000001")),
        ("0.1000000000000000055511151231", Decimal("0.1000000000000000055511151231")),
        ("1.5e+3", Decimal(1500)),
        ("yes", True),
        ("Off", False),
        ("~", None),
        ("", None),
        ("[]", []),
        ("{}", {}),
    ],
)
def test_values_are_what_they_look_like(text: str, value: object) -> None:
    """Numbers are exact, dates stay texts, and only YAML's own words are booleans."""
    read = _data(f"a: {text}")
    assert read == {"a": value}
    assert isinstance(read, dict)
    assert type(read["a"]) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        *("012", "0x1F", "0b11", "1_000", "12:30:45", "1:30", "190:20:30.15", "1_0.5", "1.5e+300"),
        *(".inf", "-.INF", ".nan", "=", "!!int x", "!!bool maybe", "!!null x", "!!float x"),
    ],
)
def test_surprising_values_are_errors(text: str) -> None:
    """What YAML 1.1 reads as another number than it looks like, as infinity, or as a type of its own."""
    finding = _only(f"a: {text}")
    assert (finding.line, finding.column, finding.code) == (1, 4, "ambiguous-value")


@pytest.mark.parametrize("text", ["1" * 5_000, "-" + "1" * 32, "0." + "1" * 31, "1" * 31 + ".5"])
def test_endless_numbers_are_errors(text: str) -> None:
    """Python refuses to read integers of thousands of digits, and nobody means them; they are not repeated either."""
    finding = _only(f"a: {text}")
    assert finding.code == "ambiguous-value"
    assert len(finding.message) < 100 or len(text) <= 40


@pytest.mark.parametrize(
    "text",
    [
        *("!!python/object/apply:os.system [ls]", "!!python/name:os.system x", "!!python/name:os.system"),
        *("!!set {a, b}", "!!omap [a: 1]", "!mine {}", "!mine x", "!!binary aGk="),
    ],
)
def test_tags_are_errors(text: str) -> None:
    """A tag asks for another type, maybe to run code; ignoring it would be half an answer."""
    assert _only(f"a: {text}").code == "tag"


@pytest.mark.parametrize("text", ["!python/name:os a: 1", "!- : 1", "{!x a: 1}", "? !!binary YQ==\n: 1"])
def test_tags_of_keys_are_errors(text: str) -> None:
    """As those of values."""
    assert _only(text).code == "tag"


# Keys.


def test_a_key_given_twice_is_an_error() -> None:
    """PyYAML lets the last one win, silently: `free: 10` and a thousand lines later `free: 9999`."""
    finding = _only("free: 10\nbasic: 50\nfree: 9999\n")
    assert str(finding) == (
        "f.yaml:3:1: duplicate-key: 'free' is given on line 1 already; keep one of them\n    3 | free: 9999\n      | ^"
    )
    assert _only("{a: {b: 1, 'b': 2}}").code == "duplicate-key"


def test_keys_are_texts() -> None:
    """`no: x` and `1: x` have the keys that they seem to have."""
    assert _data("no: a\n1: b\n2.50: c\n~: d\n") == {"no": "a", "1": "b", "2.50": "c", "~": "d"}


@pytest.mark.parametrize("text", ["? [a, b]\n: c", "? {a: b}\n: c", "a: &x {b: c}\nd: {<<: *x}", '"\\0": a'])
def test_strange_keys_are_errors(text: str) -> None:
    """Lists, mappings and merges as keys mean nothing in our files."""
    assert _only(text).code == "key"


# Documents.


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a: [b", 1, 6),
        ("a:\n\tb: c", 2, 1),
        ('a: "b\nc: d', 2, 5),
        ("a: b: c", 1, 5),
        ("a: {b: /c/{d}}", 1, 11),
        ("a: *x", 1, 4),
        ("a: 1\n---\nb: 2", 2, 1),
        ("a:\n - b\n c: d", 3, 2),
        ("a: @b", 1, 4),
        ("%YAML 9.9\n---\na: 1", 1, 1),
        ("a: x\n  \x00", 2, 3),
        ("ä: \x1b", 1, 4),
        ('a: "\\UFFFFFFFF"', 1, 7),
        ("%YAML 1." + "1" * 5_000 + "\n--- a", 1, 9),
    ],
)
def test_what_is_no_yaml_is_said_where_it_stands(text: str, line: int, column: int) -> None:
    """Open brackets and quotes, tabs, several documents, control characters, impossible escapes."""
    finding = _only(text)
    assert (finding.code, finding.line, finding.column) == ("yaml-syntax", line, column)


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment", "\ufeff"])
def test_an_empty_file_is_an_error(text: str) -> None:
    """A truncated file must not become an empty policy."""
    assert _only(text).code == "empty"


@pytest.mark.parametrize("text", ['a: "\\0"', 'a: "\\uD800"', "a: ${BROKEN}"])
def test_a_text_is_text(text: str) -> None:
    """NUL and half characters pass no file system, no database and no log."""
    assert _only(text, {"BROKEN": "\udcff"}).code == "not-text"


def test_an_alias_is_its_anchor() -> None:
    """Anchors repeat a value, and findings point to where it was written."""
    source = parse_yaml("f.yaml", "a: &x [1, 2]\nb: *x\n")
    assert source.data == {"a": [1, 2], "b": [1, 2]}
    assert source.positions["b", 1] == (1, 11)


def test_nested_aliases_cannot_blow_up() -> None:
    """A billion laughs end after MAX_NODES of them."""
    laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    finding = _only(laughs)
    assert finding.code == "too-many-values"
    assert str(MAX_NODES) in finding.message


@pytest.mark.parametrize(
    "text",
    [
        "&a [*a]",
        "a: &a {b: *a}",
        "[" * 5_000,
        "{a: " * 5_000,
        "- " * 5_000,
        "\n".join(" " * n + "a:" for n in range(1_500)),
    ],
)
def test_depth_has_an_end(text: str) -> None:
    """Aliases that lead back to themselves, and a thousand brackets, are findings and no RecursionError."""
    assert _only(text).code == "too-deep"


def test_sensible_depth_is_fine() -> None:
    """The bound is far from what any file needs, and is where it says."""
    _data("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert _only("[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2)).code == "too-deep"


# Environment.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "one"),
        ('"${A}"', "one"),
        ("'${A}-${B}'", "one-two words"),
        ("x${A}y", "xoney"),
        ("{b: ${A}, c: [${A}, ${B}]}", {"b": "one", "c": ["one", "two words"]}),
        ("|\n  ${A}\n  ${B}\n", "one\ntwo words\n"),
        ("${EMPTY}", ""),
        ("${NESTED}", "${A}"),
        ("${YAML}", "{a: [b"),
        ("${NUMBER}", "12"),
        ("${MISSING:-fallback}", "fallback"),
        ("${MISSING:-}", ""),
        ("${A:-fallback}", "one"),
        ("{b: ${MISSING:-x}}", {"b": "x"}),
        ("$A", "$A"),
        ("$$", "$$"),
    ],
)
def test_references_are_replaced(text: str, value: object) -> None:
    """In plain and quoted texts, also inside braces, once, and always by a text: never by more YAML."""
    environment = {"A": "one", "B": "two words", "EMPTY": "", "NESTED": "${A}", "YAML": "{a: [b", "NUMBER": "12"}
    assert _data(f"a: {text}", environment) == {"a": value}


def test_a_missing_variable_is_an_error_at_its_place() -> None:
    """Not an empty text: an empty secret would be a secret that everybody knows."""
    finding = _only("a: 1\nb: {c: ${NO_SUCH}, d: x}", {})
    assert (finding.line, finding.column, finding.code) == (2, 8, "missing-variable")
    assert finding.message == "the environment variable NO_SUCH is not set"


@pytest.mark.parametrize("text", ["'${}'", "'${1A}'", "'${A-B}'", "'${A:?x}'", "'${A_${B}}'", "'${A'", "'${ A }'"])
def test_other_references_are_errors(text: str) -> None:
    """A reference that is not understood would else be taken for the secret itself."""
    assert _only(f"a: {text}", {"A": "x", "B": "A"}).code == "bad-reference"


def test_keys_are_not_replaced() -> None:
    """A name from outside is a value and never a key."""
    assert _data("${A}: ${A}", {"A": "x"}) == {"${A}": "x"}


def test_without_environment_nothing_is_replaced() -> None:
    """Policies do not depend on who reads them."""
    assert _data("a: '${A}'") == {"a": "${A}"}


# Positions.


def test_every_value_and_key_knows_its_place() -> None:
    """Lines and columns count from 1, in characters and not in bytes."""
    source = parse_yaml("f.yaml", "ä: {b: [1, zwei]}\nc:\n  - d: e\n")
    assert source.positions[()] == (1, 1)
    assert source.positions["ä", "b", 1] == (1, 12)
    assert source.key_positions["c", 0, "d"] == (3, 5)
    assert source.positions["c", 0, "d"] == (3, 8)


def test_a_finding_beyond_the_data_is_placed_nearby() -> None:
    """The path of a missing value is cut to what there is."""
    source = parse_yaml("f.yaml", "a:\n  b: 1\n")
    assert (source.finding(("a", "c", 0), "x", "y").line, source.finding(("z",), "x", "y").line) == (2, 1)


def test_the_representation_has_no_values() -> None:
    """A source holds the secrets of its file; what prints it must not show them."""
    assert "hunter2" not in repr(parse_yaml("f.yaml", "secret: hunter2"))
    assert isinstance(parse_yaml("f.yaml", "a: 1"), YamlSource)


# Files.


def test_a_missing_file(tmp_path: Path) -> None:
    """Said by its name."""
    assert _unread(tmp_path / "no.yaml") == "missing-file"


@pytest.mark.parametrize("content", [b"a: \xff\n", "a: b".encode("utf-16"), b"a: \xed\xa0\x80", b"\x80"])
def test_a_file_that_is_not_utf_8(tmp_path: Path, content: bytes) -> None:
    """Another encoding is not guessed."""
    path = tmp_path / "f.yaml"
    path.write_bytes(content)
    assert _unread(path) == "unreadable"


def test_the_first_byte_that_is_not_utf_8_is_located(tmp_path: Path) -> None:
    """Columns count characters, also behind a non-ASCII one."""
    path = tmp_path / "f.yaml"
    path.write_bytes("a: 1\nä: ".encode() + b"\xff")
    with pytest.raises(InvalidDocument) as caught:
        read_yaml(path)
    assert (caught.value.findings[0].line, caught.value.findings[0].column) == (2, 4)


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    """Some editors write one; columns are as if it were not there."""
    path = tmp_path / "f.yaml"
    path.write_bytes("\ufeffa: b\r\nc: d\r\n".encode())
    source = read_yaml(path)
    assert source.data == {"a": "b", "c": "d"}
    assert source.positions["a",] == (1, 4)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """Neither is something inside a file."""
    (tmp_path / "file").write_text("a: b")
    assert _unread(tmp_path) == "unreadable"
    assert _unread(tmp_path / "file" / "f.yaml") == "unreadable"


def test_a_link_to_itself_is_no_file(tmp_path: Path) -> None:
    """An endless chain of links ends as a finding."""
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    assert _unread(tmp_path / "loop.yaml") == "unreadable"


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """Permissions are a finding as well."""
    path = tmp_path / "f.yaml"
    path.write_text("a: b")
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        # Root may read everything; nobody may not.
        os.seteuid(65534)
    try:
        assert _unread(path) == "unreadable"
    finally:
        os.seteuid(user)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    """Not even when the file system does not know how large it is."""
    path = tmp_path / "f.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    assert _unread(path) == "too-large"
    assert _unread(Path("/dev/zero")) == "too-large"


def test_a_file_is_named_as_a_person_would_type_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative below the working directory, absolute elsewhere."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "f.yaml").write_text("a: b")
    monkeypatch.chdir(tmp_path)
    assert read_yaml(tmp_path / "here" / "f.yaml").file == "here/f.yaml"
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "g.yaml").write_text("a: b")
    assert read_yaml(Path("../g.yaml")).file == "../g.yaml"

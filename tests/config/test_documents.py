"""Files checked against a model: every kind of mistake in its golden words, at its line and column."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Discriminator, Field, SecretStr, StringConstraints, Tag, field_validator

from config.documents import parse_document, read_document
from config.findings import InvalidDocument


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Wheel(Strict):
    size: Annotated[int, Field(ge=1, le=30)] = 1
    spokes: list[int] = []


class Ball(Strict):
    ball: bool


class Toy(Strict):
    name: Annotated[str, StringConstraints(min_length=2, pattern="^[a-z]+$")]
    kind: Literal["car", "doll"] = "car"
    colour: Annotated[Colour, Field(strict=False)] = Colour.RED
    price: Decimal = Decimal(0)
    wheels: dict[Annotated[str, StringConstraints(pattern="^[a-z]+$")], Wheel] = {}
    part: Annotated[
        Annotated[Ball, Tag("Ball")] | Annotated[Wheel, Tag("Wheel")],
        Discriminator(lambda value: "Ball" if "ball" in value else "Wheel"),
    ] = Wheel()
    either: int | bool | None = None
    secret: SecretStr = SecretStr("")
    under_: str = Field(default="", alias="under")

    @field_validator("name")
    @classmethod
    def _polite(cls, name: str) -> str:
        if name == "damn":
            raise ValueError("expected a polite name")
        return name


class Box(Strict):
    toys: list[Toy]


def _refused(text: str) -> str:
    with pytest.raises(InvalidDocument) as caught:
        parse_document("box.yaml", text, Box)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (
            "toys:\n  - {name: bear, colour: green}",
            """\
box.yaml:2:26: invalid-value: found 'green'; expected 'red' or 'blue'
    2 |   - {name: bear, colour: green}
      |                          ^""",
        ),
        (
            "toys:\n  - {name: bear, kind: dol}",
            """\
box.yaml:2:24: invalid-value: found 'dol'; expected 'car' or 'doll'
    2 |   - {name: bear, kind: dol}
      |                        ^""",
        ),
        (
            "toys:\n  - name: no",
            """\
box.yaml:2:11: invalid-value: found the boolean false (YAML reads yes, no, on and off so; quote it to mean the word); \
expected a text
    2 |   - name: no
      |           ^""",
        ),
        (
            "toys:\n  - name: 12",
            """\
box.yaml:2:11: invalid-value: found 12; expected a text
    2 |   - name: 12
      |           ^""",
        ),
        (
            "toys:\n  - name:",
            """\
box.yaml:2:10: invalid-value: found nothing; expected a text
    2 |   - name:
      |          ^""",
        ),
        (
            "toys:\n  - name: damn",
            """\
box.yaml:2:11: invalid-value: found 'damn'; expected a polite name
    2 |   - name: damn
      |           ^""",
        ),
        (
            "toys:\n  - {name: bear, price: '5'}",
            """\
box.yaml:2:25: invalid-value: found '5'; expected a number
    2 |   - {name: bear, price: '5'}
      |                         ^""",
        ),
        (
            "toys:\n  - {name: bear, wheels: [1]}",
            """\
box.yaml:2:26: invalid-value: found a list; expected a mapping of keys to values
    2 |   - {name: bear, wheels: [1]}
      |                          ^""",
        ),
        (
            "toys: {name: bear}",
            """\
box.yaml:1:7: invalid-value: found a mapping; expected a list
    1 | toys: {name: bear}
      |       ^""",
        ),
        (
            "toys: [5]",
            """\
box.yaml:1:8: invalid-value: found 5; expected a mapping of keys to values
    1 | toys: [5]
      |        ^""",
        ),
        (
            "toys:\n  - {name: bear, wheels: {left: {size: 31}}}",
            """\
box.yaml:2:40: invalid-value: found 31; input should be less than or equal to 30
    2 |   - {name: bear, wheels: {left: {size: 31}}}
      |                                        ^""",
        ),
        (
            "toys:\n  - {name: bear, wheels: {left: {size: 2.5}}}",
            """\
box.yaml:2:40: invalid-value: found 2.5; expected a whole number
    2 |   - {name: bear, wheels: {left: {size: 2.5}}}
      |                                        ^""",
        ),
        (
            "toys:\n  - {name: bear, wheels: {LEFT: {size: 3}}}",
            """\
box.yaml:2:27: invalid-key: found the key 'LEFT'; string should match pattern '^[a-z]+$'
    2 |   - {name: bear, wheels: {LEFT: {size: 3}}}
      |                           ^""",
        ),
        (
            "toys:\n  - {name: bear, either: x}",
            """\
box.yaml:2:26: invalid-value: found 'x'; expected a whole number or expected true or false
    2 |   - {name: bear, either: x}
      |                          ^""",
        ),
        (
            "toys:\n  - {kind: car}",
            """\
box.yaml:2:5: missing-key: the key 'name' is missing
    2 |   - {kind: car}
      |     ^""",
        ),
        (
            "toys:\n  - {nmae: bear, name: bear}",
            """\
box.yaml:2:6: unknown-key: unknown key 'nmae'; did you mean 'name'?
    2 |   - {nmae: bear, name: bear}
      |      ^""",
        ),
        (
            "toys:\n  - name: bear\n    wheels: {left: {siez: 3}}",
            """\
box.yaml:3:21: unknown-key: unknown key 'siez'; did you mean 'size'?
    3 |     wheels: {left: {siez: 3}}
      |                     ^""",
        ),
        (
            "toys:\n  - {name: bear, part: {ball: true, zpokes: 3}}",
            """\
box.yaml:2:37: unknown-key: unknown key 'zpokes'; known are ball
    2 |   - {name: bear, part: {ball: true, zpokes: 3}}
      |                                     ^""",
        ),
        (
            "toys:\n  - {name: bear, part: {zpokes: []}}",
            """\
box.yaml:2:25: unknown-key: unknown key 'zpokes'; did you mean 'spokes'?
    2 |   - {name: bear, part: {zpokes: []}}
      |                         ^""",
        ),
        (
            "toys:\n  - {name: bear, under_: x}",
            """\
box.yaml:2:18: unknown-key: unknown key 'under_'; did you mean 'under'?
    2 |   - {name: bear, under_: x}
      |                  ^""",
        ),
        (
            "toys:\n  - {name: bear, secret: 12345678}",
            """\
box.yaml:2:26: invalid-value: expected a text
    2 |   - {name: bear, secret: ********}
      |                          ^""",
        ),
        (
            "- a list",
            """\
box.yaml:1:1: invalid-value: found a list; expected a mapping of keys to values
    1 | - a list
      | ^""",
        ),
        (
            "toys: []\n? [a]\n: b",
            """\
box.yaml:2:3: key: a key is a plain text; lists, mappings and << have no meaning here
    2 | ? [a]
      |   ^""",
        ),
        (
            "toys:\n  - {name: bear, price: 012}",
            """\
box.yaml:2:25: ambiguous-value: YAML reads 012 as a special int; write it plainly or in quotes
    2 |   - {name: bear, price: 012}
      |                         ^""",
        ),
        (
            "toys: [",
            """\
box.yaml:1:8: yaml-syntax: while parsing a flow node expected the node content, but found '<stream end>'
    1 | toys: [
      |        ^""",
        ),
        ("", "box.yaml:1:1: empty: the file is empty"),
    ],
)
def test_the_words_for_a_mistake(text: str, finding: str) -> None:
    """What was found, what was expected, the line, and a caret below the place: one finding for one mistake."""
    assert _refused(text) == finding


def test_everything_is_said_at_once_in_the_order_of_the_file() -> None:
    """Mistakes of YAML and of the model together; who mends a file does it once."""
    text = "toys:\n  - {name: 5, kind: dol}\n  - {nmae: x, price: .inf}\n  - {name: aa, name: bb}\ntoy: 1\n"
    assert [line.split(": ")[:2] for line in _refused(text).splitlines() if line.startswith("box")] == [
        ["box.yaml:2:12", "invalid-value"],
        ["box.yaml:2:21", "invalid-value"],
        ["box.yaml:3:5", "missing-key"],
        ["box.yaml:3:6", "unknown-key"],
        ["box.yaml:3:22", "ambiguous-value"],
        ["box.yaml:4:16", "duplicate-key"],
        ["box.yaml:5:1", "unknown-key"],
    ]


def test_a_long_value_is_cut() -> None:
    """A message stays a line that can be read."""
    assert f"found {repr('x' * 100)[:57]}...; " in _refused(f"toys: [{{name: a, kind: {'x' * 100}}}]")


def test_a_password_in_a_url_is_not_repeated() -> None:
    """Neither in the message nor in the line."""
    refused = _refused("toys: [{name: bear, kind: 'http://user:hunter2@host'}]")
    assert "hunter2" not in refused
    assert "found 'http://user:*******@host'" in refused


def test_a_valid_document_comes_with_its_source(tmp_path: Path) -> None:
    """So that what is found later can be placed in it."""
    path = tmp_path / "box.yaml"
    path.write_text("toys:\n  - {name: bear, price: 1.10}\n")
    document, source = read_document(path, Box)
    assert document.toys[0].price == Decimal("1.10")
    assert source.finding(("toys", 0, "price"), "too-dear", "x").column == 25


def test_a_document_may_use_the_environment(tmp_path: Path) -> None:
    """Where the caller gives one."""
    path = tmp_path / "box.yaml"
    path.write_text("toys: [{name: ${NAME}}]")
    assert read_document(path, Box, {"NAME": "bear"})[0].toys[0].name == "bear"

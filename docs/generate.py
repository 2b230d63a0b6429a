"""Writes the generated pages of this folder: `make docs`. A test asserts that they are what this writes.

configuration.md comes from the pydantic models of `config` and the sentences under their fields, commands.md from the
commands themselves and the table of operator verbs, roles.md from that table, policy-language.md from the models of
`policies`.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import click
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from config import admin, extractors, jobs, proxies, quantities, retention, routes, secrets, settings, upstreams
from config.roles import Role
from proxy.cli import SECTIONS, main
from proxy.operations.operation import Operation
from proxy.operations.table import OPERATIONS

FOLDER = Path(__file__).parent

# The folder is no package: run as a program it is on the path by itself, imported by a test it is not.
sys.path.append(str(FOLDER))
import policy_reference  # noqa: E402

GENERATED = "<!-- Written by docs/generate.py: change the docstrings it reads, then run `make docs`. -->"

# Kinds of values that have a name of their own, as `configuration.intro.md` explains them.
NAMED: list[tuple[Any, str]] = [
    (quantities.Duration, "duration"),
    (quantities.Size, "size"),
    (quantities.ListenAddress, "address"),
    (retention.Months, "months"),
    (retention.ArchiveTo, "folder or `off`"),
    (extractors.JsonPointer, "pointer"),
    (extractors.InCall, "`field`, `calls` or pointer"),
    (extractors.FieldName, "name"),
    (extractors.Number, "number"),
    (proxies.Network, "network"),
    (jobs.Identifier, "id"),
    (extractors.UnitName, "unit"),
    (routes.Match, "pattern"),
    (upstreams.HeaderName, "header name"),
    (secrets.HeaderSecret, "secret"),
    (secrets.AdminToken, "secret"),
    (admin.RoleName, "`viewer`, `operator` or `owner`"),
    (admin.HostName, "host name"),
    (admin.CreditLimit, "number"),
    (secrets.Secret, "secret"),
]


@dataclass
class Section:
    """One model of the settings, and every place in the file where it stands."""

    model: type[BaseModel]
    places: list[str] = field(default_factory=list)


def sections() -> list[Section]:
    """Every model that a settings file is made of, in the order in which the file is explained."""
    found: dict[type[BaseModel], Section] = {}
    for model, place in _walk(settings.FareboxSettings, ""):
        found.setdefault(model, Section(model)).places.append(place)
    return list(found.values())


def _walk(model: type[BaseModel], place: str) -> Iterator[tuple[type[BaseModel], str]]:
    yield model, place
    hints = typing.get_type_hints(model, include_extras=True)
    for name, info in model.model_fields.items():
        key = info.alias or name
        for inner, suffix in _models_in(hints[name], f"{place}.{key}" if place else key):
            yield from _walk(inner, suffix)


def _models_in(annotation: Any, place: str) -> Iterator[tuple[type[BaseModel], str]]:
    """The models that an annotation names, each with the place where it stands then."""
    if any(annotation == kind for kind, _ in NAMED):
        return
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation is not routes.Match:
            yield annotation, place
        return
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        arguments = arguments[:1]
    elif origin is list:
        place += "[]"
    elif origin is dict:
        place, arguments = f"{place}.NAME", arguments[1:]
    for argument in arguments:
        yield from _models_in(argument, place)


def sentences(model: type[BaseModel]) -> dict[str, str]:
    """The text under each field of a model, by the field's name; also of the fields that it inherits."""
    found: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if issubclass(owner, BaseModel) and owner.__module__.startswith("config."):
            body = typing.cast(ast.ClassDef, ast.parse(inspect.getsource(owner)).body[0]).body
            for statement, following in pairwise(body):
                if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                    found |= _sentence_of(statement.target.id, following)
    return found


def _sentence_of(name: str, following: ast.stmt) -> dict[str, str]:
    if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
        return {name: " ".join(str(following.value.value).split())}
    return {}


def configuration() -> str:
    """The page configuration.md."""
    intro = (FOLDER / "configuration.intro.md").read_text("utf-8")
    complete = (FOLDER / "every-key.yaml").read_text("utf-8")
    title, _, rest = intro.partition("\n")
    pages = [title, GENERATED, rest.strip(), *(_section(section) for section in sections())]
    pages.append("## A file with every key\n\nEvery key that there is, each in a place where it may stand.")
    pages.append(f"```yaml\n{complete.strip()}\n```")
    return "\n\n".join(pages) + "\n"


def _section(section: Section) -> str:
    parts = [f"## {_title(section)}"]
    if len(section.places) > 1:
        parts.append("Also " + ", ".join(f"`{place}`" for place in section.places[1:]) + ".")
    own_words = inspect.cleandoc(section.model.__doc__ or "")
    if own_words and "__doc__" in vars(section.model) and section.model is not settings.FareboxSettings:
        parts.append(own_words)
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    hints, meant = typing.get_type_hints(section.model, include_extras=True), sentences(section.model)
    for name, info in section.model.model_fields.items():
        cells = (f"`{info.alias or name}`", kind(hints[name]), _default(info, hints[name]), meant.get(name, ""))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n\n".join([*parts, "\n".join(rows)])


def _title(section: Section) -> str:
    place = section.places[0]
    if not place:
        return "The file"
    first = next(other for other in sections() if other.places[0] == place)
    # Two kinds of mapping may stand in one place; the second is told by its first key.
    return f"`{place}`" + ("" if first.model is section.model else f" with `{next(iter(section.model.model_fields))}`")


def kind(annotation: Any) -> str:
    """What may be written, in words."""
    for known, name in NAMED:
        if annotation == known:
            return name
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _annotated(arguments[0], arguments[1:])
    if origin in (typing.Union, types.UnionType):
        kinds = [kind(argument) for argument in arguments if argument is not type(None)]
        return _alternatives(list(dict.fromkeys(kinds)))
    if origin is typing.Literal:
        return _alternatives([f"`{argument}`" for argument in arguments])
    if origin is list:
        return f"list of {kind(arguments[0])}"
    if origin is dict:
        return f"{kind(arguments[0])}: {kind(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[mapping](#{_anchor(annotation)})"
    return {bool: "`true` or `false`", int: "whole number", Decimal: "number"}.get(annotation, "text")


def _alternatives(kinds: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(kinds[:-1]), kinds[-1])))


def _annotated(annotation: Any, metadata: tuple[Any, ...]) -> str:
    text = kind(annotation)
    if text.startswith("list of ") and any(isinstance(part, BeforeValidator) for part in metadata):
        text = f"{text.removeprefix('list of ')}, or a list"
    bounds = [part for info in metadata if isinstance(info, FieldInfo) for part in info.metadata]
    least = next((bound.ge for bound in bounds if hasattr(bound, "ge")), None)
    most = next((bound.le for bound in bounds if hasattr(bound, "le")), None)
    return f"{text} from {least} to {most}" if least is not None and most is not None else text


def _anchor(model: type[BaseModel]) -> str:
    """The anchor that a renderer makes of the section's heading."""
    title = next(_title(section) for section in sections() if section.model is model)
    return re.sub(r"[^a-z0-9_-]", "", title.lower().replace(" ", "-"))


def _default(info: FieldInfo, annotation: Any) -> str:
    value = info.default
    if info.is_required() or value is PydanticUndefined:
        return "**required**"
    if value is None or isinstance(value, BaseModel) or value == {}:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, timedelta):
        return f"`{_duration(value)}`"
    if annotation == quantities.Size:
        return f"`{value // 2**20}MiB`" if value % 2**20 == 0 else f"`{value // 2**10}KiB`"
    return f"`{value}`"


def _duration(value: timedelta) -> str:
    milliseconds = value // timedelta(milliseconds=1)
    units = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))
    unit, size = next((unit, size) for unit, size in units if milliseconds % size == 0)
    return f"{milliseconds // size}{unit}"


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, in the order of the overview."""
    with click.Context(main) as context:
        for name in (name for section in SECTIONS.values() for name in section):
            command = main.get_command(context, name)
            assert command is not None, f"{name} is in the table of commands"
            yield name, command
            if isinstance(command, click.Group):
                for inner in command.list_commands(context):
                    verb = command.get_command(context, inner)
                    assert verb is not None, f"{name} lists {inner}"
                    yield f"{name} {inner}", verb


def reference() -> str:
    """The page commands.md."""
    intro = (FOLDER / "commands.intro.md").read_text("utf-8")
    title, _, rest = intro.partition("\n")
    pages = [title, GENERATED, rest.strip()]
    return "\n\n".join([*pages, *(_command(name, command) for name, command in commands())]) + "\n"


def _command(name: str, command: click.Command) -> str:
    level = "##" if " " not in name else "###"
    parts = [f"{level} farebox {name}", inspect.cleandoc(command.help or "")]
    rows = [f"| `{_written(parameter)}` | {_said(parameter)} |" for parameter in _parameters(command)]
    if rows:
        parts.append("\n".join(["| | |", "|---|---|", *rows]))
    examples = re.findall(r"^  (farebox .*)$", command.epilog or "", re.MULTILINE)
    if examples:
        parts.append("\n".join(["```sh", *examples, "```"]))
    operation = next((row for row in OPERATIONS if f"{row.noun} {row.verb}" == name), None)
    if operation is not None:
        method = "POST" if operation.changes else "GET"
        parts.append(f"Admin API: `{method} /admin/{operation.noun}/{operation.verb}`, for the role {_role(operation)}")
    return "\n\n".join(parts)


def _role(operation: Operation[Any]) -> str:
    within = ", within `admin.limits`" if operation.moves is not None else ""
    return f"`{operation.role}`{within}"


def roles() -> str:
    """The page roles.md: every verb, with who may do it."""
    intro = (FOLDER / "roles.intro.md").read_text("utf-8")
    title, _, rest = intro.partition("\n")
    table = [["verb", *Role], ["---"] * (len(Role) + 1)]
    table += [[f"`{operation.name}`", *(_may(operation, role) for role in Role)] for operation in OPERATIONS]
    rows = [f"| {' | '.join(cells)} |" for cells in table]
    return "\n\n".join([title, GENERATED, rest.strip(), "\n".join(rows)]) + "\n"


def _may(operation: Operation[Any], role: Role) -> str:
    if not role.covers(operation.role):
        return ""
    if operation.moves is not None and role is not Role.OWNER:
        return "within limits"
    return "masked" if operation.personal and role is Role.VIEWER else "yes"


def _parameters(command: click.Command) -> Iterable[click.Parameter]:
    """All but what every command has, and what Farebox says only to itself."""
    for parameter in command.params:
        if parameter.name not in ("config", "as_json") and not getattr(parameter, "hidden", False):
            yield parameter


def _written(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Argument):
        many = "..." if parameter.nargs == -1 else ""
        return f"{(parameter.name or '').upper()}{many}"
    assert isinstance(parameter, click.Option), "a parameter is an argument or an option"
    name = parameter.opts[0]
    if parameter.is_flag:
        return name
    shown = "\\|".join(parameter.type.choices) if isinstance(parameter.type, click.Choice) else parameter.metavar
    return f"{name} {shown or parameter.type.name.upper().split()[0]}"


def _said(parameter: click.Parameter) -> str:
    text = getattr(parameter, "help", None) or ""
    default = parameter.default
    is_flag = isinstance(parameter, click.Option) and parameter.is_flag
    shown = getattr(parameter, "show_default", False) and default is not None and not is_flag
    required = isinstance(parameter, click.Option) and parameter.required
    text += f" [default: {default}]" if shown else ""
    return (text + (" Required." if required else "")).replace("|", "\\|")


def pages() -> dict[Path, str]:
    """Every generated file with its content."""
    return {
        FOLDER / "configuration.md": configuration(),
        FOLDER / "commands.md": reference(),
        FOLDER / "policy-language.md": policy_reference.page(),
        FOLDER / "roles.md": roles(),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, "utf-8")
        print(f"wrote {path.relative_to(FOLDER.parent)}")

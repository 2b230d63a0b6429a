"""The operator verbs as commands: `farebox NOUN VERB`, made from the table of the noun in `proxy.operations`."""

from __future__ import annotations

import asyncio
import importlib
import types
import typing
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import click

from proxy.cli.failures import REFUSED, Ending
from proxy.cli.invocation import Invocation, common, example
from proxy.cli.output import progress_bar, show

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from policies.refusals import Refusal
    from proxy.operations.operation import Answer, Arguments, Operation


class Noun(click.Group):
    """The verbs of one noun; their table is imported when it is needed."""

    def __init__(self, noun: str, sentence: str, examples: Sequence[str], **attributes: Any) -> None:
        super().__init__(noun, help=sentence, epilog=example(*examples), **attributes)
        self._noun = noun

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*(operation.verb for operation in self._operations()), *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for operation in self._operations():
            if operation.verb == cmd_name:
                return verb_command(operation)
        return super().get_command(ctx, cmd_name)

    def _operations(self) -> tuple[Operation[Any], ...]:
        operations: tuple[Operation[Any], ...] = importlib.import_module(f"proxy.operations.{self._noun}").OPERATIONS
        return operations


accounts = Noun("accounts", "Accounts: who pays.", ["accounts show user-1001"])
credits = Noun("credits", "Credits: granting, deducting, history.", ["credits grant user-1001 25.5 --key invoice-88"])
keys = Noun("keys", "API keys of users.", ['keys create user-1001 --models "video-generator:*"'])
subscriptions = Noun(
    "subscriptions",
    "Subscriptions and the confirmation of their payments.",
    ["subscriptions subscribe user-1001 pro-monthly --paid"],
)
holds = Noun("holds", "Holds: what requests have reserved.", ["holds list --account user-1001"])
usage = Noun("usage", "Usage: what was used and charged.", ["usage list --account user-1001"])
decisions = Noun(
    "decisions", "Decisions on metered requests: what was allowed and refused, and why.", ["decisions tail --refused"]
)
audit = Noun("audit", "The audit log: who changed what, and with what result.", ["audit list --operation policy"])


def verb_command(operation: Operation[Any]) -> click.Command:
    """The command of a verb, with a parameter for each of its arguments."""

    @common
    def run(invocation: Invocation, **given: Any) -> None:
        said = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items() if value}
        arguments = operation.read(said)
        if not isinstance(arguments, operation.arguments):
            raise click.UsageError(f"{arguments.error}. {arguments.hint or ''}")
        end_with(operation, asyncio.run(_perform(invocation, operation, arguments)), invocation)

    # What `common` has put on the function is what click.command would read from it.
    options = reversed(getattr(run, "__click_params__", []))
    fields = operation.arguments.model_fields
    parameters = [_parameter(name, fields[name], name in operation.positional) for name in _order(operation)]
    return click.Command(
        operation.verb,
        callback=run,
        params=[*parameters, *options],
        help=operation.sentence,
        epilog=example(operation.example),
    )


def _order(operation: Operation[Any]) -> list[str]:
    """Positional arguments in the order of the operation, then the options in the order of their definition."""
    options = [name for name in operation.arguments.model_fields if name not in operation.positional]
    return [*operation.positional, *options]


def _parameter(name: str, field: FieldInfo, positional: bool) -> click.Parameter:
    kind = _kind(field.annotation)
    many = typing.get_origin(kind) is list
    help_text = " ".join((field.description or "").split())
    choice = isinstance(kind, type) and issubclass(kind, StrEnum)
    value_type = click.Choice([str(member) for member in kind]) if choice else click.STRING
    if positional:
        return click.Argument([name], type=value_type, nargs=-1 if many else 1, required=True, help=help_text)
    option = f"--{name.replace('_', '-')}"
    if kind is bool:
        return click.Option([option], is_flag=True, help=help_text)
    if field.default is not None and not many:
        help_text += f" [default: {field.default}]"
    return click.Option([option], type=value_type, multiple=many, metavar=None if choice else _metavar(name, kind),
                        required=field.is_required(), help=help_text)  # fmt: skip


def _kind(annotation: Any) -> Any:
    """The type of an argument without None and without its bounds."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return _kind(next(part for part in typing.get_args(annotation) if part is not type(None)))
    return _kind(typing.get_args(annotation)[0]) if typing.get_origin(annotation) is typing.Annotated else annotation


def _metavar(name: str, kind: Any) -> str:
    return "NUMBER" if kind is int and name in ("limit", "after", "before", "days") else name.upper()


async def _perform(invocation: Invocation, operation: Operation[Any], arguments: Arguments) -> Answer | Refusal:
    from proxy.cli.desk import open_desk

    with progress_bar(invocation.json) as progress:
        async with open_desk(invocation.settings(), progress) as desk:
            return await operation.perform(desk, arguments)


def end_with(operation: Operation[Any], answer: Answer | Refusal, invocation: Invocation) -> None:
    """Shows the answer. Ends with 1 when it is a refusal, or says itself that not all is well."""
    context = click.get_current_context()
    if not isinstance(answer, dict):
        details = {"error": answer.error, "code": str(answer.reason), "hint": answer.hint, **answer.fields}
        sentence = f"{answer.error}. {answer.hint or ''}".strip()
        Ending(REFUSED, sentence, details, invocation.json).tell()
        context.exit(REFUSED)
    show(answer, invocation.json)
    if not invocation.json and answer.get("next") is not None:
        cursor = "before" if "before" in operation.arguments.model_fields else "after"
        click.echo(f"There is more: add --{cursor} {answer['next']}")
    if operation.passes is not None and not answer[operation.passes]:
        context.exit(REFUSED)

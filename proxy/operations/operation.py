"""What a verb is: its name, its arguments, its sentence and example, and the function that does it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from policies.refusals import Reason, Refusal, invalid_request

if TYPE_CHECKING:
    # Not needed to describe a verb, and slow to import: `farebox credits --help` does without.
    from config.settings import FareboxSettings
    from policies.rulebook import Rulebook
    from store.opening import Store

log = logging.getLogger(__name__)

Answer = dict[str, Any]
"""What JSON can say: texts, numbers, lists, mappings. Credits are numbers of credits, moments ISO 8601 in UTC."""


class Arguments(BaseModel):
    """The arguments of a verb. They arrive as texts from a command line or a query, and as JSON from a body."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


Given = TypeVar("Given", bound=Arguments)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, the steps done, and all steps."""


def silent(doing: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What operators work with. `rulebook` is the policy in force, or the one on disk.

    `actor` goes into histories, with `place`, where from, into the audit log. `compiling` is held while a policy is
    compiled.
    """

    store: Store
    settings: FareboxSettings
    rulebook: Callable[[], Awaitable[Rulebook]]
    actor: str
    progress: Progress = silent
    archive_folder: Path | None = None
    policies: Path | None = None
    """The folder of policy files, where there is one."""
    place: str = ""
    compiling: asyncio.Lock = field(default_factory=asyncio.Lock)

    def now(self) -> datetime:
        return self.store.clock()


@dataclass(frozen=True, slots=True)
class Operation(Generic[Given]):
    """One verb of one noun: `farebox NOUN VERB`, and GET or POST `/admin/NOUN/VERB`."""

    noun: str
    verb: str
    sentence: str
    example: str
    """The command line after `farebox`."""
    arguments: type[Given]
    run: Callable[[Desk, Given], Awaitable[Answer | Refusal]]
    changes: bool = False
    """Whether it writes: POST instead of GET."""
    positional: tuple[str, ...] = ()
    """Arguments that a command line gives by their place; all others are options."""
    passes: str | None = None
    """The key of the answer that says whether all is well: the command ends with 1 when it is false."""
    hidden: tuple[str, ...] = ()
    """Arguments whose values are written neither into the audit log nor into the log."""
    revisions: tuple[str, str] | None = None
    """The keys of the answer that have the revision before and after the change."""

    def read(self, given: Mapping[str, object]) -> Given | Refusal:
        """The checked arguments, or everything that is wrong with them in one sentence."""
        try:
            return self.arguments.model_validate(given)
        except ValidationError as error:
            details = error.errors(include_url=False)
            wrong = "; ".join(f"{'.'.join(map(str, detail['loc']))}: {_told(detail['msg'])}" for detail in details)
            return invalid_request(wrong, str(details[0]["loc"][0]), f"Example: farebox {self.example}")

    async def perform(self, desk: Desk, arguments: Given) -> Answer | Refusal:
        """Do it. What changes something is in the audit log, with its actor, whether it succeeds or is refused."""
        if not self.changes:
            return await self.run(desk, arguments)
        from proxy.operations.auditing import audited, masked
        from store.audit import Act, Outcome, Result

        said = masked(arguments.model_dump(mode="json", exclude_none=True), self.hidden)
        name = f"{self.noun} {self.verb}"
        async with audited(desk.store, Act(desk.actor, desk.place, name, said)) as entry:
            answer = await self.run(desk, arguments)
            if isinstance(answer, Refusal):
                entry.result = Result(Outcome.REFUSED, answer.error)
            elif self.revisions is not None:
                entry.result = Result(Outcome.DONE, None, *(answer[key] for key in self.revisions))
        told = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
        result = ": ".join(filter(None, (entry.result.outcome, entry.result.error)))
        log.info("%s: %s %s: %s", desk.actor, name, told, result)
        return answer


def _told(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[0].lower() + message[1:]


def not_found(error: str, hint: str | None = None) -> Refusal:
    return Refusal(Reason.NOT_FOUND, error, hint)


def conflict(error: str, hint: str | None = None, fields: Mapping[str, object] | None = None) -> Refusal:
    return Refusal(Reason.CONFLICT, error, hint, fields or {})

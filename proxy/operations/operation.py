"""What a verb is: its name, its arguments, its sentence and example, and the function that does it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from config.roles import Role
from policies.refusals import Reason, Refusal, invalid_request
from proxy.operations.authority import Moved, ceiling_refusal, counted_by_day, day_refusal, role_refusal, without

if TYPE_CHECKING:
    # Not needed to describe a verb, and slow to import: `farebox credits --help` does without.
    from config.settings import FareboxSettings
    from policies.rulebook import Rulebook
    from store.opening import Store

log = logging.getLogger(__name__)

Answer = dict[str, Any]
"""What JSON can say: texts, numbers, lists, mappings. Credits are numbers of credits, moments ISO 8601 in UTC."""


MAX_EXPONENT = 30
"""Of ten, in a number of a body: beyond what any argument may be, and short enough to be written out."""


class Arguments(BaseModel):
    """The arguments of a verb. They arrive as texts from a command line or a query, and as JSON from a body."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _not_endless(cls, value: object) -> object:
        """Whether 1e-30000000 is whole, Pydantic asks with all its digits: minutes, in which nobody else is served."""
        if isinstance(value, Decimal) and abs(value.adjusted()) > MAX_EXPONENT:
            raise ValueError(f"expected a number with an exponent of at most {MAX_EXPONENT}")
        return value


Given = TypeVar("Given", bound=Arguments)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, the steps done, and all steps."""


def silent(doing: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What operators work with. `rulebook` is the policy in force, or the one on disk.

    `actor` goes into histories, with `place`, where from, into the audit log. `role` is what they may do, which has no
    default: a door that forgot to say so would be open to everything. `compiling` is held while a policy is compiled.
    """

    store: Store
    settings: FareboxSettings
    rulebook: Callable[[], Awaitable[Rulebook]]
    actor: str
    role: Role
    progress: Progress = silent
    archive_folder: Path | None = None
    policies: Path | None = None
    """The folder of policy files, where there is one."""
    place: str = ""
    named: bool = False
    """Whether the role belongs to an operator of the settings; a command has none, and may do everything."""
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
    role: Role
    """The least role that may do it."""
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
    moves: Callable[[Desk, Given], Awaitable[Moved | None]] | None = None
    """What a call with these arguments would move, where `admin.limits` bounds it."""
    personal: tuple[str, ...] = ()
    """Keys of the answer that are masked for viewers: what belongs to persons, and is not needed to read the rest."""

    @property
    def name(self) -> str:
        return f"{self.noun} {self.verb}"

    def read(self, given: Mapping[str, object]) -> Given | Refusal:
        """The checked arguments, or everything that is wrong with them in one sentence."""
        try:
            return self.arguments.model_validate(given)
        except ValidationError as error:
            details = error.errors(include_url=False)
            # Without a place: a name that is no text, such as half of a surrogate pair.
            places = [[str(part) for part in detail["loc"]] or ["body"] for detail in details]
            told = zip(places, details, strict=True)
            wrong = "; ".join(f"{'.'.join(place)}: {_told(detail['msg'])}" for place, detail in told)
            return invalid_request(wrong, places[0][0], f"Example: farebox {self.example}")

    async def perform(self, desk: Desk, arguments: Given) -> Answer | Refusal:
        """Do it, if whoever stands at the desk may. What changes something is in the audit log, with its actor, whether
        it succeeds or is refused; so is what the actor was not allowed.
        """
        refusal = role_refusal(self.name, self.role, desk)
        moved: Moved | None = None
        if refusal is None and self.moves is not None and desk.role is not Role.OWNER:
            moved = await self.moves(desk, arguments)
            refusal = None if moved is None else ceiling_refusal(moved, desk)
            arguments = arguments if moved is None else arguments.model_copy(update=moved.stated)
        if refusal is None and not self.changes:
            answer = await self.run(desk, arguments)
            return without(answer, self.personal) if desk.role is Role.VIEWER and isinstance(answer, dict) else answer
        return await self._audited(desk, arguments, moved, refusal)

    async def _audited(
        self, desk: Desk, arguments: Given, moved: Moved | None, refusal: Refusal | None
    ) -> Answer | Refusal:
        """Do it with an entry in the audit log, or write down that it was refused."""
        from proxy.operations.auditing import audited, masked
        from store.audit import Act, Outcome, Result

        said = masked(arguments.model_dump(mode="json", exclude_none=True), self.hidden)
        role = str(desk.role) if desk.named else None
        counted = counted_by_day(moved) if refusal is None and moved is not None else None
        async with audited(desk.store, Act(desk.actor, desk.place, self.name, said, role, counted)) as entry:
            if counted is not None:
                refusal = day_refusal(counted, entry.moved_before, desk)
            answer = refusal if refusal is not None else await self.run(desk, arguments)
            if isinstance(answer, Refusal):
                entry.result = Result(Outcome.REFUSED, answer.error)
            elif self.revisions is not None:
                entry.result = Result(Outcome.DONE, None, *(answer[key] for key in self.revisions))
        told = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
        result = ": ".join(filter(None, (entry.result.outcome, entry.result.error)))
        log.info("%s: %s %s: %s", desk.actor, self.name, told, result)
        return answer


def _told(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[0].lower() + message[1:]


def not_found(error: str, hint: str | None = None) -> Refusal:
    return Refusal(Reason.NOT_FOUND, error, hint)


def conflict(error: str, hint: str | None = None, fields: Mapping[str, object] | None = None) -> Refusal:
    return Refusal(Reason.CONFLICT, error, hint, fields or {})

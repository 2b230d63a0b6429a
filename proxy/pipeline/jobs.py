"""Jobs that finish later: reading how they ended, from whatever says it, and ending their holds.

A route accepts a job and its hold stays open. That the job ended is said by the answer to a client's poll, by the
backend's callback (`proxy.callbacks`) or by an answer to the scheduler (`proxy.asking`). Whoever sees the end first
ends the hold, and everybody later finds it ended. A job belongs to the account that started it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from unicodedata import combining, decimal, normalize
from urllib.parse import quote, unquote
from uuid import UUID

from config.jobs import Job, Part, Poll, States
from config.routes import Match
from policies.callers import Caller
from policies.pricing import share, true_cost
from policies.refusals import Reason, Refusal
from policies.terms import AccountId, Funding, Model
from proxy.pipeline.exchange import Routed
from proxy.pipeline.usage import NOTHING_PASSED, usage_in, wanted_of
from proxy.strict_json import Unreadable, find, tokens
from store.catalogue import find_model
from store.ids import id_text
from store.job_holds import JobHold, job_holds
from store.opening import Store
from store.verbs import Ended, Refused, Release, Settle, Usage, Watch

MAX_JOB_ID = 200
MAX_ITEMS = 1000
"""Jobs looked at in one answer, and items of a job; a list page of a backend has some tens."""

MAX_COUNT = 10**6
"""Items of a job, as a backend may number them."""

MAX_NUMBER = 10**30
"""Of a job's id that is a number: far above what databases hand out."""

_NUMBER = re.compile(r"\+?0*([0-9]{1,30})")
"""A whole number at the beginning, where many parsers stop: MySQL, PHP and JavaScript take `31abc` for 31."""

_WORD = re.compile(r"[^A-Za-z0-9_-]")
"""Where the first word of an id ends: frameworks cut formats (`.json`) and verbs (`:cancel`) off."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended. `part` is how many of how many items were done, where that is told: else all of them.

    `used` is what it has used, by unit, where that is told; `unbelievable` where it should be and is not.
    """

    completed: bool
    part: tuple[int, int] | None = None
    used: Mapping[str, Decimal] | None = None
    unbelievable: bool = False


def accepted_job(job: Job, documents: Sequence[Any]) -> str | None:
    """The id of the job that an answer has accepted, if it names one."""
    return text_at(documents[0], job.id.json_) if documents else None


def watch_of(job: Job, asked: tuple[Match, str | None] | None, job_id: str, document: Any) -> Watch | None:
    """How the scheduler is to ask for a job: `asked` is the pattern of the poll route, and which parameter is the id.

    None where nobody is to ask, or where the answer that accepted the job does not name what the path needs.
    """
    if job.watch is None or asked is None:
        return None
    match, id_parameter = asked
    parameters = {name: text_at(document, source.json_) for name, source in job.watch.parameters.items()}
    if id_parameter is not None:
        parameters[id_parameter] = job_id
    missing = sorted(name for name, text in parameters.items() if text is None)
    if missing:
        log.warning("nobody can ask for the job %r: its acceptance does not name %s", job_id, ", ".join(missing))
        return None
    encoded = {name: quote(text or "", safe="") for name, text in parameters.items()}
    if any(text in (".", "..") for text in encoded.values()):
        # As a segment of a path it would lead elsewhere (RFC 3986 §5.2.4).
        log.warning("nobody can ask for the job %r: the path to it has dot segments", job_id)
        return None
    path = "/" + "/".join(encoded[part[1:-1]] if part.startswith("{") else part for part in match.segments)
    return Watch(path, job.watch.first, job.watch.longest)


async def foreign_job(poll: Poll, routed: Routed, caller: Caller, store: Store) -> Refusal | None:
    """404 for a job of another account, as if it did not exist.

    And for a known job in another spelling: a backend that understands it would show others' jobs, and the end of one's
    own would pass unseen.
    """
    if poll.id.path is None:
        return None
    asked = routed.parameters[poll.id.path]
    holds = await store.database.read(job_holds, poll.of, [asked, *_meant(asked)])
    exact = [hold for hold in holds if hold.job_id == asked]
    if all(hold.account_id == caller.account.account_id for hold in exact) and bool(exact) == bool(holds):
        return None
    return Refusal(Reason.NOT_FOUND, "Not Found", "There is no such job for this account.")


def _meant(job_id: str) -> set[str]:
    """Other ids that some backend might take this one for: decoded once more, cut and trimmed, without a format such as
    `.json`, in the other case, or parsed as the number or the UUID that it spells, or begins with.
    """
    cut = unquote(job_id).partition(";")[0].strip().rstrip(".")
    # Databases compare without accents and widths, and `int` of Python reads the digits of all scripts.
    plain = "".join(letter for letter in normalize("NFKD", cut) if not combining(letter))
    loose = "".join(str(decimal(letter, letter)) for letter in plain)
    found = {cut, loose, loose.rpartition(".")[0], _WORD.split(loose, maxsplit=1)[0]}
    for text in tuple(found):
        with suppress(ValueError):
            found |= {str(UUID(text)), UUID(text).hex}
    if (number := _NUMBER.match(loose.replace("_", ""))) is not None:
        found.add(number[1])
    with suppress(ValueError, ArithmeticError):
        exact = Decimal(loose)
        found.add(str(int(exact)) if abs(exact) < MAX_NUMBER else loose)
    with suppress(ValueError):
        found.add(str(int(loose, 0)))
    return {spelling for text in found for spelling in (text, text.lower(), text.upper())} - {job_id}


async def observe(
    poll: Poll, parameters: Mapping[str, str], account_id: AccountId, documents: Sequence[Any], store: Store
) -> None:
    """End the holds of the account's jobs that an answer says have ended; `parameters` are those of its path.

    A job that is listed more than once, such as with each attempt at it, has completed if one of them has.
    """
    ended: dict[str, Ending] = {}
    for job_id, ending in _endings(poll, parameters, documents[0]) if documents else ():
        if ending.completed or job_id not in ended:
            ended[job_id] = ending
    if not ended:
        return
    for hold in await store.database.read(job_holds, poll.of, list(ended)):
        if hold.job_id is not None and hold.account_id == account_id:
            await end(hold, ended[hold.job_id], store)


async def end(hold: JobHold, ending: Ending, store: Store) -> Ended | Refused | None:
    """End the hold of a job that has ended: settled when it completed, by its usage or in part where that is told, else
    released.

    None where the hold has ended before, however.
    """
    if not hold.can_be_charged:
        return None
    if not ending.completed:
        return await store.ledger.end(Release(hold.hold_id, hold.account_id, "job failed"))
    if ending.used is not None:
        model = await store.database.read(find_model, hold.model_key)
        return await store.ledger.end(_by_usage(hold, ending.used, model))
    return await store.ledger.end(_by_part(hold, ending))


def _by_usage(hold: JobHold, used: Mapping[str, Decimal], model: Model | None) -> Settle:
    """What the usage costs. The price that it was quoted by is known as long as it is the price: where it has changed
    meanwhile, the new one counts, but nobody pays more than the quote for a price that they were never quoted.
    """
    units = {**{name: Decimal(value) for name, value in hold.units.items()}, **used}
    amount = true_cost(model, units, Funding(hold.funding)) if model is not None else None
    is_quoted_price = model is not None and model.price.version == hold.price_version
    if amount is not None and not is_quoted_price:
        amount = min(amount, hold.amount)
    usage = Usage({name: str(value) for name, value in units.items()}, estimated=not is_quoted_price)
    return Settle(hold.hold_id, hold.account_id, amount, usage, "job completed")


def _by_part(hold: JobHold, ending: Ending) -> Settle | Release:
    """The share of the quote, or the whole of it."""
    full = Settle(hold.hold_id, hold.account_id, None, Usage(hold.units, ending.unbelievable), "job completed")
    if ending.unbelievable:
        log.warning("the job of hold %s is charged by its quote: no usable usage", id_text(hold.hold_id))
    if ending.part is None:
        return full
    done, of = ending.part
    try:
        amount = share(hold.amount, done, of)
    except ValueError as error:
        log.warning("the job of hold %s is charged in full: %s", id_text(hold.hold_id), error)
        return replace(full, usage=Usage(hold.units, estimated=True))
    if done == 0:
        return Release(hold.hold_id, hold.account_id, "nothing of the job was done")
    usage = Usage({**hold.units, "items_done": str(done), "items": str(of)})
    return replace(full, amount=amount, usage=usage, reason=f"{done} of {of} of the job was done")


def ending_in(states: States, document: Any) -> Ending | None:
    """How a job ended, by what a backend says of it; None while it has not, and for what cannot be read."""
    state = text_at(document, states.status.json_)
    if state in states.failed:
        return Ending(completed=False)
    if state not in states.completed:
        return None
    if states.part is not None:
        return Ending(completed=True, part=_part(states.part, document))
    used = usage_in([document], wanted_of(states.usage), NOTHING_PASSED) if states.usage else None
    return Ending(completed=True, used=used, unbelievable=bool(states.usage) and used is None)


def _part(part: Part, document: Any) -> tuple[int, int]:
    """Items that were done, and all; what cannot be read is 0 of 0, which is no share."""
    if part.items is not None and part.status is not None:
        items = _list_at(document, part.items.json_)
        states = [text_at(item, part.status.json_) for item in items]
        return sum(state in part.completed for state in states), len(items)
    assert part.done is not None, "the settings have either the list or both numbers"
    assert part.of is not None, "the settings have either the list or both numbers"
    done, of = _count_at(document, part.done.json_), _count_at(document, part.of.json_)
    return (0, 0) if done is None or of is None else (done, of)


def _endings(poll: Poll, parameters: Mapping[str, str], document: Any) -> Iterable[tuple[str, Ending]]:
    """Every job that an answer says has ended."""
    for item in [document] if poll.items is None else _list_at(document, poll.items.json_)[:MAX_ITEMS]:
        job_id = parameters[poll.id.path] if poll.id.path is not None else _first_text(poll, item)
        ending = ending_in(poll, item)
        if job_id is not None and ending is not None:
            yield job_id, ending


def _first_text(poll: Poll, item: Any) -> str | None:
    return next((text for pointer in poll.id.json_ or () if (text := text_at(item, pointer)) is not None), None)


def _list_at(document: Any, pointer: str) -> Sequence[Any]:
    value = _at(document, pointer)
    return value if isinstance(value, list) else ()


def _count_at(document: Any, pointer: str) -> int | None:
    value = _at(document, pointer)
    return value if isinstance(value, int) and not isinstance(value, bool) and value <= MAX_COUNT else None


def text_at(document: Any, pointer: str) -> str | None:
    """A text or whole number, as text: backends use both as ids."""
    value = _at(document, pointer)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)
    return text if 0 < len(text) <= MAX_JOB_ID and text.isprintable() else None


def _at(document: Any, pointer: str) -> Any:
    try:
        return find(document, tokens(pointer))
    except Unreadable:
        return None

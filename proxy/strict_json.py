"""JSON read in the one way that every parser agrees on, or refused.

Parsers differ on repeated keys (the first or the last wins, some ignore case), on NaN, on encodings and on numbers
too large for them (RFC 8259 §4, §6, §8.1). What Farebox judged has to be what the backend reads, so a document that
could be read in two ways is refused where it matters: on the way to a value that decides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from functools import cached_property, lru_cache
from typing import Any, NoReturn

LARGE = 100
"""Keys of an object that are compared anew each time: to remember them would take longer."""


class Unreadable(ValueError):
    """The document, or the way to the value asked for, is malformed or ambiguous; the message says how."""


class _Repeated(dict[str, Any]):
    """An object in which a key is given twice."""


class _Large(dict[str, Any]):
    """An object of many keys, which are compared once, however often it is asked."""

    @cached_property
    def spellings(self) -> Mapping[str, set[str]]:
        """The keys, by what they are to a parser that ignores case."""
        found: dict[str, set[str]] = {}
        for key in self:
            found.setdefault(key.casefold(), set()).add(key)
        return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        return _Repeated(result)
    return result if len(result) <= LARGE else _Large(result)


def _constant(name: str) -> NoReturn:
    raise Unreadable(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=Decimal)
"""Made once: with hooks, `json.loads` makes a decoder for each document, which takes longer than a short document."""


def parse(body: bytes) -> Any:
    """The document in a UTF-8 `body`, with exact numbers. Raises Unreadable."""
    try:
        return _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise Unreadable("the body is not UTF-8") from None
    except RecursionError:
        raise Unreadable("the body is nested too deeply") from None
    except InvalidOperation:
        raise Unreadable("the body has a number beyond all bounds") from None
    except Unreadable:
        raise
    except ValueError as error:
        raise Unreadable(f"the body is not JSON: {str(error)[:120]}") from None


def has_repeated_key(document: Any) -> bool:
    """Whether `document` is an object in which a key is given twice; objects inside of it are not looked at."""
    return isinstance(document, _Repeated)


@lru_cache(maxsize=1024)
def tokens(pointer: str) -> tuple[str, ...]:
    """The reference tokens of an RFC 6901 pointer, which comes from the settings: there are few."""
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:])


def find(document: Any, path: tuple[str, ...]) -> Any:
    """The value at the end of `path`, or None when it is absent. Raises Unreadable when the way is ambiguous."""
    for token in path:
        if isinstance(document, dict):
            _check_unambiguous(document, token)
            document = document.get(token)
        elif isinstance(document, list) and token.isascii() and token.isdigit() and int(token) < len(document):
            document = document[int(token)]
        else:
            return None
    return document


def _check_unambiguous(document: dict[str, Any], key: str) -> None:
    if isinstance(document, _Repeated):
        raise Unreadable(f"a key is given twice beside {key!r}")
    folded = key.casefold()
    others: Iterable[str] = document.spellings.get(folded, ()) if isinstance(document, _Large) else document
    for other in others:
        if other.casefold() == folded and other != key:
            raise Unreadable(f"the key {key!r} is given in two spellings")

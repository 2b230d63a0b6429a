"""Which places of policy files say what was meant, where something is wrong with their form.

What follows from a place that is unsure is not told: a ladder that could not be read makes no tier unknown. Called by
`checks` and `doubts`; the reader of the files says what is unsure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Sureness:
    """`unsure` are the paths, by file. `lost` tells that there are files of which nothing is known at all."""

    unsure: Mapping[str, frozenset[Path]] = field(default_factory=dict)
    lost: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether there is nothing unsure in any file."""
        return not self.lost and not any(self.unsure.values())

    def at(self, file: str, path: Path) -> bool:
        """Whether a place, and everything that it is in, is as it was meant."""
        unsure = self.unsure.get(file)
        return not unsure or not any(path[:length] in unsure for length in range(1, len(path) + 1))

    def within(self, file: str, path: Path) -> bool:
        """Whether that is so of everything in the place as well."""
        return self.at(file, path) and path not in self._above.get(file, ())

    @cached_property
    def _above(self) -> Mapping[str, frozenset[Path]]:
        """Places with something unsure in them."""
        return {
            file: frozenset(path[:length] for path in paths for length in range(len(path)))
            for file, paths in self.unsure.items()
        }

    def without(self, places: Iterable[tuple[str, Path]]) -> Sureness:
        """With further places unsure."""
        added: dict[str, set[Path]] = {file: set(paths) for file, paths in self.unsure.items()}
        for file, path in places:
            added.setdefault(file, set()).add(path)
        return Sureness({file: frozenset(paths) for file, paths in added.items()}, self.lost)


ALL_SURE = Sureness()
"""Nothing is wrong with the form of any file."""

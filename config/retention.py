"""How long usage and the audit log stay in the database, and where usage goes then: `retention` in the settings."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, WithJsonSchema, model_validator

from config.extractors import Settings

MIN_MONTHS, MAX_MONTHS = 2, 120
"""With less than two, windows and refunds of the past weeks would lose the usage that explains them."""

_MONTHS = re.compile(r"([0-9]{1,3}) months")


def _months(value: object) -> int:
    match = _MONTHS.fullmatch(value) if isinstance(value, str) else None
    if match is None or not MIN_MONTHS <= int(match[1]) <= MAX_MONTHS:
        raise ValueError(f"expected {MIN_MONTHS} to {MAX_MONTHS} months, such as `13 months`")
    return int(match[1])


def _archive(value: object) -> object:
    # YAML has read `off` as a boolean.
    if value is False or (isinstance(value, str) and value.strip()):
        return value
    raise ValueError("expected a folder, or off to keep nothing")


Months = Annotated[int, BeforeValidator(_months), WithJsonSchema({"type": "string"})]
ArchiveTo = Annotated[str | Literal[False], BeforeValidator(_archive)]


class Retention(Settings):
    """By default everything stays: where old usage is to go is for its owner to say, not for a default. A folder that
    is not backed up, or that vanishes with a container, would lose it silently."""

    usage: Months | Literal["forever"] = "forever"
    """Complete months of usage that stay in the database, beside the current one; older ones leave it."""
    archive: ArchiveTo | None = None
    """The folder that older usage is written to before it is deleted, which has to exist; `off` to keep nothing."""

    audit: Months | Literal["forever"] = "forever"
    """Complete months of the audit log that stay, beside the current one; older entries are deleted."""

    @model_validator(mode="after")
    def _said_where_to(self) -> Self:
        if self.usage != "forever" and self.archive is None:
            raise ValueError("say where usage goes: `archive: FOLDER`, or `archive: off` to delete it for good")
        return self

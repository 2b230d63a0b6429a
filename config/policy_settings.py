"""What `farebox.yaml` says about the record of decisions."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import StringConstraints

from config.extractors import Settings
from config.quantities import Duration


class Decisions(Settings):
    """What is kept of the decisions on metered requests, for `farebox decisions`, explanations and comparisons."""

    record: Literal["all", "refused", "none"] = "all"
    """Which decisions are kept."""
    users: Literal["masked", "plain"] = "masked"
    """User ids as digests, the same for the same user, or as they are. The account's number is kept in any case."""
    keep: Duration = timedelta(days=7)
    """How long, in the database."""
    file: Annotated[str, StringConstraints(min_length=1)] | None = None
    """A file to which they are appended as well, one JSON object on each line; it counts from the settings' folder."""

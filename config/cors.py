"""The `cors` of `farebox.yaml`: whose pages may read Farebox's own answers, in browsers."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from config.extractors import Settings
from config.quantities import Duration

Origin = Annotated[str, StringConstraints(pattern=r"^https?://[a-z0-9.:\[\]-]+$")]


class Cors(Settings):
    """Answers the preflights of browsers for routes that are not open, and lets pages of these origins read Farebox's
    own answers. Answers of backends pass as they are.
    """

    origins: Annotated[list[Origin | Literal["*"]], Field(min_length=1, max_length=100)]
    """Such as https://app.example.com; `*` stands for all."""
    credentials: bool = False
    """Whether cookies may be sent; not together with `*`."""
    max_age: Duration = timedelta(minutes=10)
    """How long browsers may remember the answer to a preflight."""

    @model_validator(mode="after")
    def _not_everybody(self) -> Self:
        if self.credentials and "*" in self.origins:
            raise ValueError(
                "with `credentials` the origins have to be listed; browsers do not take `*` (Fetch, 3.3.5)"
            )
        return self

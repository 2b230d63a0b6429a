"""What is valid in the settings of jobs and may give work away. For `farebox check`; it keeps nothing from starting."""

from __future__ import annotations

from dataclasses import replace

from config.findings import Finding
from config.routes import Route
from config.settings import LoadedSettings

UNWATCHED = (
    "whoever asks for this job only after its deadline has it for nothing; say `watch`, `callback`, `on_late: charge` "
    "beside it, or `on_deadline: quote`; where it is meant to be so, say `on_deadline: release`"
)


def findings_of(settings: LoadedSettings) -> list[Finding]:
    """A warning for each job that nobody but its client asks for, and that is free when nobody asks in time."""
    return [
        replace(settings.source.finding(("routes", index, "job"), "unwatched-job", UNWATCHED), severity="warning")
        for index, route in enumerate(settings.values.routes)
        if _is_free_for_the_patient(route)
    ]


def _is_free_for_the_patient(route: Route) -> bool:
    job = route.job
    if job is None or job.watch is not None or job.callback is not None or route.on_late == "charge":
        return False
    # Who has written the default has meant it.
    return "on_deadline" not in job.model_fields_set

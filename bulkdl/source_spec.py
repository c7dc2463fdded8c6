"""The static properties of sources, which reports, logs and metrics use without the code of a source."""

from __future__ import annotations

from dataclasses import dataclass

from bulkdl.models import Output


@dataclass(frozen=True, slots=True)
class OutputLabels:
    """The names of the fields of an output in logs and reports, such as ``project_id``."""

    scope: str
    container: str
    parent: str


_LABELS = {"jobs": OutputLabels("project_id", "job_id", "task_id")}


def output_fields(output: Output) -> dict[str, str | None]:
    """Return the scope, the container and the parent (None: the container) of *output* by their names."""
    labels = _LABELS[output.container.source]
    return {
        labels.scope: output.container.scope,
        labels.container: output.container.id,
        labels.parent: output.parent or None,
    }

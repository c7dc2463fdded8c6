"""The filters of UP42 jobs in a selection: mode, workflow, and outputs of jobs or of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bulkdl.models import Container, Output
from bulkdl.settings.levels import Level
from bulkdl.settings.parsers import normalize_status
from bulkdl.sources.up42_jobs.models import Kind

_KINDS = frozenset(kind.value for kind in Kind)


class _RecordedKind(str):
    """A kind in a scope, as the first version wrote it. Its watermarks remain valid."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<Kind.{self.upper()}: {super().__repr__()}>"


@dataclass(frozen=True, slots=True)
class JobFilters:
    """
    The filters of jobs. A job is selected if it matches all of them.

    Attributes:
        mode: In upper case with underscores.
        workflow_id: In lower case.
        levels: Outputs of jobs, of tasks, or of both.
    """

    mode: str | None = None
    workflow_id: str | None = None
    levels: frozenset[Level] = frozenset(Level)
    # ``includes`` is called for each output.
    _has_jobs: bool = field(init=False, repr=False, compare=False)
    _has_tasks: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_has_jobs", Level.JOB in self.levels)
        object.__setattr__(self, "_has_tasks", Level.TASK in self.levels)

    def excluding_filter(self, container: Container) -> str | None:
        """Return the flag of the first filter that excludes a job; None if there is none."""
        attributes = container.attributes
        if self.mode is not None and normalize_status(attributes.get("mode", "")) != self.mode:
            return "mode"
        if self.workflow_id is not None and attributes.get("workflow", "").lower() != self.workflow_id:
            return "workflow"
        return None

    def includes(self, output: Output) -> bool:
        """Return whether the level of *output* is selected."""
        return self._has_tasks if output.parent else self._has_jobs

    def wanted_kinds(self, kinds: frozenset[str]) -> frozenset[str]:
        """Return *kinds*, without quicklooks if no outputs of tasks are selected."""
        own = kinds & _KINDS
        return own if self._has_tasks else own - {Kind.QUICKLOOK}

    def with_job_ids(self, job_ids: Sequence[str]) -> None:
        """Return None: a job is a container."""
        del job_ids

    def scope_values(self, shared: Mapping[str, object]) -> list[object]:
        """Return the values in the order of the first version, so that its watermarks stay valid."""
        values = {**shared, "mode": self.mode, "workflow": self.workflow_id, "levels": sorted(self.levels)}
        selected = shared["kinds"]
        if isinstance(selected, list):
            values["kinds"] = [_RecordedKind(kind) for kind in selected if kind in _KINDS]
        order = ("scopes", "statuses", "mode", "name", "workflow", "kinds", "levels", "shard")
        return [values[name] for name in order]

    def as_dict(self) -> dict[str, object]:
        """Return the filters for the run report."""
        return {"mode": self.mode, "workflow_id": self.workflow_id, "levels": sorted(self.levels)}

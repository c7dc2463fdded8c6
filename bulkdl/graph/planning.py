"""
Which outputs there are, and which of them are missing. Pure functions of values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bulkdl.ledger.rows import NEW, JobRecord, OutputRecord
from bulkdl.models import Job, Kind, Level, Output, Task
from bulkdl.selection import Selection
from bulkdl.settings.path_templates import PathTemplates


@dataclass(frozen=True, slots=True)
class MissingOutput:
    """An output that is missing; *filename* is a quicklook's name on disk."""

    output: Output
    filename: str = ""


# Outputs that one worker brings one after another, because they may be one storage object.
SameObjectGroup = tuple[MissingOutput, ...]


@dataclass(frozen=True, slots=True)
class PlanResult:
    """The outputs of a job that are wanted and missing, and those that are settled."""

    missing: tuple[MissingOutput, ...]
    settled: tuple[OutputRecord, ...]


def expected_outputs(job: Job, tasks: Sequence[Task]) -> list[Output]:
    """
    Archives and GeoJSON that a finished job can have.

    At job level only if the job succeeded; at task level for each task that succeeded, also
    under a job that failed later. UP42 may still have none of them (404).
    """
    owners: list[str | None] = [task.id for task in tasks if task.succeeded]
    if job.succeeded:
        owners.insert(0, None)
    return [
        Output(job.project_id, job.id, owner, kind)
        for owner in owners
        for kind in (Kind.GEOJSON, Kind.ARCHIVE)
    ]


def last_task_id(tasks: Sequence[Task]) -> str | None:
    """The task that no other names as its parent: its result is the job's. The later one of several."""
    parents = {parent for task in tasks for parent in task.parent_ids}
    last = [task.id for task in tasks if task.id not in parents]
    return last[-1] if last else None


def has_open_task(job: Job, tasks: Sequence[Task]) -> bool:
    """
    Return whether a task of a finished job can still get outputs.

    A task that has not started under a job that failed never will.
    """
    never = frozenset() if job.succeeded else frozenset({"NOT_STARTED", "PENDING"})
    return any(not task.finished and task.status not in never for task in tasks)


def is_same_run(job: Job, known: JobRecord) -> bool:
    """Whether what is known is of this very run of the job. A job can be run again under its id."""
    return job.status == known.job.status and job.finished_at == known.job.finished_at


def is_recent(job: Job, now_at: datetime, recheck_s: float) -> bool:
    """Return whether *job* finished so lately that an output which was not available may be available now."""
    return now_at - (job.finished_at or job.created_at) < timedelta(seconds=recheck_s)


def must_be_listed(known: JobRecord | None, selection: Selection, *, recheck_absent: bool = False) -> bool:
    """
    Return whether UP42 must be asked for the job's tasks, or for their quicklooks.

    Args:
        recheck_absent: Whether a list of quicklooks that was not available is requested again.
    """
    if known is None or not known.tasks_listed:
        return True
    wants_quicklooks = Kind.QUICKLOOK in selection.kinds and Level.TASK in selection.levels
    if selection.reasons is not None:
        if known.listing_failure in selection.reasons - {None}:
            return True
        wants_quicklooks &= any(
            is_listing_placeholder(each.output) and matches_reasons(each, selection) for each in known.outputs
        )
    elif not recheck_absent:
        lists = [each for each in known.outputs if is_listing_placeholder(each.output)]
        if lists and all(each.is_not_available for each in lists):
            return False
    return wants_quicklooks and not known.quicklooks_listed


def matches_reasons(known: OutputRecord, selection: Selection) -> bool:
    """Whether *known* ended for a reason that the selection asks for, or was unknown until now."""
    if selection.reasons is None or known.state == NEW:
        return True
    if known.reason is None and known.file is None:
        return False  # it is planned, and was never tried
    return known.reason in selection.reasons


def split_missing(
    outputs: Iterable[OutputRecord],
    selection: Selection,
    sizes: Mapping[str, int],
    *,
    recheck_absent: bool = False,
) -> PlanResult:
    """
    Divide the wanted *outputs* into missing and settled.

    Args:
        sizes: Bytes of the files that are there, by key. A completed output whose file is gone or
            has another size is missing.
        recheck_absent: Whether an output that was not available counts as missing.
    """
    missing, settled = [], []
    for known in outputs:
        if not selection.wants(known.output) or not matches_reasons(known, selection):
            continue
        is_absent = known.is_not_available and selection.reasons is None
        if is_listing_placeholder(known.output):
            settled += [known] if is_absent else []
        elif (is_absent and not recheck_absent) or _is_there(known, sizes):
            settled.append(known)
        else:
            missing.append(MissingOutput(known.output, known.filename))
    return PlanResult(tuple(missing), tuple(settled))


def is_listing_placeholder(output: Output) -> bool:
    """Whether *output* stands for a list of quicklooks that could not be had, not for a quicklook."""
    return output.kind is Kind.QUICKLOOK and not output.name


def _is_there(known: OutputRecord, sizes: Mapping[str, int]) -> bool:
    receipt = known.file
    return known.is_completed and receipt is not None and sizes.get(receipt.key) == receipt.size_bytes


def group_same_objects(missing: Iterable[MissingOutput], last_task: str | None) -> list[SameObjectGroup]:
    """Each output by itself, but a job's archive right behind that of its last task."""
    missing = list(missing)
    twins = [
        wanted
        for wanted in missing
        if wanted.output.kind is Kind.ARCHIVE and wanted.output.task_id in (None, last_task)
    ]
    if len(twins) < 2:
        return [(wanted,) for wanted in missing]
    twins.sort(key=lambda wanted: wanted.output.level is Level.JOB)
    return [(wanted,) for wanted in missing if wanted not in twins] + [tuple(twins)]


def target_key(wanted: MissingOutput, names: PathTemplates) -> Callable[[str], str]:
    """Where *wanted* lands, as a function of the suffix that its bytes will decide."""
    output = wanted.output
    template = {
        (Kind.ARCHIVE, Level.JOB): names.job_archive,
        (Kind.ARCHIVE, Level.TASK): names.task_archive,
        (Kind.GEOJSON, Level.JOB): names.job_geojson,
        (Kind.GEOJSON, Level.TASK): names.task_geojson,
        (Kind.QUICKLOOK, Level.TASK): names.quicklook,
    }[output.kind, output.level]

    def key(suffix: str) -> str:
        return template.format(
            project_id=output.project_id,
            job_id=output.job_id,
            task_id=output.task_id,
            filename=wanted.filename,
            suffix=suffix,
        )

    return key

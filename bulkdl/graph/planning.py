"""
Which outputs there are, and which of them are missing. Pure functions of values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bulkdl.ledger.rows import NEW, KnownJob, KnownOutput
from bulkdl.model import Job, Kind, Level, Output, Task
from bulkdl.selection import Selection
from bulkdl.settings.path_templates import PathTemplates


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that is missing; *filename* is a quicklook's name on disk."""

    output: Output
    filename: str = ""


# Outputs that one worker brings one after another, because they may be one storage object.
Bundle = tuple[Wanted, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outputs of a job that are wanted and missing, and those that are settled."""

    missing: tuple[Wanted, ...]
    settled: tuple[KnownOutput, ...]


def files_of(job: Job, tasks: Sequence[Task]) -> list[Output]:
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


def same_run(job: Job, known: KnownJob) -> bool:
    """Whether what is known is of this very run of the job. A job can be run again under its id."""
    return job.status == known.job.status and job.finished_at == known.job.finished_at


def is_recent(job: Job, now_at: datetime, recheck_s: float) -> bool:
    """Return whether *job* finished so lately that an output which was not available may be available now."""
    return now_at - (job.finished_at or job.created_at) < timedelta(seconds=recheck_s)


def must_be_listed(known: KnownJob | None, selection: Selection, *, recheck_absent: bool = False) -> bool:
    """
    Return whether UP42 must be asked for the job's tasks, or for their quicklooks.

    Args:
        recheck_absent: Whether a list of quicklooks that was not available is requested again.
    """
    if known is None or not known.tasks_listed:
        return True
    wants_quicklooks = Kind.QUICKLOOK in selection.kinds and Level.TASK in selection.levels
    if selection.reasons is not None:
        if known.unlisted_for in selection.reasons - {None}:
            return True
        wants_quicklooks &= any(is_list(each.output) and is_due(each, selection) for each in known.outputs)
    elif not recheck_absent:
        lists = [each for each in known.outputs if is_list(each.output)]
        if lists and all(each.is_not_available for each in lists):
            return False
    return wants_quicklooks and not known.quicklooks_listed


def is_due(known: KnownOutput, selection: Selection) -> bool:
    """Whether *known* ended for a reason that the selection asks for, or was unknown until now."""
    if selection.reasons is None or known.state == NEW:
        return True
    if known.reason is None and known.receipt is None:
        return False  # it is planned, and was never tried
    return known.reason in selection.reasons


def judge(
    outputs: Iterable[KnownOutput],
    selection: Selection,
    sizes: Mapping[str, int],
    *,
    recheck_absent: bool = False,
) -> Verdict:
    """
    Divide the wanted *outputs* into missing and settled.

    Args:
        sizes: Bytes of the files that are there, by key. A completed output whose file is gone or
            has another size is missing.
        recheck_absent: Whether an output that was not available counts as missing.
    """
    missing, settled = [], []
    for known in outputs:
        if not selection.wants(known.output) or not is_due(known, selection):
            continue
        is_absent = known.is_not_available and selection.reasons is None
        if is_list(known.output):
            settled += [known] if is_absent else []
        elif (is_absent and not recheck_absent) or _is_there(known, sizes):
            settled.append(known)
        else:
            missing.append(Wanted(known.output, known.filename))
    return Verdict(tuple(missing), tuple(settled))


def is_list(output: Output) -> bool:
    """Whether *output* stands for a list of quicklooks that could not be had, not for a quicklook."""
    return output.kind is Kind.QUICKLOOK and not output.name


def _is_there(known: KnownOutput, sizes: Mapping[str, int]) -> bool:
    receipt = known.receipt
    return known.completed and receipt is not None and sizes.get(receipt.key) == receipt.size_bytes


def bundles(missing: Iterable[Wanted], last_task: str | None) -> list[Bundle]:
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


def key_of(wanted: Wanted, names: PathTemplates) -> Callable[[str], str]:
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

"""
Compare recorded jobs and outputs with the selection and the files. The functions are pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from bulkdl.ledger.rows import NEW, JobRecord, OutputRecord
from bulkdl.models import Job, Kind, Level
from bulkdl.selection import Selection
from bulkdl.sources.up42_jobs.planning import MissingOutput, is_listing_placeholder


@dataclass(frozen=True, slots=True)
class PlanResult:
    """The selected outputs of a job that are missing, and those that are up to date."""

    missing: tuple[MissingOutput, ...]
    up_to_date: tuple[OutputRecord, ...]


def is_same_run(job: Job, record: JobRecord) -> bool:
    """Return whether *record* is of this run of the job. A job can be run again under its ID."""
    return job.status == record.job.status and job.finished_at == record.job.finished_at


def is_recent(job: Job, now_at: datetime, recheck_s: float) -> bool:
    """Return whether *job* finished so lately that an output which was not available may be available now."""
    return now_at - (job.finished_at or job.created_at) < timedelta(seconds=recheck_s)


def wants_quicklooks(selection: Selection) -> bool:
    """Return whether *selection* includes quicklooks, which need one list request per task."""
    return Kind.QUICKLOOK in selection.kinds and Level.TASK in selection.levels


def must_be_listed(record: JobRecord | None, selection: Selection, *, recheck_absent: bool = False) -> bool:
    """
    Return whether the tasks of a job, or their quicklooks, must be requested.

    Args:
        record: The recorded job; None for a new job.
        recheck_absent: Whether a list of quicklooks that was not available is requested again.
    """
    if record is None or not record.tasks_listed:
        return True
    needs_quicklooks = wants_quicklooks(selection)
    if selection.reasons is not None:
        if record.listing_failure in selection.reasons - {None}:
            return True
        needs_quicklooks &= any(
            is_listing_placeholder(output.output) and matches_reasons(output, selection)
            for output in record.outputs
        )
    elif not recheck_absent:
        placeholders = [output for output in record.outputs if is_listing_placeholder(output.output)]
        if placeholders and all(output.is_not_available for output in placeholders):
            return False
    return needs_quicklooks and not record.quicklooks_listed


def matches_reasons(record: OutputRecord, selection: Selection) -> bool:
    """Return whether the recorded reason of an output is selected. New outputs always match."""
    if selection.reasons is None or record.state == NEW:
        return True
    if record.reason is None and record.file is None:
        return False  # it is planned and was not attempted
    return record.reason in selection.reasons


def split_missing(
    outputs: Iterable[OutputRecord],
    selection: Selection,
    sizes: Mapping[str, int],
    *,
    recheck_absent: bool = False,
) -> PlanResult:
    """
    Divide the selected *outputs* into missing and up to date.

    Args:
        sizes: Sizes of the existing files in bytes, by key. A completed output is missing if its file does
            not exist or has another size.
        recheck_absent: Whether an output that was not available counts as missing.
    """
    missing, up_to_date = [], []
    for record in outputs:
        if not selection.includes(record.output) or not matches_reasons(record, selection):
            continue
        is_absent = record.is_not_available and selection.reasons is None
        if is_listing_placeholder(record.output):
            up_to_date += [record] if is_absent else []
        elif (is_absent and not recheck_absent) or _has_file(record, sizes):
            up_to_date.append(record)
        else:
            missing.append(MissingOutput(record.output, record.filename))
    return PlanResult(tuple(missing), tuple(up_to_date))


def _has_file(record: OutputRecord, sizes: Mapping[str, int]) -> bool:
    file = record.file
    return record.is_completed and file is not None and sizes.get(file.key) == file.size_bytes

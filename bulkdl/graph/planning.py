"""
Compare recorded containers and outputs with the selection and the files. The functions are pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from bulkdl.ledger.rows import NEW, ContainerRecord, OutputRecord
from bulkdl.listings import PlannedOutput
from bulkdl.models import Container
from bulkdl.selection import Selection
from bulkdl.source_spec import is_listing_placeholder

# One worker downloads the outputs of a group one after another, because they can be the same stored object.
SameObjectGroup = tuple[PlannedOutput, ...]


@dataclass(frozen=True, slots=True)
class PlanResult:
    """The selected outputs of a container that are missing, and those that are up to date."""

    missing: tuple[PlannedOutput, ...]
    up_to_date: tuple[OutputRecord, ...]


def is_recent(container: Container, now_at: datetime, recheck_s: float) -> bool:
    """Return whether *container* became final so lately that an output which was absent may exist now."""
    return now_at - (container.finished_at or container.created_at) < timedelta(seconds=recheck_s)


def must_be_listed(
    record: ContainerRecord | None,
    selection: Selection,
    kinds: frozenset[str],
    *,
    recheck_absent: bool = False,
) -> bool:
    """
    Return whether the outputs of a container must be requested.

    Args:
        record: The recorded container; None for a new container.
        kinds: The kinds of the source that can have selected outputs.
        recheck_absent: Whether a list of outputs that was not available is requested again.
    """
    if record is None or not record.listed_kinds:
        return True
    unlisted_kinds = kinds - record.listed_kinds
    if selection.reasons is not None:
        if record.listing_failure in selection.reasons - {None}:
            return True
        return bool(unlisted_kinds) and any(
            is_listing_placeholder(output.output) and matches_reasons(output, selection)
            for output in record.outputs
        )
    if unlisted_kinds and not recheck_absent:
        placeholders = [output for output in record.outputs if is_listing_placeholder(output.output)]
        if placeholders and all(output.is_not_available for output in placeholders):
            return False
    return bool(unlisted_kinds)


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
    path_values: Mapping[str, str] = MappingProxyType({}),
) -> PlanResult:
    """
    Divide the selected *outputs* into missing and up to date.

    Args:
        sizes: Sizes of the existing files in bytes, by key. A completed output is missing if its file does
            not exist or has another size.
        recheck_absent: Whether an output that was not available counts as missing.
        path_values: Those of the container.
    """
    missing, up_to_date = [], []
    is_retry = selection.reasons is not None
    for record in outputs:
        if not selection.includes(record.output) or (is_retry and not matches_reasons(record, selection)):
            continue
        if _has_file(record, sizes):
            up_to_date.append(record)
            continue
        is_absent = record.is_not_available and not is_retry
        if is_listing_placeholder(record.output):
            up_to_date += [record] if is_absent else []
        elif is_absent and not recheck_absent:
            up_to_date.append(record)
        else:
            missing.append(PlannedOutput(record.output, record.filename, record.identity, path_values))
    return PlanResult(tuple(missing), tuple(up_to_date))


def _has_file(record: OutputRecord, sizes: Mapping[str, int]) -> bool:
    file = record.file
    return record.is_completed and file is not None and sizes.get(file.key) == file.size_bytes


def group_same_objects(missing: Iterable[PlannedOutput]) -> list[SameObjectGroup]:
    """
    Group the outputs of one container that can be the same object, those of the container itself last.

    Every other output is a group of its own.
    """
    single: list[SameObjectGroup] = []
    groups: dict[str, list[PlannedOutput]] = {}
    for planned in missing:
        if planned.identity:
            groups.setdefault(planned.identity, []).append(planned)
        else:
            single.append((planned,))
    return single + [
        tuple(sorted(group, key=lambda missing: not missing.output.parent)) for group in groups.values()
    ]

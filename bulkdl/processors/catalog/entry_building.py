"""Build entries: the parts that all sources share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bulkdl.failure_policy import FAILURE_POLICIES
from bulkdl.models import Outcome, Reason
from bulkdl.processors.catalog.facts import CatalogEntry, CatalogFile, CatalogOutput, Footprint
from bulkdl.processors.catalog.ids import ItemIds
from bulkdl.processors.catalog.output_tree import OutputTree, clean
from bulkdl.processors.catalog.records import LedgerContainer, LedgerOutput

_MAX_TITLE_CHARS = 200


def is_completed(output: LedgerOutput | None, tree: OutputTree) -> bool:
    """Return whether *output* is completed and its file exists."""
    return output is not None and output.state == Outcome.COMPLETED and tree.exists(output.key)


def missing_notes(output: LedgerOutput | None, tree: OutputTree) -> list[str]:
    """Return a note if *output* is completed and neither its file nor its unpacked folder exists."""
    if output is None or output.state != Outcome.COMPLETED or tree.exists(output.key):
        return []
    if output.unpack_state == "completed" and tree.unpacked(output.key) is not None:
        return []
    return [f"The file {output.key} is missing; bulkdl verify --repair marks it for the next download."]


def hint_of(state: str, reason: str) -> str:
    """Return the next step for the user after a failure; empty for another state."""
    if state != Outcome.FAILED or not reason:
        return ""
    policy = FAILURE_POLICIES.get(Reason(reason))
    return policy.hint if policy else ""


def describe_outputs(outputs: Iterable[LedgerOutput | None]) -> tuple[CatalogOutput, ...]:
    return tuple(
        CatalogOutput(output.kind, clean(output.name), output.key) for output in outputs if output is not None
    )


def unpack_notes(output: LedgerOutput | None) -> list[str]:
    """Return what the unpacker reported for an archive."""
    if output is None or not output.unpack_detail:
        return []
    if output.unpack_state == "failed":
        return [f"The archive could not be unpacked: {output.unpack_detail}"]
    return [f"Unpacked: {output.unpack_detail}."] if "left out" in output.unpack_detail else []


class EntryFactory:
    """Creates the entries of one container with unique IDs."""

    def __init__(self, tree: OutputTree, container: LedgerContainer) -> None:
        self.tree = tree
        self.container = container
        self._ids = ItemIds()

    def create(
        self,
        main: LedgerOutput,
        *,
        names: Sequence[str],
        outputs: Sequence[LedgerOutput | None] = (),
        files: Sequence[CatalogFile] = (),
        **values: Any,
    ) -> CatalogEntry:
        """
        Return an entry with the state of *main*.

        Args:
            names: Possible names for the ID and the title, the best one first.
            outputs: The other outputs that the entry describes.
            values: Further attributes of the entry.
        """
        title = clean(next(filter(None, names), main.kind))[:_MAX_TITLE_CHARS]
        return CatalogEntry(
            id=self._ids.add(main.parent or self.container.id, [*names, main.kind]),
            title=title,
            parent_id=main.parent,
            parent_name=values.pop("parent_name", ""),
            block=values.pop("block", ""),
            outputs=describe_outputs((main, *(output for output in outputs if output is not main))),
            state=main.state,
            reason=main.reason,
            detail=clean(main.detail),
            hint=hint_of(main.state, main.reason),
            files=tuple(files),
            **values,
        )

    def create_problem(
        self, output: LedgerOutput, footprint: Footprint | None = None, **values: Any
    ) -> CatalogEntry:
        """Return the entry of an output that has no file: a failed or a skipped one."""
        name = output.name or output.key.rpartition("/")[2]
        names = [f"{output.kind}-{name}" if name else output.kind]
        notes = (*values.pop("notes", ()), *missing_notes(output, self.tree))
        return self.create(output, names=names, footprint=footprint, notes=notes, **values)

"""Write the page: index.html with the data that all entries need, and files with the details."""

from __future__ import annotations

import secrets
from typing import Any

from bulkdl.failure_policy import FAILURE_POLICIES
from bulkdl.processors.catalog.facts import CatalogContainer, CatalogEntry, CatalogInfo
from bulkdl.processors.catalog.page.columns import PageColumns
from bulkdl.processors.catalog.page.details import describe_entry
from bulkdl.processors.catalog.page.document import dump_json, write_document

DETAILS_PER_FILE = 1_000
_HINTS = {reason.value: policy.hint for reason, policy in FAILURE_POLICIES.items()}


class PageWriter:
    """
    A ``CatalogWriter`` of the page.

    Memory holds the columns of all entries and the details of at most 1,000 entries.
    """

    def __init__(self, info: CatalogInfo) -> None:
        self._info = info
        self._columns = PageColumns()
        self._details: list[dict[str, Any]] = []
        self._files_written = 0
        # The page ignores details of another catalogue: it may stay open while a new one is published.
        self._stamp = secrets.token_hex(8)
        self._folder = info.folder / "page"
        self._folder.mkdir()

    def add(self, container: CatalogContainer) -> None:
        """Add the entries of *container*, and one for a container without a list of outputs."""
        self._columns.add_container(container)
        if container.failure:
            self._add_entry(_create_missing_list(container))
        for entry in container.entries:
            self._add_entry(entry)

    def finish(self) -> None:
        """Write the last details and index.html."""
        self._write_details()
        info = self._info
        meta = {
            "stamp": self._stamp,
            "count": len(self._columns),
            "detailsPerFile": DETAILS_PER_FILE,
            "writtenAt": info.written_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "version": info.version,
            "running": info.running,
            "formats": sorted(info.formats),
            **self._columns.tables,
        }
        write_document(info.index, meta, self._columns.iter_sections())

    def close(self) -> None:
        """Release the details that were not written."""
        self._details.clear()

    def _add_entry(self, entry: CatalogEntry) -> None:
        self._columns.add_entry(entry)
        self._details.append(describe_entry(entry))
        if len(self._details) == DETAILS_PER_FILE:
            self._write_details()

    def _write_details(self) -> None:
        if not self._details:
            return
        # A script is the only file that a page from the disk may read.
        number = self._files_written
        text = f'bulkdl.receiveDetails("{self._stamp}",{number},{dump_json(self._details)});\n'
        (self._folder / f"{number:04}.js").write_text(text, "utf-8")
        self._files_written += 1
        self._details.clear()


def _create_missing_list(container: CatalogContainer) -> CatalogEntry:
    # The reasons of failures have a policy; a job that has not finished is skipped.
    is_failed = container.failure in _HINTS
    return CatalogEntry(
        id="",
        title="Outputs not listed" if is_failed else "No outputs yet",
        parent_id="",
        parent_name="",
        block="",
        outputs=(),
        state="failed" if is_failed else "skipped",
        reason=container.failure,
        detail=container.failure_detail,
        hint=_HINTS.get(container.failure, ""),
        start=container.created_at or None,
        end=container.finished_at or None,
        datetime_source="job",
    )

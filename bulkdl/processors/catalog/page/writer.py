"""Write the page: index.html with the data that all entries need, and files with the details."""

from __future__ import annotations

import secrets
from typing import Any

from bulkdl.failure_policy import FAILURE_POLICIES
from bulkdl.models import Reason
from bulkdl.processors.catalog.facts import CatalogContainer, CatalogEntry, CatalogInfo
from bulkdl.processors.catalog.page.columns import PageColumns
from bulkdl.processors.catalog.page.details import describe_entry
from bulkdl.processors.catalog.page.document import dump_json, write_document

DETAILS_PER_FILE = 1_000


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
        """Add the entries of *container*, and one for a container that could not be listed."""
        self._columns.add_container(container)
        if container.failure:
            self._add_entry(_create_listing_failure(container))
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


def _create_listing_failure(container: CatalogContainer) -> CatalogEntry:
    known = {reason.value: policy.hint for reason, policy in FAILURE_POLICIES.items()}
    return CatalogEntry(
        id="",
        title="The outputs could not be listed",
        parent_id="",
        parent_name="",
        block="",
        outputs=(),
        state="failed",
        reason=container.failure,
        detail=container.failure_detail,
        hint=known.get(container.failure, FAILURE_POLICIES[Reason.INTERNAL].hint),
        start=container.created_at or None,
        end=container.finished_at or None,
        datetime_source="job",
    )

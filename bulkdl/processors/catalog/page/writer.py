"""Write the page: index.html with the data that all entries need, and files with the details."""

from __future__ import annotations

import json
import secrets

from bulkdl.failure_policy import FAILURE_POLICIES
from bulkdl.processors.catalog.facts import CatalogContainer, CatalogEntry, CatalogInfo
from bulkdl.processors.catalog.json_text import encode_ascii
from bulkdl.processors.catalog.page.columns import PageColumns, describe_container, describe_row
from bulkdl.processors.catalog.page.details import describe_entry
from bulkdl.processors.catalog.page.document import dump_json, write_document
from bulkdl.processors.catalog.unchanged import TextWriter

DETAILS_PER_FILE = 1_000
_BETWEEN_PARTS = "\x1e"  # JSON escapes it
_HINTS = {reason.value: policy.hint for reason, policy in FAILURE_POLICIES.items()}


class PageWriter(TextWriter):
    """
    The writer of the page.

    Memory holds the columns of all entries and the details of at most 1,000 entries.
    """

    format = "page"

    def __init__(self, info: CatalogInfo) -> None:
        self._info = info
        self._columns = PageColumns()
        self._details: list[str] = []
        self._files_written = 0
        # The page ignores details of another catalogue: it may stay open while a new one is published.
        self._stamp = secrets.token_hex(8)
        self._folder = info.folder / "page"
        self._folder.mkdir()

    def render(self, container: CatalogContainer) -> str:
        """Return the rows and the details of the entries, and of a container without a list of outputs."""
        failed = [_create_missing_list(container)] if container.failure else []
        entries = (*failed, *container.entries)
        rows = [describe_container(container), [describe_row(entry) for entry in entries]]
        details = (dump_json(describe_entry(entry)) for entry in entries)
        return _BETWEEN_PARTS.join((encode_ascii(rows), *details))

    def write(self, text: str) -> None:
        """Add the rows and the details of a container."""
        head, *details = text.split(_BETWEEN_PARTS)
        container, rows = json.loads(head)
        self._columns.add_container(container)
        for row, described in zip(rows, details, strict=True):
            self._columns.add_row(row)
            self._details.append(described)
            if len(self._details) == DETAILS_PER_FILE:
                self._write_details()

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

    def _write_details(self) -> None:
        if not self._details:
            return
        # A script is the only file that a page from the disk may read.
        number = self._files_written
        details = ",".join(self._details)
        text = f'bulkdl.receiveDetails("{self._stamp}",{number},[{details}]);\n'
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

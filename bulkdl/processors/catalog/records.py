"""The containers of the ledger as the catalogue reads them. The caller converts the rows of the ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

DocumentKey = Callable[[str, str], str]
"""Returns the key of a document: of its name, such as ``job``, and of the folder of an item or ''."""


@dataclass(frozen=True, slots=True)
class LedgerOutput:
    """
    An output of the ledger; see the table ``outputs``.

    Attributes:
        key: The path of its file relative to the output directory; empty if it was never committed.
        digest: ``algorithm=value`` of the file; empty without a file.
        unpack_state: The state of its archive for the processor ``unpack``; empty: not processed.
        unpack_detail: One line of that processor.
        recorded_at: When the output and its unpacked files were recorded.
    """

    parent: str
    kind: str
    name: str
    state: str
    reason: str
    detail: str
    key: str
    size_bytes: int
    digest: str
    unpack_state: str = ""
    unpack_detail: str = ""
    recorded_at: str = ""

    def fields(self) -> tuple[object, ...]:
        """Return all values, to compare them."""
        values: tuple[object, ...] = _get_fields(self)
        return values


_get_fields = attrgetter(*LedgerOutput.__slots__)


@dataclass(frozen=True, slots=True)
class LedgerContainer:
    """
    A container of the ledger with its outputs.

    Attributes:
        created_at, finished_at: RFC 3339 in UTC with ``Z``; *finished_at* is empty if it is not known.
        failure, failure_detail: Reason and cause if its outputs could not be listed.
        document_key: The keys of its documents; None if the source has no documents.
    """

    source: str
    scope: str
    id: str
    name: str
    status: str
    created_at: str
    finished_at: str
    failure: str
    failure_detail: str
    outputs: tuple[LedgerOutput, ...]
    document_key: DocumentKey | None = None

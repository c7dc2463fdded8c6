"""Check archives. They are read, not unpacked to disk."""

from __future__ import annotations

from typing import BinaryIO

from bulkdl.archives.formats import archive_suffix
from bulkdl.archives.inspection import inspect_archive
from bulkdl.content.heads import is_markup, quote_head
from bulkdl.errors import ContentRejectedError
from bulkdl.models import Reason


class ArchiveChecks:
    """Accepts archives, and any other binary data if the server sent a checksum of it."""

    def check_head(self, head: bytes, content_type: str, *, has_digest: bool) -> str:
        """Return the suffix for the name of the archive."""
        del content_type  # it is often wrong
        suffix = archive_suffix(head)
        if suffix is None and (is_markup(head) or not has_digest):
            raise ContentRejectedError(
                Reason.UNEXPECTED_CONTENT, f"not an archive (starts with {quote_head(head)})"
            )
        return suffix or ".bin"

    def needs_validation(self, *, has_digest: bool) -> bool:
        """Return whether there is no checksum."""
        return not has_digest

    def is_cheap(self, size_bytes: int) -> bool:
        """Return False: an archive can unpack to any size."""
        del size_bytes
        return False

    def validate(self, stream: BinaryIO, size_bytes: int) -> None:
        """Read the whole archive."""
        del size_bytes
        inspect_archive(stream)


CHECKS = ArchiveChecks()

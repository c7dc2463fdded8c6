"""Check images."""

from __future__ import annotations

from typing import BinaryIO

from bulkdl.content import images
from bulkdl.content.heads import is_markup, quote_head
from bulkdl.errors import ContentRejectedError, TransferError
from bulkdl.models import Reason

_CHEAP_BYTES = 64 << 10


class ImageChecks:
    """Accepts images of known formats, and unknown formats that the server declares as images."""

    def check_head(self, head: bytes, content_type: str, *, has_digest: bool) -> str:
        """Return no suffix: the server chooses the file name."""
        del has_digest
        if not images.is_image(head) and (is_markup(head) or not images.may_be_image(head, content_type)):
            raise ContentRejectedError(
                Reason.UNEXPECTED_CONTENT, f"not an image (starts with {quote_head(head)})"
            )
        return ""

    def needs_validation(self, *, has_digest: bool) -> bool:
        """Return whether there is no checksum."""
        return not has_digest

    def is_cheap(self, size_bytes: int) -> bool:
        """Return whether the image is small."""
        return size_bytes <= _CHEAP_BYTES

    def validate(self, stream: BinaryIO, size_bytes: int) -> None:
        """Check that the image is complete."""
        if not images.is_complete(stream, size_bytes):
            raise TransferError(Reason.CORRUPT_CONTENT, "the image is truncated")


CHECKS = ImageChecks()

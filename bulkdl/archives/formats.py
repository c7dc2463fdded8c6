"""Recognise the format of an archive by its first bytes."""

from __future__ import annotations

from bulkdl.archives.errors import DamagedArchiveError
from bulkdl.archives.tar_headers import TAR_BLOCK_BYTES, parse_header

HEAD_BYTES = 512


def archive_suffix(head: bytes) -> str | None:
    """Return ``.tar.gz``, ``.zip`` or ``.tar`` by the magic bytes, or None if they are unknown."""
    if head.startswith(b"\x1f\x8b"):
        return ".tar.gz"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return ".zip"
    if head[257:262] == b"ustar" or _is_old_tar(head):
        return ".tar"
    return None


def _is_old_tar(head: bytes) -> bool:
    try:
        parse_header(head[:TAR_BLOCK_BYTES])
    except DamagedArchiveError:
        return False
    return True

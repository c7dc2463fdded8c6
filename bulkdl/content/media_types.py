"""
Check files whose names announce their format: rasters, images, documents and archives.

A file with a known suffix must start like its format. An unknown format is accepted unless it is an error
page. The functions are pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

import ijson

from bulkdl.archives.formats import archive_suffix
from bulkdl.archives.inspection import inspect_archive
from bulkdl.content import images
from bulkdl.content.heads import is_markup, quote_head
from bulkdl.errors import ContentRejectedError, TransferError
from bulkdl.models import Reason

_TEXT_START = b"\xef\xbb\xbf \t\r\n"
_HTML = re.compile(rb"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
# Storage services report errors as <Error><Code>…; a gateway can return one with status 200.
_ERROR_DOCUMENT = re.compile(rb"(?:<\?xml[^>]*>\s*)?<Error>\s*<Code>")
_IN_MEMORY_BYTES = 16 << 20
_CHEAP_BYTES = 64 << 10
_TAIL_BYTES = 64


def _is_tiff(head: bytes) -> bool:
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF


def _is_jp2(head: bytes) -> bool:
    return head.startswith((b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"))  # a file, or a codestream


def _is_jpeg(head: bytes) -> bool:
    return head.startswith(b"\xff\xd8\xff")


def _is_png(head: bytes) -> bool:
    return head.startswith(b"\x89PNG\r\n\x1a\n")


def _is_json(head: bytes) -> bool:
    return head.lstrip(_TEXT_START)[:1] in (b"{", b"[")


def _is_xml(head: bytes) -> bool:
    return head.lstrip(_TEXT_START)[:1] == b"<" and not _is_error_page(head)


def _is_pdf(head: bytes) -> bool:
    return b"%PDF-" in head


def _is_zip(head: bytes) -> bool:
    return archive_suffix(head) == ".zip"


def _is_gzip(head: bytes) -> bool:
    return archive_suffix(head) == ".tar.gz"


def _is_tar(head: bytes) -> bool:
    return archive_suffix(head) == ".tar"


def _is_error_page(head: bytes) -> bool:
    start = head.lstrip(_TEXT_START)
    return _HTML.match(start) is not None or _ERROR_DOCUMENT.match(start) is not None


_IsFormat = Callable[[bytes], bool]
_FORMATS: Mapping[str, _IsFormat] = {
    "tif": _is_tiff,
    "tiff": _is_tiff,
    "jp2": _is_jp2,
    "j2k": _is_jp2,
    "jpg": _is_jpeg,
    "jpeg": _is_jpeg,
    "png": _is_png,
    "json": _is_json,
    "geojson": _is_json,
    "xml": _is_xml,
    "pdf": _is_pdf,
    "zip": _is_zip,
    "tgz": _is_gzip,
    "gz": _is_gzip,
    "tar": _is_tar,
}
# The suffixes of originals without one, by their content.
ORIGINAL_SUFFIXES = ("", ".zip", ".tgz", ".tar", ".tiff", ".jp2", ".bin")
_SUFFIX_BY_CONTENT: tuple[tuple[_IsFormat, str], ...] = (
    (_is_zip, ".zip"),
    (_is_gzip, ".tgz"),
    (_is_tiff, ".tiff"),
    (_is_jp2, ".jp2"),
    (_is_tar, ".tar"),
)
_ARCHIVES = frozenset({"zip", "tgz", "gz", "tar"})
_JSON_SUFFIXES = frozenset({"json", "geojson"})
_IMAGES = frozenset({"jpg", "jpeg", "png"})


def find_suffix(filename: str) -> str:
    """Return the suffix of *filename* in lower case without its dot; empty if there is none."""
    stem, dot, suffix = filename.rpartition(".")
    return suffix.lower() if dot and stem else ""


@dataclass(frozen=True, slots=True)
class MediaChecks:
    """
    Checks of a file with the format that its name announces.

    Attributes:
        suffix: The suffix of the file name, see ``find_suffix``.
        is_original: The file is an original delivery: an archive or a raster. Its name can announce another
            of these formats than it has, and it can have no suffix.
    """

    suffix: str
    is_original: bool = False

    def check_head(self, head: bytes, content_type: str, *, has_digest: bool) -> str:
        """Return the suffix for an original without one; empty for other files."""
        del content_type  # the storage returns the type that was stored, which is often wrong
        if _is_error_page(head) or (not head and self.suffix in _FORMATS):
            raise _reject(f"an error page, not {self._expected()}", head)
        if self.is_original:
            return self._check_original(head, has_digest=has_digest)
        is_format = _FORMATS.get(self.suffix)
        # With a checksum, binary data of another format is what the server has stored.
        if is_format is None or is_format(head) or (has_digest and not is_markup(head)):
            return ""
        raise _reject(f"not {self._expected()}", head)

    def _check_original(self, head: bytes, *, has_digest: bool) -> str:
        found = next((suffix for is_format, suffix in _SUFFIX_BY_CONTENT if is_format(head)), None)
        if found is None and (is_markup(head) or not has_digest):
            raise _reject("not an archive or a raster", head)
        return "" if self.suffix in _FORMATS else found or ".bin"

    def _expected(self) -> str:
        return f"{self.suffix} data" if self.suffix in _FORMATS else "the output"

    def needs_validation(self, *, has_digest: bool) -> bool:
        """Return whether there is no checksum."""
        return not has_digest

    def is_cheap(self, size_bytes: int) -> bool:
        """Return whether the file is small and is not an archive, which can unpack to any size."""
        return not self.is_original and self.suffix not in _ARCHIVES and size_bytes <= _CHEAP_BYTES

    def validate(self, stream: BinaryIO, size_bytes: int) -> None:
        """Check that the file is complete, as far as its format shows it."""
        head = stream.read(512)
        stream.seek(0)
        if archive_suffix(head) is not None and (self.is_original or self.suffix in _ARCHIVES):
            inspect_archive(stream)
        elif self.suffix in _IMAGES and not images.is_complete(stream, size_bytes):
            raise TransferError(Reason.CORRUPT_CONTENT, "the image is truncated")
        elif self.suffix in _JSON_SUFFIXES:
            _validate_json(stream, size_bytes)
        elif self.suffix == "xml":
            stream.seek(max(0, size_bytes - _TAIL_BYTES))
            if not stream.read(_TAIL_BYTES).rstrip(b" \t\r\n\0").endswith(b">"):
                raise TransferError(Reason.CORRUPT_CONTENT, "the XML document is truncated")


def _reject(problem: str, head: bytes) -> ContentRejectedError:
    return ContentRejectedError(Reason.UNEXPECTED_CONTENT, f"{problem} (starts with {quote_head(head)})")


def _validate_json(stream: BinaryIO, size_bytes: int) -> None:
    try:
        if size_bytes <= _IN_MEMORY_BYTES:
            json.loads(stream.read().decode("utf-8-sig"))
        else:
            if stream.read(3) != b"\xef\xbb\xbf":
                stream.seek(0)
            for _ in ijson.basic_parse(stream):
                pass
    except (ValueError, RecursionError, ijson.JSONError) as error:
        raise TransferError(Reason.CORRUPT_CONTENT, f"invalid JSON ({type(error).__name__})") from None


def checks_for_original(filename: str) -> MediaChecks:
    """Return the checks of an original delivery with the name *filename*."""
    return MediaChecks(find_suffix(filename), is_original=True)


def checks_for_asset(filename: str) -> MediaChecks:
    """Return the checks of any other asset with the name *filename*."""
    return MediaChecks(find_suffix(filename))

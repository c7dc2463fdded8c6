"""
Check the names of archive members and find conflicts between them.

A name must be a relative path that every reader of the unpacked files sees as the same path. Names that are
equal on a file system without case or with Unicode normalisation conflict: one of the files would be lost.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass

_DRIVE = re.compile(r"[A-Za-z]:")
_DIGEST_BYTES = 16
_FILE_MARK = b""
_CONFLICT = "the path occurs twice, as a file and a folder, or with differences of case or accents only"


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """
    Bounds of one archive. There is no limit on the compression ratio: empty rasters compress a thousandfold.

    Attributes:
        max_members: Files, folders and left-out members together.
        max_bytes: Size of all files; None: only the disk space is a limit.
        max_name_bytes: Length of a path in UTF-8.
        max_part_bytes: Length of one part of a path in UTF-8.
        max_depth: Parts of a path.
    """

    max_members: int = 100_000
    max_bytes: int | None = None
    max_name_bytes: int = 1024
    max_part_bytes: int = 255
    max_depth: int = 64


class RejectedMemberError(Exception):
    """A member is not unpacked: its name is unsafe or conflicts with another, or a limit is exceeded."""


def split_name(name: str, limits: UnpackLimits) -> tuple[str, ...]:
    """
    Return the parts of the path *name*; empty for the root of the archive.

    Raises:
        RejectedMemberError: The name is not a safe relative path within the limits.
    """
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise RejectedMemberError("the name is not valid UTF-8") from None
    if len(encoded) > limits.max_name_bytes:
        raise RejectedMemberError(f"the name is longer than {limits.max_name_bytes} bytes")
    if name.startswith("/") or "\\" in name or _DRIVE.match(name):
        raise RejectedMemberError("the name is not a relative path with forward slashes")
    if not name.isprintable():
        raise RejectedMemberError("the name contains a control character or an invisible character")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise RejectedMemberError("the name contains '..'")
    if len(parts) > limits.max_depth:
        raise RejectedMemberError(f"the name has more than {limits.max_depth} parts")
    if any(len(part.encode()) > limits.max_part_bytes for part in parts):
        raise RejectedMemberError(f"a part of the name is longer than {limits.max_part_bytes} bytes")
    return parts


class NameClaims:
    """
    The paths of one archive and whether each of them is a file or a folder.

    The memory of a path is 150 bytes, whatever its length: only digests are stored.

    Args:
        max_members: Limit of the number of paths.
    """

    def __init__(self, max_members: int) -> None:
        self._max_members = max_members
        self._claims: dict[
            bytes, bytes
        ] = {}  # digest of the folded path: digest of the exact path of a folder
        self._current_folder: tuple[str, ...] | None = None

    def claim_folder(self, parts: tuple[str, ...]) -> None:
        """
        Claim a folder and its parents. A folder can be claimed again with the same spelling.

        Raises:
            RejectedMemberError: A path is claimed as a file or in another spelling, or there are too many.
        """
        if parts == self._current_folder:
            return
        for depth in range(1, len(parts) + 1):
            path = "/".join(parts[:depth])
            mark = _digest(path)
            if self._claim(path, mark) not in (None, mark):
                raise RejectedMemberError(_CONFLICT)
        self._current_folder = parts

    def claim_file(self, parts: tuple[str, ...]) -> None:
        """
        Claim a file and its parent folders.

        Raises:
            RejectedMemberError: The path is claimed already, or as ``claim_folder``.
        """
        self.claim_folder(parts[:-1])
        if self._claim("/".join(parts), _FILE_MARK) is not None:
            raise RejectedMemberError(_CONFLICT)

    def _claim(self, path: str, mark: bytes) -> bytes | None:
        """Enter *mark* for *path* and return None, or return the mark that is entered already."""
        key = _digest(_fold(path))
        claimed = self._claims.get(key)
        if claimed is None:
            if len(self._claims) >= self._max_members:
                raise RejectedMemberError(f"the archive has more than {self._max_members} files and folders")
            self._claims[key] = mark
        return claimed


def _fold(path: str) -> str:
    """Return *path* without differences of case and of canonical equivalence (Unicode, D145)."""
    if path.isascii():
        return path.lower()
    folded = unicodedata.normalize("NFD", path).casefold()
    return unicodedata.normalize("NFC", folded)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest()

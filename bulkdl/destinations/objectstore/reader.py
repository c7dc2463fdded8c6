"""Read an object as a seekable stream, in ranges of growing size."""

from __future__ import annotations

import io
import os

import obstore
from obstore.exceptions import PreconditionError
from obstore.store import ObjectStore

from bulkdl.destinations.objectstore.failures import STORE_ERRORS, convert_error
from bulkdl.errors import DestinationError
from bulkdl.models import Reason

_MIN_RANGE_BYTES = 1 << 20
_MAX_RANGE_BYTES = 8 << 20
_MAX_OPENS = 4


class ObjectReader(io.RawIOBase):
    """
    The bytes of the object *key*; blocks. All ranges are of one version of the object.

    A range is larger than the range before it if it follows it. Therefore a reader of a few bytes does not
    request many, and a reader of the whole object needs few requests.

    Raises:
        FileNotFoundError: The object does not exist.
        DestinationError: The object cannot be read, or it changed between two reads.
    """

    def __init__(self, store: ObjectStore, key: str) -> None:
        super().__init__()
        self._store = store
        self._key = key
        self._position = 0
        self._buffer = memoryview(b"")
        self._buffer_start = 0
        self._range_bytes = _MIN_RANGE_BYTES
        self._opens = 0
        self._open()

    def _open(self) -> None:
        self._opens += 1
        try:
            meta = obstore.head(self._store, self._key)
        except FileNotFoundError:
            raise FileNotFoundError(f"{self._key}: not found") from None
        except STORE_ERRORS as error:
            raise convert_error(error, f"{self._key}: read") from None
        except ValueError:
            raise FileNotFoundError(f"{self._key}: not a valid key") from None
        self._size_bytes, self._etag = meta["size"], meta["e_tag"]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size_bytes}[whence]
        if base + offset < 0:
            raise ValueError("negative seek position")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, target: bytearray | memoryview) -> int:  # type: ignore[override]
        if not self._is_buffered() and not self._fetch():
            return 0
        start = self._position - self._buffer_start
        chunk = self._buffer[start : start + len(target)]
        target[: len(chunk)] = chunk
        self._position += len(chunk)
        return len(chunk)

    def readall(self) -> bytes:
        """Return the bytes from the position to the end, with few copies."""
        chunks = []
        while self._is_buffered() or self._fetch():
            chunks.append(self._buffer[self._position - self._buffer_start :])
            self._position += len(chunks[-1])
        return b"".join(chunks)

    def _is_buffered(self) -> bool:
        return self._buffer_start <= self._position < self._buffer_start + len(self._buffer)

    def _fetch(self) -> bool:
        """Request the range at the position; return False at the end of the object."""
        is_next = self._position == self._buffer_start + len(self._buffer)
        self._range_bytes = min(2 * self._range_bytes, _MAX_RANGE_BYTES) if is_next else _MIN_RANGE_BYTES
        while self._position < self._size_bytes:
            end = min(self._position + self._range_bytes, self._size_bytes)
            try:
                found = obstore.get(
                    self._store, self._key, options={"if_match": self._etag, "range": (self._position, end)}
                )
                self._buffer, self._buffer_start = memoryview(found.bytes()), self._position
            except PreconditionError:
                self._reopen()
            except FileNotFoundError:
                raise FileNotFoundError(f"{self._key}: not found") from None
            except STORE_ERRORS as error:
                raise convert_error(error, f"{self._key}: read") from None
            else:
                return True
        return False

    def _reopen(self) -> None:
        """Open the new version of the object, unless bytes of the old one were returned."""
        if self._buffer or self._opens >= _MAX_OPENS:
            raise DestinationError(Reason.OBJECT_CHANGED, f"{self._key}: the object changed during the read")
        self._open()

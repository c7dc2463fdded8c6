"""The objects of the storage of a foreign origin, with the headers that the storage sends for them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import random
import struct
import tarfile
import zlib
from dataclasses import dataclass
from email.utils import formatdate


@dataclass
class StoredArchive:
    """
    An object of the storage.

    Attributes:
        style: Headers of the storage: ``gcs`` (md5 and ETag), ``etag``, ``date``, ``chunked``.
    """

    seed: int
    size_bytes: int
    style: str = "gcs"
    version: int = 1
    body: bytes = b""

    def __post_init__(self) -> None:
        self.body = self.create_body(self.seed)

    def create_body(self, seed: int) -> bytes:
        return tgz(seed, self.size_bytes)

    def change(self) -> None:
        """Replace the content with different bytes of the same length."""
        self.version += 1
        self.body = self.create_body(self.seed + 1000 * self.version)

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha1(self.body).hexdigest()}"'  # noqa: S324 - used as ETag only

    def headers(self) -> list[tuple[str, str]]:
        date = formatdate(1_600_000_000 + 1000 * self.version, usegmt=True)
        found = [("Content-Type", "application/x-tar"), ("Accept-Ranges", "bytes")]
        if self.style in ("date", "gcs"):
            found.append(("Last-Modified", date))
        if self.style != "date":
            found.append(("ETag", self.etag))
        if self.style == "gcs":
            md5 = base64.b64encode(hashlib.md5(self.body).digest()).decode()  # noqa: S324 - as GCS does
            found.append(("x-goog-hash", f"md5={md5}"))
        return found

    def is_same(self, condition: str | None) -> bool:
        names = {name: value for name, value in self.headers() if name in ("ETag", "Last-Modified")}
        return condition is None or condition in names.values()


def tgz(seed: int, size_bytes: int) -> bytes:
    """Create a gzipped TAR. Equal sizes result in equal lengths."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        data = random.Random(seed).randbytes(size_bytes)
        member = tarfile.TarInfo(f"output/{seed}.tif")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return gzip.compress(out.getvalue(), 0, mtime=0)


def png(seed: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    side = 24
    rows = b"".join(b"\0" + random.Random(seed + row).randbytes(3 * side) for row in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )

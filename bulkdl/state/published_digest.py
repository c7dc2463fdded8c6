"""Compare a published object with the checksum that was computed before its publication."""

from __future__ import annotations

import threading
from pathlib import Path

from bulkdl.concurrency import check_stop
from bulkdl.destinations.interfaces import Destination
from bulkdl.models import CommittedFile
from bulkdl.os_errors import map_path_errors
from bulkdl.transfer.checksums import Digester

_READ_BYTES = 64 << 20  # between two checks for a stopped run


def has_published_digest(stop: threading.Event, destination: Destination, file: CommittedFile) -> bool:
    """
    Return whether the object of *file* in *destination* has the size and the digest of *file*. Blocks.

    A power cut can change a file that was renamed before its bytes were durable.
    """
    digester = Digester((file.digest,))
    with map_path_errors(Path(file.key)), destination.open_reader(file.key) as stream:
        while digester.at_bytes < file.size_bytes:
            check_stop(stop)
            before_bytes = digester.at_bytes
            digester.read(stream, min(file.size_bytes, before_bytes + _READ_BYTES))
            if digester.at_bytes == before_bytes:
                return False
    return digester.find_mismatch((file.digest,)) is None

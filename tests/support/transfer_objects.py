"""Objects of two sizes and the retry policy for the tests of transfers."""

import io
import random
import tarfile

from bulkdl.http.retry import RetryPolicy

POLICY = RetryPolicy(max_attempts=3, base_s=1.0, cap_s=8.0, retry_after_cap_s=300.0, max_free_url_renewals=2)


def targz(size):
    """Return a gzipped tar of about *size* bytes whose content cannot be compressed, and is not."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=0) as archive:
        info = tarfile.TarInfo("output/data.bin")
        info.size = size
        archive.addfile(info, io.BytesIO(random.Random(size).randbytes(size)))
    return buffer.getvalue()


SMALL = targz(40_000)
LARGE = targz(3_500_000)

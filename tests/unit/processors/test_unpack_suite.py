"""The processor ``unpack`` passes the conformance suite of processors."""

import io
import tarfile
import zipfile

from bulkdl.processors.unpack.processor import UnpackProcessor
from bulkdl.testing.processors import ProcessorSuite, Sample


def make_tar(mode, **files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def make_zip(**files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


FILES = {"a/b.tif": b"II*\0" + b"x" * 300_000, "a/c.json": b"{}", "d": b""}


class TestUnpack(ProcessorSuite):
    def new_processor(self):
        return UnpackProcessor()

    def samples(self):
        return [
            Sample("archive", ".tar.gz", make_tar("w:gz", **FILES)),
            Sample("archive", ".tar", make_tar("w", **FILES)),
            Sample("archive", ".zip", make_zip(**FILES)),
        ]

"""The example of a source passes the conformance suite, with a real HTTP server as the provider."""

import threading
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bulkdl import source_spec
from bulkdl.models import ContainerRef, Output
from bulkdl.settings import CredentialSet, Settings
from bulkdl.testing.sources import ProviderSite, Scenario, SourceSuite

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "directory_source"
FILES = {
    "alpha": {"a.txt": b"alpha" * 50, "b.bin": bytes(range(1, 200)), "empty ~ name.dat": b"x"},
    "beta": {"a.txt": b"beta", "ümlaut & 100%.txt": b"y" * 70_000},
}
HOSTILE_FILES = {
    "alpha": dict.fromkeys(
        (
            "Twin.txt",
            "twin.TXT",
            "con",
            "a?b#c",
            "%2e%2e",
            "x\n.txt",
            "\x1b[31m.txt",
            "-rf *",
            "café",
            "cafe\u0301",
        ),
        b"z",
    ),
    "beta": {"y" * 250: b"long", "back\\slash.txt": b"s", ".hidden": b"h", 'quo"te<b>.txt': b"q"},
}
MANY = {f"folder-{number:04}": {"only.txt": b"1"} for number in range(2_000)}


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments):
        """Write nothing to stderr."""


class GarbledHandler(Handler):
    """Truncates every second list."""

    requests = 0

    def list_directory(self, path):
        GarbledHandler.requests += 1
        if GarbledHandler.requests % 2:
            return super().list_directory(path)
        self.send_response(200)
        self.send_header("Content-Length", "500")
        self.end_headers()
        self.wfile.write(b'<li><a href="a.t')
        self.close_connection = True
        return None


@contextmanager
def serve_files(root, files, handler=Handler):
    """Write *files* below *root* and yield the URL of a server for them."""
    for folder, contents in files.items():
        (root / folder).mkdir()
        for name, content in contents.items():
            (root / folder / name).write_bytes(content)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module", autouse=True)
def source_type():
    """Make the example importable, as its installation does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        registry = source_spec._registry()
        patch.setattr(registry, "sources", dict(registry.sources))
        patch.setattr(registry, "kinds", dict(registry.kinds))
        import bulkdl_directories

        source_spec.register_source(bulkdl_directories.SOURCE_TYPE.spec)
        TestDirectorySource.source_type = bulkdl_directories.SOURCE_TYPE
        yield bulkdl_directories.SOURCE_TYPE


class TestDirectorySource(SourceSuite):
    @pytest.fixture(autouse=True)
    def _root(self, tmp_path):
        self.root = tmp_path

    @asynccontextmanager
    async def serve(self, scenario):
        if scenario is Scenario.SHIFTING:  # a list is one page
            yield None
            return
        files = {Scenario.HOSTILE_NAMES: HOSTILE_FILES, Scenario.LARGE: MANY}.get(scenario, FILES)
        handler = GarbledHandler if scenario is Scenario.DAMAGED else Handler
        with serve_files(self.root, files, handler) as url:
            outputs = {
                Output(ContainerRef("directories", "127-0-0-1", folder), "", "file", name): content
                for folder, contents in files.items()
                for name, content in contents.items()
            }
            settings = Settings(
                api_url=url,
                source_settings={"directories": {"url": url}},
                rate=0,
                retries=1,
                retry_base_delay=0,
                retry_max_delay=0,
            )
            yield ProviderSite(settings, CredentialSet(), outputs, containers=len(files))


def test_example_has_at_most_eighty_lines():
    assert len((EXAMPLE / "bulkdl_directories.py").read_text().splitlines()) <= 80

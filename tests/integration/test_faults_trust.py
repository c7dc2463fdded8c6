"""Test unknown certificates, URLs that leave TLS, and an internal error of bulkdl."""

import asyncio
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bulkdl.graph.pools import OutputDownloader
from bulkdl.listings import PlannedOutput
from bulkdl.models import Outcome, Reason, Result
from bulkdl.settings import Settings
from bulkdl.simulator import SimulatedAccount, Simulator
from bulkdl.sources.up42_jobs.models import Kind
from support.fault_runs import RunEnvironment, run_environment
from support.http_servers import CERTIFICATE

# A certificate for localhost and 127.0.0.1 that is not trusted.
ACCOUNT = SimulatedAccount(projects=1, jobs=2, archive_bytes=20_000)
# One worker: after a failure that stops the run, no further archive is started.
ONE_BY_ONE = {"archive_concurrency": 1, "retries": 2}

Serve = Callable[[StreamReader, StreamWriter], Any]


class Front:
    """A TLS listener. *hellos* counts the started handshakes."""

    def __init__(self) -> None:
        self.hellos, self.port = 0, 0

    @asynccontextmanager
    async def serving(self, serve: Serve) -> AsyncIterator["Front"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        context.sni_callback = self._count
        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
            self.port = server.sockets[0].getsockname()[1]
            yield self

    def _count(self, *_: object) -> None:
        self.hellos += 1


def handing_on_to(simulator: Simulator) -> Serve:
    """Forward all bytes between the client and the API of the simulator."""

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        port = int(simulator.api_url.rpartition(":")[2])
        api_reader, api_writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.TaskGroup() as group:
            group.create_task(_pumped(reader, api_writer))
            group.create_task(_pumped(api_reader, writer))

    return serve


async def _pumped(reader: StreamReader, writer: StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def _redirecting(reader: StreamReader, writer: StreamWriter) -> None:
    """Return a URL without TLS on a port that does not listen."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://localhost:1/\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    writer.close()


class BehindTls(RunEnvironment):
    """A run environment whose API requests go through *front*."""

    front: Front

    def _settings(self, more: Any) -> Settings:
        plain = super()._settings(more)
        return plain.model_copy(update={"api_url": f"https://localhost:{self.front.port}"})


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the certificate."""
    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    make = aiohttp.TCPConnector.__init__  # patched in the class, so that it applies to all sessions

    def make_trusting(connector: aiohttp.TCPConnector, **how: Any) -> None:
        make(connector, **{**how, "ssl": context})

    monkeypatch.setattr(aiohttp.TCPConnector, "__init__", make_trusting)


def leading_to(front: Front) -> dict[str, Any]:
    """Replace the host of all signed URLs with *front*."""
    url = f"https://localhost:{front.port}/object.tgz?Signature=x"
    return {"fault": "wrong_type", "endpoint": "results", "field": "data.url", "value": url}


OBJECTS = 3  # for five archives, because the archive of a job is that of its last task


@pytest.mark.parametrize("reason", [Reason.TLS, Reason.INSECURE_URL])
async def test_run_with_an_untrusted_server_requests_each_object_once(
    tmp_path: Path, request: pytest.FixtureRequest, reason: Reason
) -> None:
    """The certificate is unknown, or it is trusted and the signed URL leaves TLS."""
    if reason is Reason.INSECURE_URL:
        request.getfixturevalue("trusted")
    async with (
        run_environment(tmp_path, ACCOUNT, **ONE_BY_ONE) as environment,
        Front().serving(_redirecting) as front,
    ):
        record = await environment.run(leading_to(front))
        assert record.outcome_counts(Kind.ARCHIVE) == {(Outcome.FAILED, reason): 5}
        assert record.failure_reasons() == {reason}
        assert (
            front.hellos
            == sum(result.attempts for result in record.results if result.reason is reason)
            == OBJECTS
        )
        assert record.exit_code == 3
        assert environment.find_wrong_files() == []
        assert (await environment.run()).exit_code == 0
        assert environment.has_complete_output()


@pytest.mark.usefixtures("trusted")
async def test_run_signed_url_without_tls_is_rejected_if_the_api_uses_tls(tmp_path: Path) -> None:
    async with run_environment(tmp_path, ACCOUNT, **ONE_BY_ONE) as plain:
        environment = BehindTls(plain.simulator, plain.root, plain.settings)
        async with Front().serving(handing_on_to(plain.simulator)) as environment.front:
            record = await environment.run()
        assert record.outcome_counts(Kind.ARCHIVE) == {(Outcome.FAILED, Reason.INSECURE_URL): 5}
        assert record.failure_reasons() == {Reason.INSECURE_URL}
        assert record.requests_to("object") == []
        assert len(record.requests_to("results")) == 5
        assert record.exit_code == 3


@pytest.mark.usefixtures("trusted")
async def test_run_signed_url_without_tls_is_accepted_with_allow_http(tmp_path: Path) -> None:
    async with run_environment(tmp_path, ACCOUNT, **ONE_BY_ONE) as plain:
        environment = BehindTls(plain.simulator, plain.root, plain.settings)
        async with Front().serving(handing_on_to(plain.simulator)) as environment.front:
            record = await environment.run(allow_http=True)
        assert record.exit_code == 0
        assert environment.has_complete_output()


async def test_run_api_with_an_unknown_certificate_is_requested_once(tmp_path: Path) -> None:
    async with run_environment(tmp_path, ACCOUNT, **ONE_BY_ONE) as plain:
        environment = BehindTls(plain.simulator, plain.root, plain.settings)
        async with Front().serving(handing_on_to(plain.simulator)) as environment.front:
            record = await environment.run()
            assert environment.front.hellos == 1
        assert [problem.reason for problem in record.summary.problems] == [Reason.TLS]
        assert record.exit_code == 3
        assert record.requests == []


async def test_run_with_an_internal_error_fails_one_output_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One archive worker: the archives after the failed archive are still downloaded."""
    download, met = OutputDownloader.download, []

    async def buggy(
        output_downloader: OutputDownloader, expected: PlannedOutput, *args: Any, **more: Any
    ) -> Result:
        if expected.output.kind == Kind.ARCHIVE and not met:
            met.append(expected.output)
            raise LookupError("not as it was thought")
        return await download(output_downloader, expected, *args, **more)

    async with run_environment(tmp_path, ACCOUNT, **ONE_BY_ONE) as environment:
        monkeypatch.setattr(OutputDownloader, "download", buggy)
        record = await environment.run()
        assert [result.output for result in record.results if result.reason is Reason.INTERNAL] == met
        assert record.failure_reasons() == {Reason.INTERNAL}
        assert len(environment.find_missing_outputs()) == 1
        assert record.exit_code == 1
        assert (await environment.run()).exit_code == 0
        assert environment.has_complete_output()

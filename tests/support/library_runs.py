"""Run the library against a simulator with an output directory."""

from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace

from pydantic import SecretStr

from bulkdl import Downloader, Settings
from bulkdl.settings import CredentialSet
from bulkdl.simulator import SimulatedAccount, Simulator, SimulatorOptions
from bulkdl.sources.up42_jobs.models import Kind

# The first 14 jobs of a project cover every scenario once.
TAME = SimulatedAccount(projects=1, jobs=14, archive_bytes=(500, 60_000))
HOSTILE = replace(TAME, hostile_names=True)
MAGIC = ((b"\x1f\x8b", ".tar.gz"), (b"PK", ".zip"), (b"", ".tar"))


class LibraryEnvironment:
    """A simulator, an output directory, and runs of the library."""

    def __init__(self, simulator, output):
        self.simulator, self.output = simulator, output

    @property
    def credentials(self):
        keys = {project.id: SecretStr(project.api_key) for project in self.simulator.projects}
        return CredentialSet(by_project=keys, project_ids=tuple(keys))

    def downloader(self, *, instances=None, **changes):
        """Return a downloader with changed settings; *instances* are its processors."""
        quick = {"rate": 0, "retry_base_delay": 0, "retry_max_delay": 0, "retries": 2}
        settings = Settings(api_url=self.simulator.api_url, output=self.output, **{**quick, **changes})
        return Downloader(settings, credentials=self.credentials, processors=instances)

    async def run(self, selection=None, **changes):
        self.simulator.requests.clear()
        async with self.downloader(**changes) as downloader:
            return await downloader.run(selection)

    def read_files(self):
        """Return path and content of every output, without API documents and the state directory."""
        own = {"job.json", "job_tasks.json", "task_quicklook.json"}
        return {
            path.relative_to(self.output).as_posix(): path.read_bytes()
            for path in self.output.rglob("*")
            if path.is_file() and ".bulkdl" not in path.parts and path.name not in own
        }

    def expected_files(self, *, but=None):
        """Return path and content of every expected output, except outputs for which *but* is true."""
        found = {}
        for output in self.simulator.expected_outputs():
            if but and but(output):
                continue
            body = output.read()
            folder = f"{output.project_id}/{output.job_id}/" + (
                f"{output.task_id}/" if output.task_id else ""
            )
            suffix = next(suffix for magic, suffix in MAGIC if body.startswith(magic))
            stem = "task" if output.task_id else "final"
            name = {
                Kind.ARCHIVE: f"{stem}_output{suffix}",
                Kind.GEOJSON: f"{'task' if output.task_id else 'job'}_output.json",
                Kind.QUICKLOOK: f"quicklooks/{output.name}",
            }[output.kind]
            found[folder + name] = body
        return found

    def request_counts(self):
        return Counter((seen.server, seen.endpoint) for seen in self.simulator.requests)

    def storage_bytes(self):
        return sum(seen.sent_bytes for seen in self.simulator.requests if seen.server == "storage")

    def object_bytes(self):
        """Return the number of bytes of all storage objects, counting the archive of a job only once."""
        return sum(
            output.size_bytes
            for output in self.simulator.expected_outputs()
            if output.kind == Kind.ARCHIVE and output.task_id
        )


@asynccontextmanager
async def library_environment(tmp_path, account=HOSTILE, **facts):
    options = SimulatorOptions(strict_storage_auth=True, **facts)
    async with Simulator(account, options) as simulator:
        yield LibraryEnvironment(simulator, tmp_path / "out")

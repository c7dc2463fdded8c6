"""An output directory that a run has filled from a simulator, for tests of verify and rebuild."""

from pydantic import SecretStr

from bulkdl import Downloader, Selection, Settings
from bulkdl.failure_policy import ExitCode
from bulkdl.maintenance.verify import VerifyOptions
from bulkdl.models import Outcome
from bulkdl.settings import CredentialSet
from bulkdl.sources.registry import installed_layouts
from support.hand_made_ledger import Folder


class DownloadedDirectory(Folder):
    """An output directory that a run has filled from a simulator."""

    def __init__(self, root, simulator, **more):
        super().__init__(root)
        self.settings = Settings(output=root, api_url=simulator.api_url, **more)
        keys = {project.id: SecretStr(project.api_key) for project in simulator.projects}
        self.credentials = CredentialSet(by_project=keys, project_ids=tuple(keys))

    async def run(self, **selection):
        async with Downloader(self.settings, credentials=self.credentials) as downloader:
            return await downloader.run(Selection(**selection))

    def options(self, **how):
        return VerifyOptions(self.root, installed_layouts(self.settings), **how)

    @property
    def path(self):
        return self.root / ".bulkdl" / "ledger.sqlite3"

    def files(self, pattern):
        return sorted(path for path in self.root.glob(pattern) if ".bulkdl" not in path.parts)


async def read_completed(site):
    query = (
        "SELECT scope, container_id, parent, kind, outputs.name, filename, key, size_bytes, digest"
        " FROM outputs JOIN containers ON containers.id = outputs.container WHERE state = 'completed'"
    )
    return await site.read(lambda connection: sorted(map(tuple, connection.execute(query))))


async def run_downloads_nothing(site, simulator):
    request_count = len(simulator.requests)
    summary = await site.run()
    requested = [call.path for call in list(simulator.requests)[request_count:]]
    assert (summary.downloaded_bytes, summary.outputs(Outcome.COMPLETED), summary.exit_code) == (
        0,
        0,
        ExitCode.OK,
    )
    return requested

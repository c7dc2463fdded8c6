"""Run the library against a simulator and a bucket."""

from contextlib import asynccontextmanager

import obstore

from bulkdl.destinations.objectstore.stores import create_store
from bulkdl.simulator import Simulator, SimulatorOptions
from support.library_runs import TAME, LibraryEnvironment

_DOCUMENTS = {"job.json", "job_tasks.json", "task_quicklook.json"}


class BucketEnvironment(LibraryEnvironment):
    """A simulator, a bucket, and runs of the library."""

    def __init__(self, simulator, url, state):
        super().__init__(simulator, url)
        self.state = state

    def downloader(self, **changes):
        return super().downloader(**{"state": self.state, **changes})

    def objects(self):
        """Return key and content of all objects outside of the state folder."""
        store = create_store(self.output)
        return {
            meta["path"]: bytes(obstore.get(store, meta["path"]).bytes())
            for page in obstore.list(store)
            for meta in page
            if not meta["path"].startswith(".bulkdl/")
        }

    def read_files(self):
        """Return key and content of every output, without documents."""
        return {key: data for key, data in self.objects().items() if key.rpartition("/")[2] not in _DOCUMENTS}


@asynccontextmanager
async def bucket_environment(url, tmp_path, account=TAME, **facts):
    options = SimulatorOptions(strict_storage_auth=True, **facts)
    async with Simulator(account, options) as simulator:
        yield BucketEnvironment(simulator, url, tmp_path / "state")

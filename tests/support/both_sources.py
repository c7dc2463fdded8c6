"""Run the command line as a process with a config file that contains projects and accounts."""

from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

from bulkdl.simulator import SimulatedAccount, Simulator, SimulatorOptions
from bulkdl.simulator.v2.deliveries import StorageOptions
from support.filled_directory import ProcessResult
from support.library_runs import LibraryEnvironment
from support.storage_account import StorageAccount

ASSETS = 10
ACCOUNT = SimulatedAccount(
    projects=2, jobs=8, archive_bytes=(500, 60_000), storage=StorageOptions(assets=ASSETS)
)


class BothSources(StorageAccount):
    """A config file with all projects and the account of one simulator, and an output directory."""

    def __init__(self, folder: Path, simulator: Simulator) -> None:
        super().__init__(folder, simulator)
        username = self.env.pop("UP42_USERNAME")
        self.env["ACCOUNT_PASSWORD"] = self.env.pop("UP42_PASSWORD")
        lines = []
        for number, project in enumerate(simulator.projects):
            lines.append(f'[[projects]]\nid = "{project.id}"\napi_key_env = "KEY_{number}"\n')
            self.env[f"KEY_{number}"] = project.api_key
        lines.append(
            f'[[accounts]]\nname = "team"\nusername = "{username}"\npassword_env = "ACCOUNT_PASSWORD"\n'
        )
        self.config = folder / "bulkdl.toml"
        self.config.write_text("\n".join(lines))
        self.env["BULKDL_CONFIG"] = str(self.config)

    def missing_job_files(self) -> list[str]:
        """Return the expected files of jobs that do not exist or have other bytes."""
        expected = LibraryEnvironment(self.simulator, self.output).expected_files()
        found = {path.relative_to(self.output).as_posix(): path.read_bytes() for path in self.files()}
        return [key for key, content in expected.items() if found.get(key) != content]

    def exit_codes(self, result: ProcessResult) -> dict[str, int]:
        """Return the exit code of each source in the result of a run."""
        return {part["source"]: part["exit_code"] for part in result.document["sources"]}

    def downloaded(self, result: ProcessResult) -> Counter:
        """Return the number of downloaded outputs of each source in the result of a run."""
        counts = Counter()
        for row in result.document["counts"]:
            counts[row["source"]] += row["outputs"] if row["outcome"] == "completed" else 0
        return +counts


@asynccontextmanager
async def both_sources(folder: Path, account: SimulatedAccount = ACCOUNT, **options):
    """Yield the environment of a simulator that serves both APIs."""
    simulator_options = SimulatorOptions(max_recorded_requests=None, strict_storage_auth=True, **options)
    async with Simulator(account, simulator_options) as simulator:
        yield BothSources(folder, simulator)

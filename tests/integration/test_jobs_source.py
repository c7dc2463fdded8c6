"""The source of UP42 jobs passes the conformance suite of sources, with the simulator as the provider."""

from contextlib import asynccontextmanager
from dataclasses import replace

from pydantic import SecretStr

from bulkdl.settings import CredentialSet, Settings
from bulkdl.simulator import Faults, SimulatedAccount, SimulatorOptions
from bulkdl.sources.up42_jobs.models import job_output
from bulkdl.sources.up42_jobs.source import SOURCE_TYPE
from bulkdl.testing.sources import ProviderSite, Scenario, SourceSuite
from support.simulator_thread import run_simulator, run_simulator_process

# The first 14 jobs of a project cover every scenario once.
ACCOUNT = SimulatedAccount(projects=2, jobs=28, archive_bytes=2_000)
ACCOUNTS = {
    Scenario.PLAIN: ACCOUNT,
    Scenario.HOSTILE_NAMES: replace(ACCOUNT, hostile_names=True),
    Scenario.DAMAGED: ACCOUNT,
    Scenario.SHIFTING: SimulatedAccount(projects=1, jobs=23, archive_bytes=2_000),
    Scenario.LARGE: SimulatedAccount(projects=1, jobs=2_500, archive_bytes=2_000),
}
FAULTS = {
    Scenario.DAMAGED: [
        {"fault": "truncated_json", "probability": 0.1, "per": "all"},
        {"fault": "wrong_type", "probability": 0.1, "per": "all"},
    ],
    Scenario.SHIFTING: [{"fault": "delete_jobs", "count": 1, "nth": [2, 3, 5], "per": "all"}],
}
PAGE_SIZES = {Scenario.SHIFTING: 4, Scenario.PLAIN: 8}


def job_outputs(entries):
    """Return *entries* of the simulator as outputs of the source."""
    return {
        job_output(
            each.project_id, each.job_id, each.task_id, each.kind.value, getattr(each, "name", "")
        ): each
        for each in entries
    }


class TestJobsSource(SourceSuite):
    source_type = SOURCE_TYPE

    @asynccontextmanager
    async def serve(self, scenario):
        options = SimulatorOptions(page_size=PAGE_SIZES.get(scenario, 100))
        faults = Faults.from_rules(*FAULTS.get(scenario, []), seed=7)
        account = ACCOUNTS[scenario]
        is_large = scenario is Scenario.LARGE
        running = (
            run_simulator_process(account, options) if is_large else run_simulator(account, options, faults)
        )
        with running as simulator:
            keys = {project.id: SecretStr(project.api_key) for project in simulator.projects}
            settings = Settings(
                api_url=simulator.api_url, rate=0, retries=1, retry_base_delay=0, retry_max_delay=0
            )
            yield ProviderSite(
                settings,
                CredentialSet(by_project=keys, project_ids=tuple(keys)),
                outputs=self.expected(scenario, simulator),
                absent=frozenset(job_outputs(each for each in simulator.expected_skips() if each.kind)),
                containers=sum(account.job_count(number) for number in range(account.projects)),
            )

    def expected(self, scenario, simulator):
        if scenario is Scenario.LARGE:
            return {}
        outputs = {output: each.read() for output, each in job_outputs(simulator.expected_outputs()).items()}
        if scenario is Scenario.SHIFTING:  # the oldest jobs are deleted during the test
            deleted = {job.id for job in list(simulator.account.iter_jobs())[:3]}
            return {output: body for output, body in outputs.items() if output.container.id not in deleted}
        return outputs

"""``bulkdl demo``: run the simulator and a download from it in one process, on loopback."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from pydantic import SecretStr

from bulkdl.cli import options
from bulkdl.cli.context import RunRequest, configure_logging, read_settings, run_downloader
from bulkdl.cli.help import Command, Group
from bulkdl.cli.render import show_summary, write_lines
from bulkdl.cli.run_catalog import catalog_after, require_local_output
from bulkdl.cli.simulate import require_simulator
from bulkdl.failure_policy import ExitCode
from bulkdl.report.summary import Summary
from bulkdl.selection import Selection
from bulkdl.settings import CredentialSet, LoadedSettings
from bulkdl.settings.parsers import Address
from bulkdl.settings.proxy import OFF
from bulkdl.settings.source_choice import JOBS

_DEFAULT_OUTPUT = Path("demo")
_SEED = 1  # every demo uses the same account, so that a second demo finds the files of the first
_REJECTED: dict[str, object] = {"fault": "status", "status": 400}
# The paths have IDs, so that the same outputs fail in every demo.
_FAILURES: tuple[dict[str, object], ...] = (
    {**_REJECTED, "endpoint": "quicklook", "path_regex": r"/0[^/]*$"},
    {**_REJECTED, "endpoint": "results", "level": "task", "path_regex": r"/tasks/2"},
    {**_REJECTED, "endpoint": "geojson", "level": "task", "path_regex": r"/tasks/a"},
    {**_REJECTED, "endpoint": "tasks", "path_regex": r"/jobs/[89][^/]*/tasks"},
)


@click.command(cls=Command, example="bulkdl demo --jobs 200 --catalog -o demo")
@options.output
@options.unpack
@options.catalog
@options.option(
    "--failures",
    is_flag=True,
    envvar="BULKDL_DEMO_FAILURES",
    help="let some outputs fail; the exit code stays 0  [variable: BULKDL_DEMO_FAILURES]",
    group=Group.SELECTION,
)
@options.option(
    "--jobs",
    default=24,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    envvar="BULKDL_DEMO_JOBS",
    help="number of jobs  [variable: BULKDL_DEMO_JOBS]",
    group=Group.SELECTION,
)
@options.monitoring
@options.result_format("table", "json")
@options.common(network=False)
def demo(**params: Any) -> int:
    """
    Download all outputs of a simulated account.

    The simulator runs in the same process. The command sends no requests to other hosts. The files are
    written to the directory demo, unless -o names another one. A second run downloads nothing.
    """
    loaded = read_settings(params)
    if loaded.settings.output is None:
        loaded = replace(loaded, settings=loaded.settings.model_copy(update={"output": _DEFAULT_OUTPUT}))
    require_local_output(loaded.settings)
    summary, signal_code = asyncio.run(_demo(loaded, params["jobs"], has_failures=params["failures"]))
    summary = summary.after_signal(signal_code)
    show_summary(summary, loaded.settings.require_output(), params["result_format"])
    if params["result_format"] != "json":
        rest = "nothing else; some outputs fail on purpose" if params["failures"] else "nothing"
        write_lines(f"The files are in {loaded.settings.output}. The same command again downloads {rest}.")
    catalog_after(loaded.settings, summary, params["result_format"], signal_code)
    is_on_purpose = params["failures"] and summary.exit_code is ExitCode.FAILED
    return int(ExitCode.OK if is_on_purpose else summary.exit_code)


async def _demo(loaded: LoadedSettings, jobs: int, *, has_failures: bool) -> tuple[Summary, ExitCode | None]:
    require_simulator()
    from bulkdl.simulator import SimulatedAccount, Simulator  # noqa: PLC0415 - an extra
    from bulkdl.simulator.faults import Faults  # noqa: PLC0415

    account = SimulatedAccount(seed=_SEED, projects=2, jobs=jobs)
    faults = Faults.from_rules(*_FAILURES) if has_failures else None
    async with Simulator(account, faults=faults) as simulator:
        keys = {project.id: SecretStr(project.api_key) for project in simulator.projects}
        settings = loaded.settings.model_copy(
            update={
                "api_url": simulator.api_url,
                "projects": (),
                "source": JOBS,
                "proxy": OFF,
                "listen": loaded.settings.listen or Address("127.0.0.1", 0),
            }
        )
        request = RunRequest(
            LoadedSettings(settings, loaded.sources, loaded.warnings),
            (Selection.of(settings, source=JOBS),),
            CredentialSet(by_project=keys, project_ids=tuple(keys)),
            expose_metrics=True,
        )
        with configure_logging(request.loaded, request.credentials) as reporter:
            return await run_downloader(
                request, lambda downloader: downloader.run(request.selections), reporter
            )

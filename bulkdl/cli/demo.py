"""``bulkdl demo``: the simulator and a run against it, in one process, on loopback."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from pydantic import SecretStr

from bulkdl.cli import options
from bulkdl.cli.inputs import settings_from
from bulkdl.cli.session import Order, seen, worked
from bulkdl.cli.show import show_summary
from bulkdl.cli.simulate import simulator_parts
from bulkdl.reactions import Exit
from bulkdl.report.summary import Summary
from bulkdl.selection import Selection
from bulkdl.settings import CredentialSet, LoadedSettings
from bulkdl.settings.parsers import Address
from bulkdl.settings.proxy import OFF

_WHERE = Path("demo")
_SEED = 1  # the same account each time, so that a second demo finds what the first has fetched


@click.command(epilog="Example:  bulkdl demo --jobs 200 -o demo")
@options.output
@click.option("--jobs", default=24, show_default=True, type=click.IntRange(1), help="jobs of the account")
@options.outside
@options.result_format
@options.common
def demo(**params: Any) -> int:
    """
    Fetch every output of a made-up account, to see how it goes.

    Nothing leaves this machine. The tree goes to the folder demo, unless -o names another. Run it again:
    everything is there already.
    """
    loaded = settings_from(params)
    if loaded.settings.output is None:
        loaded = replace(loaded, settings=loaded.settings.model_copy(update={"output": _WHERE}))
    summary, signalled = asyncio.run(_demo(loaded, params["jobs"]))
    summary = summary.after_signal(signalled)
    show_summary(summary, params["result_format"])
    if params["result_format"] != "json":
        click.echo(f"the tree is in {loaded.settings.output}; the same command again fetches nothing twice")
    return int(summary.exit_code)


async def _demo(loaded: LoadedSettings, jobs: int) -> tuple[Summary, Exit | None]:
    parts = simulator_parts()
    async with parts.Simulator(parts.Account(seed=_SEED, projects=2, jobs=jobs)) as simulator:
        keys = {project.id: SecretStr(project.api_key) for project in simulator.projects}
        settings = loaded.settings.model_copy(
            update={
                "api_url": simulator.api_url,
                "projects": (),
                "proxy": OFF,
                "listen": loaded.settings.listen or Address("127.0.0.1", 0),
            }
        )
        order = Order(
            LoadedSettings(settings, loaded.sources, loaded.warnings),
            Selection.of(settings),
            CredentialSet(by_project=keys, project_ids=tuple(keys)),
            watched=True,
        )
        with seen(order.loaded, order.credentials) as reporter:
            return await worked(order, lambda downloader: downloader.run(order.selection), reporter)

"""``bulkdl serve``: run permanently, on a schedule and after events of UP42."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import click

from bulkdl.cli import options
from bulkdl.cli.context import RunRequest, configure_logging
from bulkdl.cli.help import Command
from bulkdl.cli.run_catalog import require_local_output
from bulkdl.cli.serve_process import ServiceProcess
from bulkdl.errors import ConfigError


@click.command(
    cls=Command,
    example="bulkdl serve --every 1h --listen 127.0.0.1:9400 --webhook-secret-file webhook-secret -o outputs",
)
@options.selection
@options.output
@options.service
@options.transfer()
@options.monitoring
@options.result_format("table", "json")
@options.common(progress=False)
def serve(**params: Any) -> int:
    """
    Download all selected outputs that are missing, again and again.

    The first run starts at once, and the next one starts after --every. With --at, runs start only at these
    times. With --listen, an event of UP42 at /webhooks/up42 starts a run as well. Runs never overlap.

    SIGTERM and Ctrl-C end the service as they end bulkdl run. SIGHUP reads the config file again.
    """
    request = read_service_request(params)
    with configure_logging(request.loaded, request.credentials):
        process = ServiceProcess(request, params, lambda: read_service_request(params))
        code = asyncio.run(process.execute())
    return int(code)


def read_service_request(params: dict[str, Any]) -> RunRequest:
    """
    Read and validate all inputs of the service.

    Raises:
        ConfigError: An input is missing or invalid.
    """
    if params.get("jobs_file") == "-":
        raise ConfigError("--jobs-file", "is read before each run, so it cannot be stdin; name a file")
    request = RunRequest.from_params(params, expose_metrics=True)
    require_local_output(request.loaded.settings)
    settings = request.loaded.settings.model_copy(update={"progress": "never"})
    return replace(request, loaded=replace(request.loaded, settings=settings))

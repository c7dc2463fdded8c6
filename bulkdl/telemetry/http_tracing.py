"""
Report every request of a session as an event, through the tracing of aiohttp.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace

import aiohttp
from yarl import URL

from bulkdl.telemetry.events import Reporter, RequestEnded

Label = Callable[[str, URL], str]


def trace_requests(
    session: aiohttp.ClientSession,
    reporter: Reporter,
    label: Label,
    source: str,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Report the requests of *session* for *source*. *label* returns the endpoint of a method and URL."""

    async def on_start(
        _session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestStartParams
    ) -> None:
        context.endpoint = label(params.method, params.url)
        context.started_s = clock()

    def report(context: SimpleNamespace, status: int | None) -> None:
        reporter.report(RequestEnded(context.endpoint, status, clock() - context.started_s, source))

    async def on_end(
        _session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestEndParams
    ) -> None:
        report(context, params.response.status)

    async def on_exception(
        _session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestExceptionParams
    ) -> None:
        if not isinstance(params.exception, asyncio.CancelledError):
            report(context, None)

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(on_start)
    trace.on_request_end.append(on_end)
    trace.on_request_exception.append(on_exception)
    trace.freeze()
    session.trace_configs.append(trace)

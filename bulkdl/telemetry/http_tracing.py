"""
Every request of a session as an event, by aiohttp's own tracing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace

import aiohttp
from yarl import URL

from bulkdl.telemetry.endpoint_labels import STORAGE, endpoint_label
from bulkdl.telemetry.events import Reporter, RequestEnded

Label = Callable[[str, URL], str]


def watch_api(session: aiohttp.ClientSession, reporter: Reporter) -> None:
    """Report the requests of *session*, which talks to UP42's API."""
    _watch(session, reporter, lambda method, url: endpoint_label(method, url.raw_path))


def watch_storage(session: aiohttp.ClientSession, reporter: Reporter) -> None:
    """Report the requests of *session*, which follows signed URLs."""
    _watch(session, reporter, lambda _method, _url: STORAGE)


def _watch(
    session: aiohttp.ClientSession,
    reporter: Reporter,
    label: Label,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    async def started(
        _session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestStartParams
    ) -> None:
        context.endpoint = label(params.method, params.url)
        context.started_s = clock()

    def ended(context: SimpleNamespace, status: int | None) -> None:
        reporter.report(RequestEnded(context.endpoint, status, clock() - context.started_s))

    async def answered(
        _session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestEndParams
    ) -> None:
        ended(context, params.response.status)

    async def failed(
        _session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestExceptionParams
    ) -> None:
        if not isinstance(params.exception, asyncio.CancelledError):
            ended(context, None)

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(started)
    trace.on_request_end.append(answered)
    trace.on_request_exception.append(failed)
    trace.freeze()
    session.trace_configs.append(trace)

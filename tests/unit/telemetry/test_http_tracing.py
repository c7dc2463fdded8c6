import asyncio

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from bulkdl.sources.up42_jobs.endpoints import endpoint_label
from bulkdl.telemetry.events import STORAGE, RequestEnded
from bulkdl.telemetry.http_tracing import trace_requests


class RecordedEvents(list[RequestEnded]):
    def report(self, event):
        self.append(event)


async def reply(request: web.Request) -> web.Response:
    if request.path == "/moved":
        raise web.HTTPFound("/projects/p/jobs")
    if request.path == "/never":
        await asyncio.Event().wait()
    return web.Response(status=429 if request.path == "/busy" else 200)


@pytest.fixture
async def server():
    app = web.Application()
    app.router.add_get("/{path:.*}", reply)
    async with TestServer(app) as server:
        yield server


async def test_trace_requests_reports_one_event_per_request_including_redirects(server):
    events = RecordedEvents()
    async with aiohttp.ClientSession() as session:
        trace_requests(session, events, endpoint_label, "jobs")
        for path in ("/projects/p/jobs?page=3", "/busy", "/moved"):
            async with session.get(server.make_url(path)):
                pass
    assert [(event.endpoint, event.status) for event in events] == [
        ("jobs", 200),
        ("other", 429),
        ("other", 200),
    ]
    assert all(0 <= event.duration_s < 60 for event in events)
    assert {event.source for event in events} == {"jobs"}


async def test_trace_requests_without_a_response_reports_no_status_and_ignores_cancellation(server):
    events = RecordedEvents()
    async with aiohttp.ClientSession() as session:
        trace_requests(session, events, lambda method, url: STORAGE, "jobs")
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(URL("http://127.0.0.1:1/x"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await session.get(server.make_url("/never"))
    assert [(event.endpoint, event.status) for event in events] == [("storage", None)]

"""Requests as events: which endpoint, by the shape of the path alone."""

import asyncio

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from bulkdl.models import Kind, Output
from bulkdl.sources.up42_jobs import paths
from bulkdl.telemetry.endpoint_labels import ENDPOINTS, endpoint_label
from bulkdl.telemetry.events import RequestEnded
from bulkdl.telemetry.http_tracing import watch_api, watch_storage

HOSTILE = "../../jobs"


def output(kind: Kind, task: str | None = "t", name: str = "") -> str:
    return paths.output(Output("p", "j", task, kind, name))


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/oauth/token", "token"),
        (paths.project("p"), "project"),
        (paths.jobs("p", 3), "jobs"),
        (paths.job("p", "j"), "job"),
        (paths.tasks("p", "j"), "tasks"),
        (output(Kind.ARCHIVE), "sign"),
        (output(Kind.ARCHIVE, None), "sign"),
        (output(Kind.GEOJSON), "geojson"),
        (output(Kind.GEOJSON, None), "geojson"),
        (paths.quicklooks("p", "j", "t"), "quicklook_list"),
        (output(Kind.QUICKLOOK, name="a b.jpg"), "quicklook"),
        (output(Kind.QUICKLOOK, name=HOSTILE), "quicklook"),
        (output(Kind.QUICKLOOK, name=".."), "quicklook"),
        ("/elsewhere", "other"),
    ],
)
def test_each_path_that_is_asked_for_has_its_endpoint(path, endpoint):
    for base in ("https://api.up42.com", "https://gateway.example/up42/v1"):
        assert endpoint_label("GET", paths.address(base, path).raw_path) == endpoint


def test_what_is_posted_to_is_the_token_wherever_it_is_had():
    assert endpoint_label("POST", "/realms/up42/protocol") == "token"


@given(st.text())
def test_no_path_gives_a_label_that_is_not_known(path):
    assert endpoint_label("GET", path) in ENDPOINTS


class Heard(list[RequestEnded]):
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


async def test_answers_of_any_status_are_one_event_each_and_redirects_belong_to_theirs(server):
    heard = Heard()
    async with aiohttp.ClientSession() as session:
        watch_api(session, heard)
        for path in ("/projects/p/jobs?page=3", "/busy", "/moved"):
            async with session.get(server.make_url(path)):
                pass
    assert [(event.endpoint, event.status) for event in heard] == [
        ("jobs", 200),
        ("other", 429),
        ("other", 200),
    ]
    assert all(0 <= event.duration_s < 60 for event in heard)


async def test_no_answer_is_an_event_without_a_status_and_a_cancelled_request_is_none(server):
    heard = Heard()
    async with aiohttp.ClientSession() as session:
        watch_storage(session, heard)
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(URL("http://127.0.0.1:1/x"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await session.get(server.make_url("/never"))
    assert [(event.endpoint, event.status) for event in heard] == [("storage", None)]

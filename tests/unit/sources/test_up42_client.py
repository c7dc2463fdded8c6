import asyncio
import json
from contextlib import aclosing

import aiohttp
import pytest
from aioresponses import CallbackResult

from bulkdl.errors import ApiError
from bulkdl.models import Container, Reason
from bulkdl.sources.up42_common.auth import MAX_TOKENS
from bulkdl.sources.up42_jobs.models import Kind, job_output, job_ref
from support.idle import wait_until_idle

API = "https://api.example"
TOKEN_URL = f"{API}/oauth/token"
JOBS = f"{API}/projects/p1/jobs?page={{}}&sort=createdAt,asc"
JOB_URL = f"{API}/projects/p1/jobs/j1"
TASKS_URL = f"{JOB_URL}/tasks"
NAMES_URL = f"{TASKS_URL}/t1/outputs/quicklooks"
ARCHIVE = job_output("p1", "j1", None, Kind.ARCHIVE)
GEOJSON = job_output("p1", "j1", "t1", Kind.GEOJSON)
SIGNED = "https://storage.example/b/output.tgz?GoogleAccessId=a@b&Expires=1&Signature=canary%2Fb%3D"


def job(job_id, **changes):
    return {"id": job_id, "status": "SUCCEEDED", "createdAt": "2020-01-31T19:42:29Z", **changes}


def error(code, message="m"):
    return {"data": None, "error": {"code": code, "message": message, "details": None}}


async def failure_of(awaitable):
    with pytest.raises(ApiError) as caught:
        await awaitable
    return caught.value


@pytest.fixture
def client(kit):
    kit.grant("T1", "T2")
    return kit.client()


def pages(kit, *lists, end=True):
    """Serve the pages *lists*. With *end*, all pages behind them are empty."""
    for number in range(2 * len(lists) + 2 if end else len(lists)):
        entries = lists[number] if number < len(lists) else []
        kit.api.get(JOBS.format(number), payload={"data": entries, "error": None}, repeat=True)


async def ids(client):
    return [entry.ref.id if isinstance(entry, Container) else entry async for entry in client.jobs("p1")]


async def test_jobs_pages_are_read_from_last_to_first(kit, client):
    requested = []
    filled = {0: [job("a"), job("b")], 1: [job("c")]}

    def respond(url, **kwargs):
        requested.append(url.raw_path_qs)
        return CallbackResult(payload={"data": filled.get(int(url.query["page"]), []), "error": None})

    for number in range(3):
        kit.api.get(JOBS.format(number), callback=respond, repeat=True)
    assert await ids(client) == ["c", "a", "b"]
    assert requested == [f"/projects/p1/jobs?page={number}&sort=createdAt,asc" for number in (1, 2, 1, 0)]
    assert {headers["Authorization"] for _, headers in kit.requests()} == {"Bearer T1"}


async def test_jobs_job_on_two_pages_is_listed_once(kit, client):
    pages(kit, [job("a"), job("b")], [job("b"), job("c")], [job("c")])
    assert await ids(client) == ["c", "b", "a"]


async def test_jobs_list_that_repeats_ends(kit, client, logs):
    pages(kit, *[[job("a"), job("b")]] * 9, end=False)
    assert await ids(client) == ["a", "b"]
    assert "jobs.repeated" in [line["event"] for line in logs()]


async def test_jobs_pages_without_new_jobs_do_not_end_the_list(kit, client):
    old = [job("a")]
    pages(kit, [job("c")], old, old, old, old, [job("b")], old, old)
    assert await ids(client) == ["a", "b", "c"]


async def test_jobs_unreadable_job_is_reported_once_and_other_jobs_are_listed(kit, client, logs):
    bad = job("b", createdAt=None)
    pages(kit, [job("a"), bad, job("c")], [bad])
    unreadable, first, last = await ids(client)
    assert (first, last) == ("a", "c")
    assert unreadable.id == "b"
    assert [line["job_id"] for line in logs() if line["event"] == "job.unreadable"] == ["b"]


async def test_jobs_requests_exactly_one_page_in_advance(kit, client):
    pages(kit, [job("a")], [job("b")], [job("c")])
    async with aclosing(client.jobs("p1")) as listed:
        await anext(listed)
        await wait_until_idle()
        searched = ["page=1", "page=2", "page=4", "page=3"]  # then page 2, and page 1 in advance
        assert len(kit.requests()) == len(searched) + 2
        assert not any("page=0" in path for path, _ in kit.requests())


async def test_jobs_closed_iterator_leaves_no_task(kit, client):
    async def never(url, **kwargs):
        await asyncio.Event().wait()

    kit.api.get(JOBS.format(0), callback=never)
    pages(kit, [job("a")], [job("b")])
    async with aclosing(client.jobs("p1")) as listed:
        assert (await anext(listed)).ref.id == "b"
    assert len(asyncio.all_tasks()) == 1


async def test_jobs_cancelled_listing_leaves_no_task(kit, client):
    async def never(url, **kwargs):
        await asyncio.Event().wait()

    kit.api.get(JOBS.format(1), callback=never)
    worker = asyncio.create_task(ids(client))
    await wait_until_idle()
    worker.cancel()
    await asyncio.wait([worker])
    assert worker.cancelled()
    assert len(asyncio.all_tasks()) == 1


async def test_jobs_before_a_failed_page_are_yielded(kit, client):
    kit.api.get(JOBS.format(0), status=403, payload=error(403))
    pages(kit, [job("z")], [job("a")])
    yielded = []

    async def read():
        async for entry in client.jobs("p1"):
            yielded.append(entry.ref.id)  # noqa: PERF401 - a comprehension would lose the entries before the failure

    assert (await failure_of(read())).reason is Reason.FORBIDDEN
    assert yielded == ["a"]


async def test_jobs_failed_page_is_requested_again(kit, client):
    kit.api.get(JOBS.format(1), status=503)
    kit.api.get(JOBS.format(0), exception=aiohttp.ServerDisconnectedError())
    pages(kit, [job("a")])
    assert await ids(client) == ["a"]


async def test_job_tasks_and_quicklooks_return_values_and_unchanged_bodies(kit, client):
    response = (
        b'{ "error": null, "data" : {"id":"j1","status":"not started","createdAt":"2020-01-31T19:42:29Z"} }'
    )
    kit.api.get(JOB_URL, body=response)
    result, raw = await client.job("p1", "j1")
    assert (result.ref, result.status, raw) == (job_ref("p1", "j1"), "NOT_STARTED", response)
    kit.api.get(TASKS_URL, payload={"data": [{"id": "t1", "name": "n", "status": "SUCCEEDED"}]})
    assert [task.id for task in (await client.tasks("p1", "j1"))[0]] == ["t1"]
    kit.api.get(NAMES_URL, payload={"data": ["x.jpg"]})
    assert await client.quicklooks("p1", "j1", "t1") == (["x.jpg"], b'{"data": ["x.jpg"]}')


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (400, 400, Reason.REJECTED),
        (403, 403, Reason.FORBIDDEN),
        (404, 404, Reason.NOT_FOUND),
        (404, "RESOURCE_NOT_FOUND", Reason.NOT_FOUND),
        (415, 415, Reason.REJECTED),
        (422, 422, Reason.REJECTED),
        (200, 404, Reason.NOT_FOUND),
        (200, "RESOURCE_NOT_FOUND", Reason.NOT_FOUND),
        (200, 403, Reason.FORBIDDEN),
        (200, 418, Reason.REJECTED),
    ],
)
async def test_tasks_permanent_error_fails_at_once_with_the_message_of_up42(
    kit, client, status, code, reason
):
    kit.api.get(TASKS_URL, status=status, payload=error(code, "Job not found for id j1"))
    failure = await failure_of(client.tasks("p1", "j1"))
    assert failure.reason is reason
    assert failure.detail.startswith("GET api.example/projects/p1/jobs/j1/tasks: ")
    assert failure.detail.endswith("Job not found for id j1")
    assert len(kit.requests()) == 1


TEMPORARY_ERRORS = [
    {"status": 500},
    {"status": 502, "body": "<html>"},
    {"status": 429},
    {"status": 408},
    {"exception": TimeoutError()},
    {"exception": aiohttp.ClientPayloadError()},
    {"body": '{"data": ['},
    {"body": "<html>fine</html>"},
    {"payload": {"data": {}}},
    {"payload": error(500)},
    {"payload": error(429)},
    {"payload": {"data": None, "error": None}},
]


@pytest.mark.parametrize("response", TEMPORARY_ERRORS)
async def test_tasks_temporary_error_is_retried(kit, client, response):
    kit.api.get(TASKS_URL, **response)
    kit.api.get(TASKS_URL, **response)
    kit.api.get(TASKS_URL, payload={"data": [], "error": None})
    assert (await client.tasks("p1", "j1"))[0] == []
    assert sum(kit.timeline.slept) >= 3.0


@pytest.mark.parametrize("response", TEMPORARY_ERRORS)
async def test_tasks_persistent_error_fails_after_the_last_attempt(kit, client, response):
    kit.api.get(TASKS_URL, **response, repeat=True)
    failure = await failure_of(client.tasks("p1", "j1"))
    assert failure.detail.startswith("GET api.example/projects/p1/jobs/j1/tasks: ")
    assert len(kit.requests()) == kit.policy.max_attempts


async def test_tasks_failed_token_request_is_not_retried_again(kit):
    kit.api.post(f"{API}/oauth/token", status=503, repeat=True)
    assert (await failure_of(kit.client().tasks("p1", "j1"))).reason is Reason.SERVER_ERROR
    assert len(kit.requests("POST")) == kit.policy.max_attempts


async def test_tasks_retry_after_delays_all_requests_to_the_host(kit, client):
    kit.api.get(TASKS_URL, status=429, headers={"Retry-After": "30"})
    kit.api.get(TASKS_URL, payload={"data": []})
    kit.api.get(JOB_URL, payload={"data": job("j1")})
    waiting = asyncio.create_task(client.tasks("p1", "j1"))
    await kit.timeline.sleep_started.wait()
    await client.job("p1", "j1")
    assert kit.timeline.now >= 1030
    await waiting


async def test_tasks_rejected_token_is_renewed_without_an_attempt(kit, client):
    kit.api.get(TASKS_URL, status=401, payload=error("UNAUTHORIZED", "ACCESS_TOKEN_EXPIRED"))
    kit.api.get(TASKS_URL, payload={"data": []})
    await client.tasks("p1", "j1")
    assert [headers["Authorization"] for _, headers in kit.requests()] == ["Bearer T1", "Bearer T2"]
    assert kit.timeline.slept == []


@pytest.mark.parametrize(
    "response", [{"status": 401}, {"payload": error("UNAUTHORIZED")}, {"payload": error(401)}]
)
async def test_tasks_rejected_new_token_is_a_credentials_error(kit, client, response):
    kit.api.get(TASKS_URL, **response, repeat=True)
    kit.grant("T3", "T4")
    assert (await failure_of(client.tasks("p1", "j1"))).reason is Reason.CREDENTIALS
    tokens = [headers["Authorization"] for _, headers in kit.requests()]
    assert tokens == ["Bearer T1", "Bearer T2", "Bearer T3"]


async def test_tasks_new_token_revoked_before_its_first_request_is_renewed(kit, client):
    kit.grant("T3")
    for _ in range(2):
        kit.api.get(TASKS_URL, status=401)
    kit.api.get(TASKS_URL, payload={"data": []})
    assert await client.tasks("p1", "j1") is not None
    assert [headers["Authorization"] for _, headers in kit.requests()][-1] == "Bearer T3"
    assert kit.timeline.slept == []


async def test_tasks_tokens_that_expire_on_the_way_are_renewed_a_bounded_number_of_times(kit):
    kit.api.post(TOKEN_URL, payload={"access_token": "T", "expires_in": 1}, repeat=True)

    def respond(url, **kwargs):
        kit.timeline.now += 2
        return CallbackResult(status=401)

    kit.api.get(TASKS_URL, callback=respond, repeat=True)
    assert (await failure_of(kit.client().tasks("p1", "j1"))).reason is Reason.CREDENTIALS
    assert len(kit.requests()) == MAX_TOKENS


async def test_tasks_sixteen_concurrent_rejections_renew_once(kit, client):
    def respond(url, *, headers, **kwargs):
        fresh = headers["Authorization"] == "Bearer T2"
        return CallbackResult(payload={"data": []}) if fresh else CallbackResult(status=401)

    kit.api.get(TASKS_URL, callback=respond, repeat=True)
    await asyncio.gather(*(client.tasks("p1", "j1") for _ in range(16)))
    assert len(kit.requests("POST")) == 2


async def test_tasks_error_message_does_not_contain_the_token(kit):
    kit.grant("hush-T")
    kit.api.get(TASKS_URL, status=403, payload=error(403, "no hush-T here"))
    failure = await failure_of(kit.client().tasks("p1", "j1"))
    assert "hush-T" not in str(failure)
    assert "here" in str(failure)


async def test_tasks_wrong_type_is_reported_with_endpoint_and_path(kit, client):
    kit.api.get(TASKS_URL, payload={"data": [{"id": "t1", "status": 5}]}, repeat=True)
    failure = await failure_of(client.tasks("p1", "j1"))
    assert failure.reason is Reason.INVALID_RESPONSE
    assert failure.detail.startswith("GET api.example/projects/p1/jobs/j1/tasks: data[0].status: ")


@pytest.mark.parametrize(("size", "headers"), [(5000, {}), (5, {"Content-Length": "5000"})])
async def test_tasks_response_over_the_limit_is_not_read(kit, size, headers):
    kit.grant("T1")
    kit.api.get(TASKS_URL, body=b" " * size, headers=headers)
    assert (await failure_of(kit.client(json_limit_bytes=1000).tasks("p1", "j1"))).reason is Reason.TOO_LARGE
    assert len(kit.requests()) == 1


async def test_sign_returns_the_url_unchanged_and_logs_no_query(kit, client, logs):
    kit.api.get(f"{JOB_URL}/downloads/results", payload={"data": {"url": SIGNED}, "error": None})
    assert await client.sign(ARCHIVE) == SIGNED
    line = next(line for line in logs() if line["event"] == "url.signed")
    assert (line["host"], line["path"]) == ("storage.example", "/b/output.tgz")
    assert "canary" not in str(logs())


async def test_sign_url_without_tls_is_an_error(kit, client):
    kit.api.get(f"{JOB_URL}/downloads/results", payload={"data": {"url": SIGNED.replace("https", "http")}})
    failure = await failure_of(client.sign(ARCHIVE))
    assert failure.reason is Reason.INSECURE_URL
    assert "canary" not in str(failure)


async def test_sign_url_without_tls_is_accepted_from_an_api_without_tls(kit):
    kit.grant("T1")
    kit.api.get(
        "http://127.0.0.1:9/projects/p1/jobs/j1/downloads/results", payload={"data": {"url": "http://h/x"}}
    )
    assert await kit.client(api_url="http://127.0.0.1:9/").sign(ARCHIVE) == "http://h/x"


async def test_sign_accepts_archives_only_and_open_other_kinds_only(client):
    with pytest.raises(ValueError, match="archives"):
        await client.sign(GEOJSON)
    with pytest.raises(ValueError, match="archive"):
        async with client.open(ARCHIVE):
            pass


async def test_check_unknown_project_is_not_found(kit, client):
    kit.api.get(f"{API}/projects/p1", payload={"data": {"id": "p1"}, "error": None})
    await client.check("p1")
    kit.api.get(f"{API}/projects/p1", status=404, payload=error(404))
    assert (await failure_of(client.check("p1"))).reason is Reason.NOT_FOUND


@pytest.mark.parametrize("status", [200, 404, 410, 500, 503])
async def test_open_makes_one_attempt_and_returns_any_status(kit, client, status):
    kit.api.get(f"{TASKS_URL}/t1/outputs/data-json", status=status, body=json.dumps({"type": "x"}))
    async with client.open(GEOJSON) as (http_response, prefetched):
        assert http_response.status == status
        assert prefetched + await http_response.content.read() == b'{"type": "x"}'
    ((_, headers),) = kit.requests()
    assert (headers["Authorization"], headers["Accept-Encoding"]) == ("Bearer T1", "identity")
    assert kit.timeline.slept == []


@pytest.mark.parametrize(
    ("statuses", "tokens"),
    [([401, 200], ["T1", "T2"]), ([401, 401, 200], ["T1", "T2", "T3"]), ([401] * 3, ["T1", "T2", "T3"])],
)
async def test_open_rejected_token_is_renewed(kit, client, statuses, tokens):
    url = f"{TASKS_URL}/t1/outputs/data-json"
    kit.grant("T3")
    for status in statuses:
        kit.api.get(url, status=status)
    async with client.open(GEOJSON) as (response, _):
        assert response.status == statuses[-1]
    assert [headers["Authorization"] for _, headers in kit.requests()] == [
        f"Bearer {each}" for each in tokens
    ]


async def test_open_without_response_raises_the_reason(kit, client):
    kit.api.get(f"{TASKS_URL}/t1/outputs/data-json", exception=aiohttp.ServerDisconnectedError())
    with pytest.raises(ApiError) as caught:
        async with client.open(GEOJSON):
            pass
    assert caught.value.reason is Reason.CONNECTION_LOST


async def test_open_exception_of_the_caller_is_not_converted(kit, client):
    kit.api.get(f"{TASKS_URL}/t1/outputs/data-json")
    with pytest.raises(OSError, match="disk"):
        async with client.open(GEOJSON):
            raise OSError("disk")


async def test_open_429_starts_the_cooldown_of_the_host(kit, client):
    kit.api.get(f"{TASKS_URL}/t1/outputs/data-json", status=429, headers={"Retry-After": "30"})
    async with client.open(GEOJSON) as (response, _):
        assert response.status == 429
    await kit.cooldown.wait("api.example")
    assert kit.timeline.now >= 1030

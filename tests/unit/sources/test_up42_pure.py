import json
import time
import tracemalloc
from contextlib import suppress
from datetime import UTC, datetime
from math import log2
from urllib.parse import unquote
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from bulkdl.errors import ApiError
from bulkdl.models import Job, Kind, Output, Reason
from bulkdl.redaction import QUOTE_CHARS, sanitize
from bulkdl.sources.up42_jobs import decode, paths
from bulkdl.sources.up42_jobs.auth import parse_grant
from bulkdl.sources.up42_jobs.credentials import Account, ProjectKey, StaticToken
from bulkdl.sources.up42_jobs.decode import UnreadableJob
from bulkdl.sources.up42_jobs.errors import api_error, find_error, find_message, parse_error_response
from bulkdl.sources.up42_jobs.pagination import MAX_PAGES, STALE_PAGES, RecentIds, iter_jobs

JOB = {
    "id": "0aa51a58-6b2b-4b4c-8a5b-0123456789ab",
    "status": "SUCCEEDED",
    "mode": "DEFAULT",
    "name": "harbour / 港 🚢",
    "createdAt": "2020-01-31T19:42:29.679Z",
    "finishedAt": "2020-01-31T19:43:06Z",
    "workflowId": "w",
    "somethingNew": {"deep": [1]},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def _job(**changes):
    entry = {key: value for key, value in {**JOB, **changes}.items() if value is not ...}
    return decode.job({"data": entry, "error": None}, "p", entry.get("id"), "GET jobs")


def _problem(**changes):
    with pytest.raises(ApiError) as caught:
        _job(**changes)
    assert caught.value.reason is Reason.INVALID_RESPONSE
    return caught.value.detail


def test_a_job_as_up42_tells_it():
    job = _job()
    assert job == Job(
        project_id="p",
        id=JOB["id"],
        status="SUCCEEDED",
        mode="DEFAULT",
        name=JOB["name"],
        created_at=datetime(2020, 1, 31, 19, 42, 29, 679000, UTC),
        finished_at=datetime(2020, 1, 31, 19, 43, 6, tzinfo=UTC),
        workflow_id="w",
    )
    assert job.document == JOB


@pytest.mark.parametrize("absent", [None, ...])
def test_what_a_job_may_lack(absent):
    job = _job(name=absent, mode=absent, finishedAt=absent, workflowId=absent)
    assert (job.name, job.mode, job.finished_at, job.workflow_id) == (None, "DEFAULT", None, None)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2020-01-31T19:42:29.679Z", datetime(2020, 1, 31, 19, 42, 29, 679000, UTC)),
        ("2020-01-31T19:42:29Z", datetime(2020, 1, 31, 19, 42, 29, tzinfo=UTC)),
        ("2022-05-28T17:40:43.482868Z", datetime(2022, 5, 28, 17, 40, 43, 482868, UTC)),
        ("2022-05-28T17:40:43.482868123Z", datetime(2022, 5, 28, 17, 40, 43, 482868, UTC)),
        ("2022-05-28T17:40:43", datetime(2022, 5, 28, 17, 40, 43, tzinfo=UTC)),
        ("2022-05-28T17:40Z", datetime(2022, 5, 28, 17, 40, tzinfo=UTC)),
        ("2022-05-28 17:40:43", datetime(2022, 5, 28, 17, 40, 43, tzinfo=UTC)),
        ("2022-05-28T19:40:43+02:00", datetime(2022, 5, 28, 17, 40, 43, tzinfo=UTC)),
        ("2022-05-28T17:40:43+0000", datetime(2022, 5, 28, 17, 40, 43, tzinfo=UTC)),
    ],
)
def test_moments_of_all_years(text, moment):
    created_at = _job(createdAt=text).created_at
    assert created_at == moment
    assert created_at.tzinfo is UTC


@pytest.mark.parametrize(
    ("status", "word"),
    [("not started", "NOT_STARTED"), ("NOT_STARTED", "NOT_STARTED"), (" Succeeded ", "SUCCEEDED")],
)
def test_statuses_are_spelled_one_way(status, word):
    assert _job(status=status).status == word


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"createdAt": 5}, "data.createdAt"),
        ({"createdAt": "yesterday"}, "data.createdAt"),
        ({"createdAt": "9999-12-31T23:59:59-10:00"}, "data.createdAt"),
        ({"createdAt": None}, "data.createdAt"),
        ({"createdAt": ...}, "data.createdAt"),
        ({"finishedAt": True}, "data.finishedAt"),
        ({"status": None}, "data.status"),
        ({"status": ""}, "data.status"),
        ({"status": 3}, "data.status"),
        ({"status": ...}, "data.status"),
        ({"name": 7}, "data.name"),
        ({"mode": []}, "data.mode"),
        ({"id": 5}, "data.id"),
        ({"id": ...}, "data.id"),
        ({"id": ""}, "data.id"),
        ({"id": "../../etc"}, "data.id"),
        ({"id": "a/b"}, "data.id"),
        ({"id": "a\n"}, "data.id"),
        ({"id": ".."}, "data.id"),
        ({"id": "x" * 65}, "data.id"),
        ({"id": "ａ"}, "data.id"),
    ],
)
def test_a_wrong_job_is_told_with_its_path(changes, path):
    assert _problem(**changes).startswith(f"GET jobs: {path}: ")


def test_an_answer_about_another_job_is_not_taken():
    with pytest.raises(ApiError, match=r"data\.id"):
        decode.job({"data": JOB}, "p", "another", "GET job")


def test_half_a_surrogate_pair_in_a_name_does_not_cost_the_job():
    assert _job(name=json.loads('"a\\ud83d"')).name == "a?"


def test_one_bad_job_does_not_hide_its_neighbours():
    page = {"data": [JOB, {**JOB, "createdAt": None, "id": "b"}, 7, {"id": "../x"}, {**JOB, "id": "c"}]}
    good, dated, number, climbing, last = decode.jobs_page(page, "p", "GET jobs")
    assert [good.id, last.id] == [JOB["id"], "c"]
    assert isinstance(dated, UnreadableJob)
    assert (dated.job_id, number.job_id, climbing.job_id) == ("b", None, None)
    assert dated.problem.startswith("GET jobs: data[1].createdAt: ")
    assert number.problem == "GET jobs: data[2]: expected an object, got a number"


@pytest.mark.parametrize("document", [None, 5, [], "x", {}, {"data": None}, {"data": {}}, {"data": "x"}])
@pytest.mark.parametrize(
    "read",
    [
        decode.tasks,
        decode.quicklooks,
        lambda document, where: decode.jobs_page(document, "p", where),
        lambda document, where: decode.job(document, "p", "j", where),
        decode.signed_url,
    ],
)
def test_a_document_of_another_shape_is_a_bad_answer(document, read):
    with pytest.raises(ApiError, match=r"^invalid_response: GET x: "):
        read(document, "GET x")


@given(JSON)
def test_no_document_makes_another_error(document):
    for read in (decode.tasks, decode.quicklooks, decode.signed_url):
        for shape in (document, {"data": document}, {"data": [document]}, {"data": {"url": document}}):
            with suppress(ApiError):
                read(shape, "GET x")
    find_error({"error": document})
    find_message(json.dumps({"error": document, "message": document}).encode())
    decode.jobs_page({"data": [document, {**JOB, "createdAt": document}, {**JOB, "id": document}]}, "p", "x")


@given(st.binary(max_size=200))
def test_no_bytes_make_another_error(body):
    find_message(body)
    try:
        parse_grant(decode.parse_json(body, "POST x"), "POST x")
    except ApiError as failure:
        found = failure.reason
    else:
        found = Reason.INVALID_RESPONSE
    assert found is Reason.INVALID_RESPONSE


def test_json_nested_without_end_is_a_bad_answer():
    with pytest.raises(ApiError) as caught:
        decode.parse_json(b"[" * 200_000, "GET x")
    assert caught.value.reason is Reason.INVALID_RESPONSE
    assert find_message(b"[" * 200_000) == ""


def test_tasks_keep_their_order_and_parents():
    document = {
        "data": [
            {"id": "a", "name": "data:1", "status": "SUCCEEDED", "parentsIds": [], "block": {}},
            {"id": "b", "name": None, "status": "not started", "parentsIds": ["a"]},
            {"id": "c", "status": "FAILED"},
        ]
    }
    found = decode.tasks(document, "x")
    assert [(one.id, one.name, one.status, one.parent_ids) for one in found] == [
        ("a", "data:1", "SUCCEEDED", ()),
        ("b", "", "NOT_STARTED", ("a",)),
        ("c", "", "FAILED", ()),
    ]


def test_quicklook_names_are_taken_as_they_are_once():
    names = ["a.jpg", "../../x.png", "a.jpg", "b c?.webp"]
    assert decode.quicklooks({"data": names, "error": {}}, "x") == ["a.jpg", "../../x.png", "b c?.webp"]


@pytest.mark.parametrize("bad", [None, 5, "", {}, "\ud800"])
def test_a_quicklook_without_a_usable_name_is_told(bad):
    with pytest.raises(ApiError, match=r"data\[1\]"):
        decode.quicklooks({"data": ["a", bad]}, "x")


SIGNED = "https://storage.example/b/o.tgz?GoogleAccessId=a@b&Expires=1&Signature=a%2Fb%2B%3D"


@pytest.mark.parametrize("url", [SIGNED, "http://127.0.0.1:8080/x?y=%2F", "HTTPS://h/x"])
def test_a_signed_url_is_left_as_it_is(url):
    assert decode.signed_url({"data": {"url": url}}, "x") == url


@pytest.mark.parametrize(
    "url",
    [None, 5, "", "/x", "//h/x", "ftp://h/x", "file:///etc/passwd", "https://", "https:///x", "https://h/a b",
     "https://h/\r\nX: y", "https://u:p@h/x", "https://h:99999/x", "https://h:x/", "https://h/é", " https://h/x",
     "http://a[x]@", "https://[::1"],
)  # fmt: skip
def test_what_is_no_absolute_url_is_not_taken(url):
    with pytest.raises(ApiError, match=r"data\.url"):
        decode.signed_url({"data": {"url": url}}, "x")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"code": 404, "message": "m"}, Reason.NOT_FOUND),
        ({"code": "404"}, Reason.NOT_FOUND),
        ({"code": "RESOURCE_NOT_FOUND"}, Reason.NOT_FOUND),
        ("Not found!", Reason.NOT_FOUND),
        ({"code": "UNAUTHORIZED", "message": "ACCESS_TOKEN_EXPIRED: JWT"}, Reason.CREDENTIALS),
        ({"code": 401}, Reason.CREDENTIALS),
        ({"code": 403}, Reason.FORBIDDEN),
        ({"code": 429}, Reason.THROTTLED),
        ({"code": 503}, Reason.SERVER_ERROR),
        ({"code": "INTERNAL_SERVER_ERROR"}, Reason.SERVER_ERROR),
        ({"code": 422}, Reason.REJECTED),
        ({"code": 200}, Reason.REJECTED),
        ({"code": True}, Reason.REJECTED),
        ({"code": 10**400}, Reason.REJECTED),
        ({"code": ["x"]}, Reason.REJECTED),
        ({"message": "m"}, Reason.REJECTED),
        ("something else", Reason.REJECTED),
        (["x"], Reason.REJECTED),
        (True, Reason.REJECTED),
    ],
)
def test_an_error_inside_a_success_is_read_by_its_code(error, reason):
    complaint = find_error({"data": None, "error": error})
    assert api_error(complaint, "x").reason is reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"data":null,"error":{"code":404,"message":"Job not found","details":null}}', Reason.NOT_FOUND),
        (b'{"error":{"code":"RESOURCE_NOT_FOUND","message":"m","details":null}}', Reason.NOT_FOUND),
        (b"<html>404 Not Found</html>", Reason.INVALID_RESPONSE),
        (b'{"timestamp":"t","status":404,"error":"Not Found","path":"/x"}', Reason.INVALID_RESPONSE),
        (b'{"message":"no Route matched with those values"}', Reason.INVALID_RESPONSE),
        (b'{"data":[],"error":{"code":404}}', Reason.INVALID_RESPONSE),
        (b"", Reason.INVALID_RESPONSE),
    ],
)
def test_failure_of_404_is_not_found_only_in_the_error_envelope(body, reason):
    assert api_error(parse_error_response(404, body), "x").reason is reason


@pytest.mark.parametrize("document", [{"error": None}, {"error": {}}, {"data": 1}, {}, [], None, "error"])
def test_what_is_no_error(document):
    assert find_error(document) is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", ""),
        (b"null", ""),
        (b"<html>502</html>", ""),
        (b'{"data":null,"error":{"code":404,"message":"Job not found","details":null}}', "Job not found"),
        (b'{"error":"invalid_grant","error_description":"no such user"}', "no such user"),
        (b'{"status":404,"error":"Not Found","message":"nothing here"}', "nothing here"),
        (b'{"title":"Gone","detail":"for good"}', "for good"),
    ],
)
def test_messages_of_all_forms_of_errors(body, message):
    assert find_message(body) == message


CANARY = "Zk3canary0Zk3canary0Zk3canary0Zk3canary0Zk3canary0"


@pytest.mark.parametrize(
    "text",
    [
        f"bad token eyJhbGciOi.eyJ{CANARY}.{CANARY}",
        f"Authorization: Bearer {CANARY}",
        "sent bearer canary12",
        "sent Basic Y2FuYXJ5OmNhbmFyeQcanary==",
        f"see https://h/o?GoogleAccessId=a@b&Signature={CANARY}",
        "Signature=canary",
        '{"password": "canary"}',
        "api_key: 'canary'",
        "https://user:canary@host/",
        "key abcdEFGH.canary0123456789012345678901234567 unknown",
        CANARY,
        "key is s3cr3t-canary!",
    ],
)
def test_no_secret_is_quoted(text):
    assert "canary" not in sanitize(text, secrets=("s3cr3t-canary!", ""))


@pytest.mark.parametrize(
    "text",
    [
        "Job not found for id 0aa51a58-6b2b-4b4c-8a5b-0123456789ab and userId 1aa51a58-6b2b-4b4c-8a5b-0123",
        "ACCESS_TOKEN_EXPIRED: JWT expired at 2019-11-29T11:54:38Z.",
        "Required request body is missing",
    ],
)
def test_what_helps_is_quoted(text):
    assert sanitize(text) == text


@given(st.text(max_size=600))
def test_a_quote_is_one_short_printable_line(text):
    found = sanitize(text)
    assert len(found) <= QUOTE_CHARS
    assert found.isprintable()


@pytest.mark.parametrize("word", ["eyJ", "a", "?=", "token ", "://", ".", "w.", "a=", "-"])
def test_sanitize_of_a_long_hostile_text_needs_little_cpu_time(word):
    started = time.thread_time()  # other processes do not count
    assert len(sanitize(word * 10**6)) <= QUOTE_CHARS
    assert time.thread_time() - started < 0.1


NAMES = st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable())


@given(NAMES)
def test_a_quicklooks_name_is_one_segment_whatever_it_holds(name):
    path = paths.output(Output("p", "j", "t", Kind.QUICKLOOK, name))
    base, _, last = path.rpartition("/")
    assert base == "/projects/p/jobs/j/tasks/t/outputs/quicklooks"
    assert unquote(last) == name
    url = paths.address("https://h/base/", path)
    assert str(url) == f"https://h/base{path}"
    assert not url.query_string
    assert not url.fragment


@pytest.mark.parametrize(
    ("name", "last"), [("..", "%2E%2E"), (".", "%2E"), ("a/../b", "a%2F..%2Fb"), ("é?#%", "%C3%A9%3F%23%25")]
)
def test_names_that_would_climb_do_not(name, last):
    assert paths.segment(name) == last


@pytest.mark.parametrize(
    ("output", "path"),
    [
        (Output("p", "j", None, Kind.ARCHIVE), "/projects/p/jobs/j/downloads/results"),
        (Output("p", "j", "t", Kind.ARCHIVE), "/projects/p/jobs/j/tasks/t/downloads/results"),
        (Output("p", "j", None, Kind.GEOJSON), "/projects/p/jobs/j/outputs/data-json"),
        (Output("p", "j", "t", Kind.GEOJSON), "/projects/p/jobs/j/tasks/t/outputs/data-json"),
    ],
)
def test_where_outputs_are(output, path):
    assert paths.output(output) == path


@pytest.mark.parametrize(
    "output", [Output("p", "j", None, Kind.QUICKLOOK, "x"), Output("p", "j", "t", Kind.QUICKLOOK)]
)
def test_there_is_no_quicklook_of_a_job_nor_one_without_a_name(output):
    with pytest.raises(ValueError, match="quicklook"):
        paths.output(output)


@pytest.mark.parametrize(
    ("body", "life_s"),
    [
        ({"access_token": "T", "expires_in": 2941}, 2941),
        ({"access_token": "T", "expires_in": "120"}, 120),
        ({"access_token": "T", "expires_in": 0}, 0),
        ({"access_token": "T", "expires_in": -5}, 300),
        ({"access_token": "T", "expires_in": True}, 300),
        ({"access_token": "T", "expires_in": "soon"}, 300),
        ({"access_token": "T", "expires_in": float("inf")}, 300),
        ({"data": {"accessToken": "T"}, "access_token": "T", "token_type": "bearer"}, 300),
        ({"data": {"accessToken": "T"}, "error": None}, 300),
        ({"data": None, "access_token": "T", "error": {}}, 300),
        ({"access_token": "", "data": {"accessToken": "T"}}, 300),
    ],
)
def test_grants_of_all_years(body, life_s):
    grant = parse_grant(body, "x")
    assert (grant.token, grant.lifetime_s) == ("T", life_s)
    assert "T" not in repr(grant).removeprefix("Grant")


@pytest.mark.parametrize(
    ("token", "life_s"),
    [
        ("h.eyJpYXQiOjEwMDAsImV4cCI6MTA2MH0.s", 60),
        ("h.eyJpYXQiOjEwNjAsImV4cCI6MTAwMH0.s", 300),
        ("h.eyJpYXQiOjEwNjB9.s", 300),
        ("h.W10.s", 300),
        ("h.%%%.s", 300),
        ("opaque", 300),
    ],
)
def test_the_life_of_a_jwt_is_used_if_it_can_be_read(token, life_s):
    assert parse_grant({"access_token": token}, "x").lifetime_s == life_s


@pytest.mark.parametrize(
    "body",
    [None, 5, [], {}, {"access_token": 5}, {"access_token": "a\nb"}, {"access_token": "é"}, {"data": ["T"]}],
)
def test_an_answer_without_a_token_is_a_bad_one(body):
    with pytest.raises(ApiError) as caught:
        parse_grant(body, "x")
    assert caught.value.reason is Reason.INVALID_RESPONSE


@pytest.mark.parametrize(
    "credentials",
    [
        ProjectKey("p", SecretStr("canary")),
        Account("u", SecretStr("canary")),
        StaticToken(SecretStr("canary")),
    ],
)
def test_credentials_show_no_secret(credentials):
    assert "canary" not in f"{credentials!r}{credentials}"


def _listed(job_id):
    return Job("p", job_id, "S", "D", None, datetime(2020, 1, 1, tzinfo=UTC), None, None)


def test_seen_knows_jobs_by_their_whole_id():
    seen = RecentIds()
    one = str(uuid4())
    assert [seen.add(_listed(text)) for text in (one, one, "x", "x", one.upper(), UUID(one).hex)] == [
        True, False, True, False, True, True,
    ]  # fmt: skip
    broken = UnreadableJob("p", one, "why")
    assert [seen.add(broken), seen.add(broken)] == [True, False]


def test_so_many_jobs_are_remembered_and_no_more():
    seen = RecentIds(max_jobs=3)
    assert all(seen.add(_listed(text)) for text in "abc")
    assert not any(seen.add(_listed(text)) for text in "abc")
    assert seen.add(_listed("d"))
    assert [seen.add(_listed(text)) for text in "bcd"] == [False, False, False]
    assert seen.add(_listed("a"))


def test_the_memory_of_a_long_list_does_not_grow_with_it():
    tracemalloc.start()
    try:
        seen = RecentIds()
        for number in range(60_000):
            seen.add(_listed(str(UUID(int=number * 2**80 + 2**127))))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 3 * 1024 * 1024


async def test_a_long_list_that_begins_again_ends():
    """It is longer than what is remembered of it."""
    pages_of_list = 130
    asked = []

    async def page(number):
        asked.append(number)
        assert len(asked) < 2 * pages_of_list, "it goes on for ever"
        first = number % pages_of_list * 100
        return [_listed(f"job-{first + at}") for at in range(100)]

    listed_ids = [job.id async for job in iter_jobs(page, "p")]
    assert sorted(listed_ids) == sorted(f"job-{number}" for number in range(pages_of_list * 100))
    assert len(asked) <= pages_of_list + STALE_PAGES + 1 + log2(MAX_PAGES)

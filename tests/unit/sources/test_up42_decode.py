import json
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkdl.errors import ApiError
from bulkdl.listings import UnreadableContainer
from bulkdl.models import Reason
from bulkdl.sources.up42_common.auth import parse_grant
from bulkdl.sources.up42_common.errors import find_error, find_message
from bulkdl.sources.up42_common.json_documents import parse_json
from bulkdl.sources.up42_jobs import decode
from bulkdl.sources.up42_jobs.models import job_container

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


def test_job_all_fields_are_read():
    job = _job()
    assert job == job_container(
        project_id="p",
        job_id=JOB["id"],
        status="SUCCEEDED",
        mode="DEFAULT",
        name=JOB["name"],
        created_at=datetime(2020, 1, 31, 19, 42, 29, 679000, UTC),
        finished_at=datetime(2020, 1, 31, 19, 43, 6, tzinfo=UTC),
        workflow_id="w",
    )
    assert job.document == JOB


@pytest.mark.parametrize("absent", [None, ...])
def test_job_optional_fields_can_be_absent(absent):
    job = _job(name=absent, mode=absent, finishedAt=absent, workflowId=absent)
    assert (job.name, job.attributes, job.finished_at) == (None, {"mode": "DEFAULT"}, None)


@pytest.mark.parametrize(
    ("text", "timestamp"),
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
def test_job_timestamps_of_all_formats_are_utc(text, timestamp):
    created_at = _job(createdAt=text).created_at
    assert created_at == timestamp
    assert created_at.tzinfo is UTC


@pytest.mark.parametrize(
    ("status", "word"),
    [("not started", "NOT_STARTED"), ("NOT_STARTED", "NOT_STARTED"), (" Succeeded ", "SUCCEEDED")],
)
def test_job_status_is_normalised(status, word):
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
def test_job_invalid_field_is_reported_with_its_path(changes, path):
    assert _problem(**changes).startswith(f"GET jobs: {path}: ")


def test_job_response_with_another_id_is_invalid():
    with pytest.raises(ApiError, match=r"data\.id"):
        decode.job({"data": JOB}, "p", "another", "GET job")


def test_job_name_with_half_a_surrogate_pair_is_accepted():
    assert _job(name=json.loads('"a\\ud83d"')).name == "a?"


def test_jobs_page_unreadable_job_does_not_affect_other_jobs():
    page = {"data": [JOB, {**JOB, "createdAt": None, "id": "b"}, 7, {"id": "../x"}, {**JOB, "id": "c"}]}
    good, dated, number, climbing, last = decode.jobs_page(page, "p", "GET jobs")
    assert [good.ref.id, last.ref.id] == [JOB["id"], "c"]
    assert isinstance(dated, UnreadableContainer)
    assert (dated.id, number.id, climbing.id) == ("b", None, None)
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
def test_decode_document_of_wrong_shape_is_an_invalid_response(document, read):
    with pytest.raises(ApiError, match=r"^invalid_response: GET x: "):
        read(document, "GET x")


@given(JSON)
def test_decode_any_document_raises_only_api_errors(document):
    for read in (decode.tasks, decode.quicklooks, decode.signed_url):
        for shape in (document, {"data": document}, {"data": [document]}, {"data": {"url": document}}):
            with suppress(ApiError):
                read(shape, "GET x")
    find_error({"error": document})
    find_message(json.dumps({"error": document, "message": document}).encode())
    decode.jobs_page({"data": [document, {**JOB, "createdAt": document}, {**JOB, "id": document}]}, "p", "x")


@given(st.binary(max_size=200))
def test_parse_json_any_bytes_raise_only_api_errors(body):
    find_message(body)
    try:
        parse_grant(parse_json(body, "POST x"), "POST x")
    except ApiError as failure:
        reason = failure.reason
    else:
        reason = Reason.INVALID_RESPONSE
    assert reason is Reason.INVALID_RESPONSE


def test_parse_json_deep_nesting_is_an_invalid_response():
    with pytest.raises(ApiError) as caught:
        parse_json(b"[" * 200_000, "GET x")
    assert caught.value.reason is Reason.INVALID_RESPONSE
    assert find_message(b"[" * 200_000) == ""


@pytest.mark.parametrize("task_id", ["../../etc", "a/b", "..", ".", "", "a\n", "a\0b", "x" * 65, 5, None])
def test_tasks_id_that_is_not_one_path_segment_is_invalid(task_id):
    with pytest.raises(ApiError, match=r"x: data\[0\]\.id: "):
        decode.tasks({"data": [{"id": task_id, "status": "SUCCEEDED"}]}, "x")


def test_tasks_keep_order_and_parents():
    document = {
        "data": [
            {"id": "a", "name": "data:1", "status": "SUCCEEDED", "parentsIds": [], "block": {}},
            {"id": "b", "name": None, "status": "not started", "parentsIds": ["a"]},
            {"id": "c", "status": "FAILED"},
        ]
    }
    tasks = decode.tasks(document, "x")
    assert [(task.id, task.name, task.status, task.parent_ids) for task in tasks] == [
        ("a", "data:1", "SUCCEEDED", ()),
        ("b", "", "NOT_STARTED", ("a",)),
        ("c", "", "FAILED", ()),
    ]


def test_quicklooks_names_are_unchanged_without_duplicates():
    names = ["a.jpg", "../../x.png", "a.jpg", "b c?.webp"]
    assert decode.quicklooks({"data": names, "error": {}}, "x") == ["a.jpg", "../../x.png", "b c?.webp"]


@pytest.mark.parametrize("bad", [None, 5, "", {}, "\ud800"])
def test_quicklooks_invalid_name_is_reported(bad):
    with pytest.raises(ApiError, match=r"data\[1\]"):
        decode.quicklooks({"data": ["a", bad]}, "x")


SIGNED = "https://storage.example/b/o.tgz?GoogleAccessId=a@b&Expires=1&Signature=a%2Fb%2B%3D"


@pytest.mark.parametrize("url", [SIGNED, "http://127.0.0.1:8080/x?y=%2F", "HTTPS://h/x"])
def test_signed_url_is_returned_unchanged(url):
    assert decode.signed_url({"data": {"url": url}}, "x") == url


@pytest.mark.parametrize(
    "url",
    [None, 5, "", "/x", "//h/x", "ftp://h/x", "file:///etc/passwd", "https://", "https:///x", "https://h/a b",
     "https://h/\r\nX: y", "https://u:p@h/x", "https://h:99999/x", "https://h:x/", "https://h/é", " https://h/x",
     "http://a[x]@", "https://[::1"],
)  # fmt: skip
def test_signed_url_that_is_not_absolute_is_invalid(url):
    with pytest.raises(ApiError, match=r"data\.url"):
        decode.signed_url({"data": {"url": url}}, "x")

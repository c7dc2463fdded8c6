import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from bulkdl.sources.up42_jobs import client
from bulkdl.sources.up42_jobs.endpoints import API_ENDPOINTS, OTHER, endpoint_label
from bulkdl.sources.up42_jobs.models import Kind, job_output

HOSTILE = "../../jobs"


def output(kind: Kind, task: str | None = "t", name: str = "") -> str:
    return client.output_path(job_output("p", "j", task, kind, name))


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/oauth/token", "token"),
        (client.project_path("p"), "project"),
        (client.jobs_path("p", 3), "jobs"),
        (client.job_path("p", "j"), "job"),
        (client.tasks_path("p", "j"), "tasks"),
        (output(Kind.ARCHIVE), "sign"),
        (output(Kind.ARCHIVE, None), "sign"),
        (output(Kind.GEOJSON), "geojson"),
        (output(Kind.GEOJSON, None), "geojson"),
        (client.quicklooks_path("p", "j", "t"), "quicklook_list"),
        (output(Kind.QUICKLOOK, name="a b.jpg"), "quicklook"),
        (output(Kind.QUICKLOOK, name=HOSTILE), "quicklook"),
        (output(Kind.QUICKLOOK, name=".."), "quicklook"),
        ("/elsewhere", "other"),
    ],
)
def test_endpoint_label_of_each_request_path(path, endpoint):
    for base in ("https://api.up42.com", "https://gateway.example/up42/v1"):
        assert endpoint_label("GET", client.address(base, path)) == endpoint


def test_endpoint_label_of_any_post_request_is_token():
    assert endpoint_label("POST", URL("https://sso.example/realms/up42/protocol")) == "token"


@given(st.text())
def test_endpoint_label_of_any_path_is_a_known_value(path):
    assert endpoint_label("GET", URL.build(scheme="https", host="h", path=f"/{path}")) in (
        *API_ENDPOINTS,
        OTHER,
    )

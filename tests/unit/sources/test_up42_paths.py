from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkdl.sources.up42_jobs import client
from bulkdl.sources.up42_jobs.models import Kind, job_output

NAMES = st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable())


@given(NAMES)
def test_output_quicklook_name_is_one_path_segment(name):
    path = client.output_path(job_output("p", "j", "t", Kind.QUICKLOOK, name))
    base, _, last = path.rpartition("/")
    assert base == "/projects/p/jobs/j/tasks/t/outputs/quicklooks"
    assert unquote(last) == name
    url = client.address("https://h/base/", path)
    assert str(url) == f"https://h/base{path}"
    assert not url.query_string
    assert not url.fragment


@pytest.mark.parametrize(
    ("name", "last"), [("..", "%2E%2E"), (".", "%2E"), ("a/../b", "a%2F..%2Fb"), ("é?#%", "%C3%A9%3F%23%25")]
)
def test_segment_encodes_dots_and_separators(name, last):
    assert client.encode_segment(name) == last


@pytest.mark.parametrize(
    ("output", "path"),
    [
        (job_output("p", "j", None, Kind.ARCHIVE), "/projects/p/jobs/j/downloads/results"),
        (job_output("p", "j", "t", Kind.ARCHIVE), "/projects/p/jobs/j/tasks/t/downloads/results"),
        (job_output("p", "j", None, Kind.GEOJSON), "/projects/p/jobs/j/outputs/data-json"),
        (job_output("p", "j", "t", Kind.GEOJSON), "/projects/p/jobs/j/tasks/t/outputs/data-json"),
    ],
)
def test_output_path_of_each_kind(output, path):
    assert client.output_path(output) == path


@pytest.mark.parametrize(
    "output", [job_output("p", "j", None, Kind.QUICKLOOK, "x"), job_output("p", "j", "t", Kind.QUICKLOOK)]
)
def test_output_quicklook_without_task_or_name_is_an_error(output):
    with pytest.raises(ValueError, match="quicklook"):
        client.output_path(output)

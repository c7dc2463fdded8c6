"""One config with projects and accounts: all commands use both sources and show them."""

import pytest

from support.both_sources import both_sources


@pytest.fixture
async def both(tmp_path):
    async with both_sources(tmp_path) as environment:
        yield environment


async def test_run_downloads_both_sources_into_one_directory_and_a_rerun_nothing(both):
    result = await both.run()
    assert result.code == 0, result
    assert both.missing_files() == []
    assert both.missing_job_files() == []
    assert both.exit_codes(result) == {"jobs": 0, "storage": 0}
    assert set(both.downloaded(result)) == {"jobs", "storage"}
    (started,) = [event for event in result.events if event["event"] == "run.started"]
    assert started["sources"] == ["jobs", "storage"]

    both.count_requests()
    again = await both.run()
    assert again.code == 0, again
    assert again.document["outputs"]["completed"] == 0
    counts = both.count_requests()
    assert counts["download_url"] == counts["object"] == 0

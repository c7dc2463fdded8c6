"""The dates of features in all notations that UP42's blocks are known to write."""

from __future__ import annotations

from typing import Any

import pytest

from bulkdl.processors.catalog.dates import FeatureDate, find_date, parse_instant

STARTED, FINISHED = "2020-05-01T10:00:00Z", "2020-05-01T11:00:00Z"


def find(properties: dict[str, Any]) -> FeatureDate:
    return find_date(properties, STARTED, FINISHED)


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"datetime": "2019-09-22T09:49:20.400Z"}, "2019-09-22T09:49:20.4Z"),
        ({"timestamp": 1561234567890}, "2019-06-22T20:16:07.89Z"),
        ({"timeStamp": 1561234567890}, "2019-06-22T20:16:07.89Z"),
        ({"acquisition": {"beginViewingDate": 1561234567000}}, "2019-06-22T20:16:07Z"),
        ({"acquisition.beginViewingDate": 1561234567000}, "2019-06-22T20:16:07Z"),
        ({"acquisitionDate": "2017-04-02T05:42:20.704Z"}, "2017-04-02T05:42:20.704Z"),
        ({"acquisitionDate": "2017-04-02 05:42:20.704644"}, "2017-04-02T05:42:20.704644Z"),
        ({"START_DATE": "2018-08-21 01:05 UTC"}, "2018-08-21T01:05:00Z"),
        ({"time": "2019-09-22 09:49:20.400000+00:00"}, "2019-09-22T09:49:20.4Z"),
        ({"acquisition_time": "2019-09-22T11:49:20+02:00"}, "2019-09-22T09:49:20Z"),
        ({"osm_timestamp": "2020-01-02T03:04:05Z"}, "2020-01-02T03:04:05Z"),
        ({"timestamp": "1561234567890"}, "2019-06-22T20:16:07.89Z"),
        ({"timestamp": 1561234567}, "2019-06-22T20:16:07Z"),
    ],
)
def test_find_date_known_notation_returns_utc(properties: dict[str, Any], expected: str) -> None:
    found = find(properties)
    assert found.datetime == expected
    assert found.source in {*properties, "acquisition.beginViewingDate"}


def test_find_date_start_and_end_returns_the_span() -> None:
    found = find({"START_DATE": "2018-08-21 01:05 UTC", "END_DATE": "2018-08-23 02:00 UTC"})
    assert (found.start, found.end) == ("2018-08-21T01:05:00Z", "2018-08-23T02:00:00Z")


def test_find_date_end_before_start_returns_no_negative_span() -> None:
    found = find({"START_DATE": "2018-08-21 01:05 UTC", "END_DATE": "2018-08-01 02:00 UTC"})
    assert found.end == found.start


def test_find_date_without_zone_assumes_utc_with_a_note() -> None:
    found = find({"acquisitionDate": "2017-04-02 05:42:20"})
    assert found.datetime == "2017-04-02T05:42:20Z"
    assert "UTC is assumed" in found.notes[0]
    assert not find({"datetime": "2017-04-02T05:42:20Z"}).notes


def test_find_date_unusable_property_uses_the_next_one() -> None:
    found = find({"datetime": None, "acquisitionDate": "soon", "time": "2019-09-22T09:49:20Z"})
    assert (found.datetime, found.source) == ("2019-09-22T09:49:20Z", "time")


@pytest.mark.parametrize(
    "value",
    [
        *(None, "", "soon", True, [], {}, float("nan"), float("inf"), -1, 0, 2019, 20190922, 10**400),
        *("2019", "12:30", "2019-W01", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"),
        *("9" * 13, "9" * 5000, "2019-13-01T00:00:00Z", "２０１９-09-22T09:49:20Z"),  # full-width digits
    ],
)
def test_find_date_unknown_notation_uses_the_time_of_the_job(value: object) -> None:
    found = find({"datetime": value})
    assert (found.datetime, found.start, found.end) == (None, STARTED, FINISHED)
    assert found.source == "job"


def test_find_date_without_times_of_the_job_returns_no_date() -> None:
    assert find_date({}, "", "") == FeatureDate()


def test_find_date_running_job_returns_its_start_as_end() -> None:
    found = find_date({}, STARTED, "")
    assert (found.start, found.end) == (STARTED, STARTED)


def test_parse_instant_offset_reports_a_zone() -> None:
    found = parse_instant("2019-09-22T11:49:20+02:00")
    assert found is not None
    assert found[1]

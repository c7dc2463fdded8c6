from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkdl.settings import parsers
from bulkdl.settings.parsers import Shard

NOW = datetime(2022, 3, 10, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "size_bytes"),
    [
        (0, 0),
        (4096, 4096),
        ("4096", 4096),
        ("500K", 500 * 1024),
        ("500k", 500 * 1024),
        ("2M", 2 * 1024**2),
        ("2MiB", 2 * 1024**2),
        ("2 MB", 2 * 1024**2),
        ("1.5G", 1536 * 1024**2),
        ("1T", 1024**4),
        ("10B", 10),
        ("0.1K", 102),
        ("off", 0),
        (" OFF ", 0),
    ],
)
def test_sizes_as_rclone_writes_them(written, size_bytes):
    assert parsers.parse_size(written) == size_bytes


@pytest.mark.parametrize("written", ["", "M", "2X", "-1", -1, "1,5G", 1.5, True, None, "2MM", "٣K", "1e9"])
def test_what_is_no_size_is_refused(written):
    with pytest.raises(ValueError, match="500K, 2M"):
        parsers.parse_size(written)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (30, 30),
        (0.5, 0.5),
        ("30", 30),
        ("1.5", 1.5),
        ("30s", 30),
        ("250ms", 0.25),
        ("5m", 300),
        ("6h", 21600),
        ("7d", 604800),
        ("2w", 1209600),
        ("1h30m", 5400),
        ("6H", 21600),
    ],
)
def test_durations(written, seconds):
    assert parsers.parse_duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written", ["", "s", "5 m", "-5", -5, "5y", "nan", "inf", float("inf"), float("nan"), True, None, "1h30"]
)
def test_what_is_no_duration_is_refused(written):
    with pytest.raises(ValueError, match="30s, 5m"):
        parsers.parse_duration(written)


@pytest.mark.parametrize(
    ("written", "start_at", "end_at"),
    [
        (
            "2022-03-01",
            datetime(2022, 3, 1, tzinfo=UTC),
            datetime(2022, 3, 1, 23, 59, 59, 999999, tzinfo=UTC),
        ),
        ("2022-03-01T10:00", datetime(2022, 3, 1, 10, tzinfo=UTC), None),
        ("2022-03-01T10:00Z", datetime(2022, 3, 1, 10, tzinfo=UTC), None),
        ("2022-03-01T10:00:00+02:00", datetime(2022, 3, 1, 8, tzinfo=UTC), None),
        ("2022-03-01 10:00", datetime(2022, 3, 1, 10, tzinfo=UTC), None),
        ("36h", datetime(2022, 3, 9, 0, tzinfo=UTC), None),
        ("7d", datetime(2022, 3, 3, 12, tzinfo=UTC), None),
        ("2w", datetime(2022, 2, 24, 12, tzinfo=UTC), None),
    ],
)
def test_only_a_plain_date_has_an_end_of_day(written, start_at, end_at):
    assert parsers.parse_time(written, NOW) == start_at
    assert parsers.parse_time(written, NOW, end_of_day=True) == (end_at or start_at)
    assert parsers.parse_time(written, NOW).tzinfo is UTC


@pytest.mark.parametrize(
    "written", ["", "yesterday", "2022-13-01", "2022-02-30", "7", "99999999d", "-7d", "12:00"]
)
def test_what_is_no_moment_is_refused(written):
    with pytest.raises(ValueError, match="an age"):
        parsers.parse_time(written, NOW)


@given(st.text(max_size=30))
def test_no_text_makes_a_parser_fall_over(text):
    for read in (
        parsers.parse_size,
        parsers.parse_duration,
        parsers.parse_shard,
        parsers.parse_uuid,
        lambda t: parsers.parse_time(t, NOW),
    ):
        with suppress(ValueError):
            read(text)


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])))
def test_a_moment_is_read_back_as_it_was(moment):
    try:
        as_utc = moment.astimezone(UTC)
    except OverflowError:
        return
    assert parsers.parse_time(moment.isoformat(), NOW) == as_utc


@given(st.integers(0, 10**9), st.integers(1, 10**5))
def test_a_shard_is_read_when_its_index_is_below_its_count(index, count):
    if index < count:
        assert parsers.parse_shard(f"{index}/{count}") == Shard(index, count)
        assert str(parsers.parse_shard(f"{index}/{count}")) == f"{index}/{count}"
    else:
        with pytest.raises(ValueError, match="K/N"):
            parsers.parse_shard(f"{index}/{count}")


@pytest.mark.parametrize("written", ["", "1", "0/0", "4/4", "-1/4", "1/4/8", "a/b", None, 3])
def test_what_is_no_shard_is_refused(written):
    with pytest.raises(ValueError, match="0 <= K < N"):
        parsers.parse_shard(written)


def test_a_pod_of_an_indexed_job_finds_its_shard_in_the_environment():
    assert parsers.parse_shard("auto", {"JOB_COMPLETION_INDEX": "2", "BULKDL_SHARDS": "8"}) == Shard(2, 8)
    assert parsers.parse_shard(" Auto ", {"JOB_COMPLETION_INDEX": "0", "BULKDL_SHARDS": " 1 "}) == Shard(0, 1)


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"JOB_COMPLETION_INDEX": "2"},
        {"BULKDL_SHARDS": "8"},
        {"JOB_COMPLETION_INDEX": "8", "BULKDL_SHARDS": "8"},
        {"JOB_COMPLETION_INDEX": "1", "BULKDL_SHARDS": "2/3"},
        {"JOB_COMPLETION_INDEX": "auto", "BULKDL_SHARDS": "2"},
    ],
)
def test_an_automatic_shard_that_is_half_told_is_refused_and_never_all_jobs(env):
    with pytest.raises(ValueError, match=r"JOB_COMPLETION_INDEX is .*BULKDL_SHARDS is "):
        parsers.parse_shard("auto", env)


@given(st.uuids())
def test_an_id_in_any_case_is_read_in_lower_case(value):
    assert parsers.parse_uuid(f" {str(value).upper()} ") == str(value)


@pytest.mark.parametrize(
    "written", ["", "x", "023694d4-1b52-46e8-a9a0-05c9ee23f15", "0" * 32, "../../etc/passwd", 5]
)
def test_what_is_no_id_is_refused(written):
    with pytest.raises(ValueError, match="expected an id"):
        parsers.parse_uuid(written)


@pytest.mark.parametrize(
    ("written", "statuses"),
    [
        ("succeeded", ("SUCCEEDED",)),
        ("not started, Failed", ("NOT_STARTED", "FAILED")),
        (["NOT_STARTED", "not started"], ("NOT_STARTED",)),
        ("", ()),
    ],
)
def test_statuses_are_spelt_in_one_way(written, statuses):
    assert parsers.normalize_statuses(written) == statuses

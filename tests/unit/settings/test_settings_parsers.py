from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

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
def test_parse_size_reads_the_notation_of_rclone(written, size_bytes):
    assert parsers.parse_size(written) == size_bytes


@pytest.mark.parametrize("written", ["", "M", "2X", "-1", -1, "1,5G", 1.5, True, None, "2MM", "٣K", "1e9"])
def test_parse_size_with_invalid_text_fails(written):
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
def test_parse_duration_reads_units(written, seconds):
    assert parsers.parse_duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written", ["", "s", "5 m", "-5", -5, "5y", "nan", "inf", float("inf"), float("nan"), True, None, "1h30"]
)
def test_parse_duration_with_invalid_text_fails(written):
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
def test_parse_time_with_a_date_returns_the_end_of_the_day_for_until(written, start_at, end_at):
    assert parsers.parse_time(written, NOW) == start_at
    assert parsers.parse_time(written, NOW, end_of_day=True) == (end_at or start_at)
    assert parsers.parse_time(written, NOW).tzinfo is UTC


@pytest.mark.parametrize(
    "written", ["", "yesterday", "2022-13-01", "2022-02-30", "7", "99999999d", "-7d", "12:00"]
)
def test_parse_time_with_invalid_text_fails(written):
    with pytest.raises(ValueError, match="an age"):
        parsers.parse_time(written, NOW)


@given(st.text(max_size=30))
def test_parsers_with_any_text_raise_only_value_error(text):
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
def test_parse_time_reads_isoformat(timestamp):
    try:
        as_utc = timestamp.astimezone(UTC)
    except OverflowError:
        return
    assert parsers.parse_time(timestamp.isoformat(), NOW) == as_utc


@given(st.integers(0, 10**9), st.integers(1, 10**5))
def test_parse_shard_accepts_an_index_below_the_count(index, count):
    if index < count:
        assert parsers.parse_shard(f"{index}/{count}") == Shard(index, count)
        assert str(parsers.parse_shard(f"{index}/{count}")) == f"{index}/{count}"
    else:
        with pytest.raises(ValueError, match="K/N"):
            parsers.parse_shard(f"{index}/{count}")


@pytest.mark.parametrize("written", ["", "1", "0/0", "4/4", "-1/4", "1/4/8", "a/b", None, 3])
def test_parse_shard_with_invalid_text_fails(written):
    with pytest.raises(ValueError, match="0 <= K < N"):
        parsers.parse_shard(written)


def test_parse_shard_with_auto_reads_the_environment_of_the_pod():
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
def test_parse_shard_with_auto_and_an_incomplete_environment_fails(env):
    with pytest.raises(ValueError, match=r"JOB_COMPLETION_INDEX is .*BULKDL_SHARDS is "):
        parsers.parse_shard("auto", env)


@given(st.uuids())
def test_parse_uuid_returns_lower_case(value):
    assert parsers.parse_uuid(f" {str(value).upper()} ") == str(value)


@pytest.mark.parametrize(
    "written", ["", "x", "023694d4-1b52-46e8-a9a0-05c9ee23f15", "0" * 32, "../../etc/passwd", 5]
)
def test_parse_uuid_with_invalid_text_fails(written):
    with pytest.raises(ValueError, match="expected an ID"):
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
def test_normalize_statuses_returns_upper_case_with_underscores(written, statuses):
    assert parsers.normalize_statuses(written) == statuses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("outputs", Path("outputs")),
        ("~/x", Path.home() / "x"),
        ("file:///data/a%20b", Path("/data/a b")),
        ("file://localhost/data", Path("/data")),
        ("s3://bucket/prefix/", "s3://bucket/prefix"),
        ("memory://", "memory://"),
        ("C:/x", Path("C:/x")),
    ],
)
def test_parse_destination_returns_a_path_or_a_url(text, expected):
    assert parsers.parse_destination(text) == expected
    assert parsers.parse_destination(Path("s3://x")) == Path("s3:/x")


@pytest.mark.parametrize(
    "value",
    ["s3://key:secret@bucket", "s3://user@bucket", "file://host/data", "file://", "s3://a\nb", "s3://a#b", 5],
)
def test_parse_destination_rejects_an_invalid_url(value):
    with pytest.raises(ValueError, match=r"expected|invalid") as raised:
        parsers.parse_destination(value)
    assert "secret" not in str(raised.value)

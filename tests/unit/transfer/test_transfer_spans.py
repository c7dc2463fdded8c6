"""The bookkeeping of several connections: every byte is somebody's, and nobody's twice."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from google_crc32c import value as crc32c_of
from hypothesis import given
from hypothesis import strategies as st

from bulkdl.destinations.local import extent_map
from bulkdl.models import Extent
from bulkdl.transfer import segment_scheduler
from bulkdl.transfer.checksums import Digester, combine_crc32c
from bulkdl.transfer.segment_scheduler import LEAST_BYTES, SegmentScheduler

MIB = 1 << 20


@given(
    total=st.integers(1, 300 * MIB),
    done=st.lists(st.tuples(st.integers(0, 300 * MIB), st.integers(1, 40 * MIB)), max_size=4),
    with_front=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_whoever_leaves_when_each_byte_is_fetched_exactly_once(total, done, with_front, seed):
    dice = random.Random(seed)
    runs = _apart([(start, min(start + size, total)) for start, size in done if start < total])
    board = SegmentScheduler(total, runs)
    fetched = list(runs)
    busy = []
    if with_front and not runs:
        busy.append((board.take_all(), 0))
    while board.missing_bytes:
        if len(busy) < 8:
            has_piece = board.has_piece
            if (span := board.take()) is not None:
                busy.append((span, span.at))
            assert has_piece is (span is not None)
        span, began = busy.pop(dice.randrange(len(busy)))
        span.at += dice.choice([0, dice.randint(0, span.left), span.left])
        if dice.random() < 0.3:
            busy.append((span, began))
            continue
        fetched.append((began, span.at))
        board.finish(span)
    fetched += [(began, span.at) for span, began in busy]
    ends = sorted(run for run in fetched if run[0] < run[1])
    assert ends[0][0] == 0
    assert ends[-1][1] == total
    assert all(one[1] == two[0] for one, two in pairwise(ends))


def _apart(runs):
    kept = []
    for start, end in sorted(runs):
        if not kept or start >= kept[-1][1]:
            kept.append((start, end))
    return kept


def test_the_first_connection_is_cut_short_at_its_far_end_only():
    board = SegmentScheduler(200 * MIB)
    front = board.take_all()
    taken = [board.take() for _ in range(3)]
    assert front.at == 0
    assert front.end == min(span.at for span in taken)
    assert {span.end for span in taken} >= {200 * MIB}


def test_an_idle_connection_takes_over_half_of_the_slowest_piece(monkeypatch):
    monkeypatch.setattr(segment_scheduler, "LEAST_BYTES", 2 * MIB)
    monkeypatch.setattr(segment_scheduler, "_PIECE_BYTES", (4 * MIB, 64 * MIB))
    board = SegmentScheduler(8 * MIB)
    slow = board.take()
    assert (slow.at, slow.end) == (0, 4 * MIB)
    other = board.take()
    other.at = other.end
    board.finish(other)
    over = board.take()
    assert (slow.end, over.at, over.end) == (2 * MIB, 2 * MIB, 4 * MIB)


def test_what_is_nearly_there_is_not_divided_any_more():
    board = SegmentScheduler(2 * LEAST_BYTES - 1)
    assert board.take() is not None
    assert board.take() is None


@given(st.binary(max_size=3000), st.binary(max_size=3000))
def test_checksums_of_two_runs_combine(first, second):
    combined = combine_crc32c(crc32c_of(first), crc32c_of(second), len(second))
    assert combined == crc32c_of(first + second)


@given(st.binary(min_size=1, max_size=5000), st.integers(1, 700))
def test_the_digest_of_extents_is_that_of_the_whole(data, step):
    pieces = [
        Extent(at, len(data[at : at + step]), crc32c_of(data[at : at + step]))
        for at in range(0, len(data), step)
    ]
    whole = Digester()
    whole.update(data)
    assert Digester.of_extents(pieces).crc32c == whole.crc32c


def test_a_map_is_read_as_far_as_it_was_written():
    told = [Extent(0, 10, 1), Extent(20, 5, 2)]
    text = b"".join(extent_map.format_extent(each) for each in told)
    assert extent_map.parse_extents(text, 100) == told
    assert extent_map.parse_extents(text[:-1], 100) == told[:1]


@pytest.mark.parametrize(
    "rubbish",
    [b"x y z\n", b"1 2\n", b"-5 10 00000001\n", b"95 10 00000001\n", b"5 0 00000001\n", b"\n", b"1 2 3 4\n"],
)
def test_rubbish_in_a_map_is_left_out(rubbish):
    good = extent_map.format_extent(Extent(0, 3, 7))
    assert extent_map.parse_extents(rubbish + good + rubbish, 100) == [Extent(0, 3, 7)]


def test_extents_that_overlap_count_once():
    text = (
        extent_map.format_extent(Extent(0, 10, 1))
        + extent_map.format_extent(Extent(5, 10, 2))
        + extent_map.format_extent(Extent(10, 5, 3))
    )
    assert extent_map.parse_extents(text, 100) == [Extent(0, 10, 1), Extent(10, 5, 3)]


def test_an_extent_whose_bytes_a_power_cut_has_changed_does_not_count(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(b"abcdef")
    told = [Extent(0, 3, crc32c_of(b"abc")), Extent(3, 3, crc32c_of(b"xyz")), Extent(6, 2, 0)]
    with path.open("rb") as stream:
        assert extent_map.verify_extents(stream, told) == (told[0],)

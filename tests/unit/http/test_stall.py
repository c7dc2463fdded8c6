"""Tests of StallDetector: the minimum speed of a transfer over a window."""

import pytest

from bulkdl.http.stall import StallDetector


def test_is_stalled_below_the_minimum_speed_for_a_whole_window_is_true():
    detector = StallDetector(100, 10)
    assert not detector.is_stalled(9.9, 0)
    assert detector.is_stalled(0.1, 999)


@pytest.mark.parametrize(("received_bytes", "stalled"), [(999, True), (1000, False)])
def test_is_stalled_at_the_minimum_speed_is_false(received_bytes, stalled):
    assert StallDetector(100, 10).is_stalled(10, received_bytes) is stalled


def test_is_stalled_after_a_fast_window_counts_the_next_window_alone():
    detector = StallDetector(100, 10)
    assert not detector.is_stalled(10, 10_000)
    assert detector.is_stalled(10, 0)


def test_is_stalled_with_a_minimum_speed_of_zero_is_false():
    assert not StallDetector(0, 10).is_stalled(3600, 0)

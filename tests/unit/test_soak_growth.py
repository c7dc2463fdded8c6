"""The soak detects a process whose memory or file descriptors grow, and ignores idle connections."""

import struct

import pytest

from bulkdl.simulator import Faults
from soak.run_soak import FAULTS, MAX_GROWTH_KIB, find_growth
from soak.service_process import Clock, Lifetime, Sample, ServiceProcess


def service(tmp_path, samples):
    process = ServiceProcess(tmp_path, [], {})
    process.lifetimes = [Lifetime(samples)]
    return process


def test_growth_of_each_value_is_found(tmp_path):
    leak = [Sample(5 + number, 70_000, 20 + number) for number in range(30)]
    (problem,) = find_growth(service(tmp_path, leak))
    assert problem == "process 0: descriptors grew from 20 to 40"
    leak = [Sample(5 + number, 70_000 + number * MAX_GROWTH_KIB // 10, 20) for number in range(30)]
    assert "rss_kib grew" in find_growth(service(tmp_path, leak))[0]


@pytest.mark.parametrize(
    "samples",
    [
        [Sample(5 + number, 70_000, 20 + number % 7 * 10) for number in range(30)],
        [Sample(number, 40_000 + number * 20_000, 5 + number * 4) for number in range(5)],
        [],
    ],
    ids=["idle connections", "first runs", "none"],
)
def test_process_without_growth_is_not_reported(tmp_path, samples):
    assert find_growth(service(tmp_path, samples)) == []


def test_faults_of_the_soak_are_valid():
    assert Faults.from_rules(*({"probability": 0.01, **rule} for rule in FAULTS))


def test_clock_shift_is_written_for_the_process(tmp_path):
    clock = Clock(tmp_path)
    clock.shift(-3600)
    assert struct.unpack("q", (tmp_path / "clock").read_bytes()) == (-3600,)
    assert clock.is_available == bool(clock.env)

"""OutputReservations: an output is downloaded once in a run."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bulkdl.graph.reservations import OutputReservations
from bulkdl.listings import PlannedOutput
from bulkdl.sources.up42_jobs.models import Kind, job_container, job_output, job_ref

JOB = job_container("p", "j", "SUCCEEDED", "DEFAULT", None, datetime(2026, 1, 1, tzinfo=UTC), None, None)
MISSING = tuple(PlannedOutput(job_output("p", "j", task, Kind.ARCHIVE)) for task in ("t1", "t2", None))
OUTPUTS = [missing.output for missing in MISSING]


@pytest.fixture
def reservations():
    return OutputReservations()


def test_reserve_returns_only_outputs_that_are_not_reserved(reservations):
    first, second, third = MISSING
    assert reservations.reserve((first, second)) == (first, second)
    assert reservations.reserve((second, third)) == (third,)
    assert reservations.reserve(MISSING) == ()


def test_release_without_a_comparison_makes_an_output_available(reservations):
    reservations.reserve(MISSING)
    reservations.release(OUTPUTS[:1])
    assert reservations.reserve(MISSING) == MISSING[:1]


def test_release_during_a_comparison_keeps_the_reservation_until_it_ends(reservations):
    reservations.begin_comparison([JOB])
    reservations.begin_comparison([JOB])
    reservations.reserve(MISSING)
    reservations.release(OUTPUTS)
    assert reservations.reserve(MISSING) == ()
    reservations.end_comparison([JOB])
    assert reservations.reserve(MISSING) == ()
    reservations.end_comparison([JOB])
    assert reservations.reserve(MISSING) == MISSING


def test_release_during_a_comparison_of_another_job_makes_an_output_available(reservations):
    reservations.begin_comparison([replace(JOB, ref=job_ref("p", "k"))])
    reservations.reserve(MISSING)
    reservations.release(OUTPUTS)
    assert reservations.reserve(MISSING) == MISSING

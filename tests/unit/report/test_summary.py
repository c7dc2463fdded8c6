from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from bulkdl.failure_policy import FAILURE_POLICIES, ExitCode
from bulkdl.models import CommittedFile, Digest, Outcome, Reason, Result, Validator
from bulkdl.report.models import Count, FailureRow
from bulkdl.report.plan import PlanBuilder
from bulkdl.report.status import Status
from bulkdl.report.summary import SummaryBuilder, exit_code
from bulkdl.sources.up42_jobs.models import Kind, job_output
from bulkdl.sources.up42_jobs.spec import SPEC

START = datetime(2022, 3, 10, 12, tzinfo=UTC)
ARCHIVE = job_output("p1", "j1", None, Kind.ARCHIVE)
PICTURE = job_output("p1", "j1", "t1", Kind.QUICKLOOK, "a.png")


def fetched(output=ARCHIVE, size_bytes=100, downloaded_bytes=60) -> Result:
    receipt = CommittedFile("p1/j1/x", size_bytes, Digest("md5", "x"), Validator(), None)
    return Result(output, Outcome.COMPLETED, Reason.DOWNLOADED, receipt, downloaded_bytes=downloaded_bytes)


def failed(reason: Reason, output=ARCHIVE) -> Result:
    return Result(output, Outcome.FAILED, reason, downloaded_bytes=7, attempts=8, detail="it broke")


def builder(**more) -> SummaryBuilder:
    return SummaryBuilder("r1", START, **more)


def test_summary_counts_outputs_and_bytes_by_kind_outcome_and_reason():
    build = builder()
    build.add(fetched())
    build.add(fetched())
    build.add(fetched(PICTURE, 5, 5))
    build.add(failed(Reason.STALLED))
    build.count(Kind.GEOJSON, Outcome.SKIPPED, Reason.UP_TO_DATE, 40, 4000)
    summary = build.build(START + timedelta(seconds=10))
    assert summary.counts == {
        (Kind.ARCHIVE, Outcome.COMPLETED, Reason.DOWNLOADED): Count(2, 200, 120),
        (Kind.QUICKLOOK, Outcome.COMPLETED, Reason.DOWNLOADED): Count(1, 5, 5),
        (Kind.ARCHIVE, Outcome.FAILED, Reason.STALLED): Count(1, 0, 7),
        (Kind.GEOJSON, Outcome.SKIPPED, Reason.UP_TO_DATE): Count(40, 4000, 0),
    }
    assert summary.outputs() == 44
    assert summary.outputs(Outcome.COMPLETED) == 3
    assert summary.downloaded_bytes == 132
    assert summary.bytes_per_s == pytest.approx(13.2)


def test_summary_without_duration_has_rate_0():
    assert builder().build(START).bytes_per_s == 0.0
    assert builder().build(START - timedelta(seconds=5)).duration_s == 0.0


def test_summary_failure_contains_output_reason_and_hint():
    build = builder()
    build.add(failed(Reason.TOO_LARGE, PICTURE), key="p1/j1/t1/quicklooks/a.png")
    (row,) = build.build(START).failures
    assert (row.output, row.reason, row.detail, row.attempts) == (PICTURE, Reason.TOO_LARGE, "it broke", 8)
    assert row.key == "p1/j1/t1/quicklooks/a.png"
    assert row.hint == FAILURE_POLICIES[Reason.TOO_LARGE].hint


def test_summary_with_many_failures_lists_the_first_and_counts_all():
    build = builder(max_listed=3)
    for _ in range(5000):
        build.add(failed(Reason.SERVER_ERROR))
        build.add_problem(Reason.UNREACHABLE, "project p", "no route")
    summary = build.build(START)
    assert (len(summary.failures), summary.failures_total) == (3, 5000)
    assert (len(summary.problems), summary.problems_total) == (3, 5000)


def test_exit_code_includes_failures_that_are_not_listed():
    build = builder(max_listed=1)
    build.add(failed(Reason.SERVER_ERROR))
    build.add(failed(Reason.CHECKSUM_MISMATCH))
    assert build.build(START).exit_code is ExitCode.INTEGRITY


@pytest.mark.parametrize(
    ("failures", "problems", "code"),
    [
        ([], [], ExitCode.OK),
        ([Reason.STALLED], [], ExitCode.TEMPORARY),
        ([], [Reason.UNREACHABLE], ExitCode.TEMPORARY),
        ([Reason.STALLED, Reason.REJECTED], [], ExitCode.FAILED),
        ([Reason.STALLED], [Reason.NOT_FOUND], ExitCode.NOT_FOUND),
        ([Reason.REJECTED], [Reason.NOT_FOUND], ExitCode.FAILED),
        ([Reason.REJECTED, Reason.CORRUPT_CONTENT], [], ExitCode.INTEGRITY),
        ([Reason.CORRUPT_CONTENT, Reason.DISK_FULL], [], ExitCode.DISK_FULL),
        ([Reason.DISK_FULL], [Reason.CREDENTIALS], ExitCode.CREDENTIALS),
        ([Reason.INTERNAL, Reason.CREDENTIALS], [], ExitCode.BUG),
    ],
)
def test_exit_code_is_the_one_with_the_highest_rank(failures, problems, code):
    assert exit_code(failures, problems) is code


@pytest.mark.parametrize(
    ("projects", "refused", "code"),
    [
        (["p1"], ["p1"], ExitCode.CREDENTIALS),
        (["p1", "p2"], ["p1", "p2"], ExitCode.CREDENTIALS),
        (["p1", "p2"], ["p1"], ExitCode.FAILED),
        (["p1", "p2"], [], ExitCode.OK),
    ],
)
def test_exit_code_for_rejected_credentials_is_7_only_without_other_projects(projects, refused, code):
    build = builder()
    for project_id in projects:
        build.add_scope("jobs", project_id)
    for project_id in refused:
        build.add_problem(Reason.CREDENTIALS, f"project {project_id}", "401", source="jobs", scope=project_id)
    assert build.build(START).exit_code is code


@pytest.mark.parametrize(
    ("problem", "codes", "combined"),
    [
        ({"reason": Reason.CREDENTIALS, "source": "storage", "scope": "team"}, (3, 7), ExitCode.CREDENTIALS),
        ({"reason": Reason.CREDENTIALS, "source": "jobs", "scope": "p1"}, (3, 0), ExitCode.FAILED),
        ({"reason": Reason.NOT_FOUND, "source": "storage"}, (3, 4), ExitCode.FAILED),
        ({"reason": Reason.DISK_FULL}, (12, 12), ExitCode.DISK_FULL),
    ],
    ids=["the only account", "one of two projects", "a delivery", "the directory"],
)
def test_exit_code_of_two_sources_is_the_highest_ranked_one(problem, codes, combined):
    build = builder()
    for source, scope in (("jobs", "p1"), ("jobs", "p2"), ("storage", "team")):
        build.add_scope(source, scope)
    build.add(failed(Reason.REJECTED))
    build.add_problem(
        problem["reason"], "subject", **{key: problem[key] for key in problem if key != "reason"}
    )
    summary = build.build(START)
    assert tuple(int(summary.sources[source].exit_code) for source in ("jobs", "storage")) == codes
    assert summary.exit_code is combined


@pytest.mark.parametrize("code", [ExitCode.INTERRUPTED, ExitCode.TERMINATED])
def test_exit_code_of_a_signal_overrides_all_others(code):
    build = builder()
    build.add(fetched())
    summary = build.build(START)
    assert summary.exit_code is ExitCode.OK
    assert summary.after_signal(code).exit_code is code
    assert summary.after_signal(None) is summary
    assert exit_code([Reason.DISK_FULL], stopped_by=code) is code
    assert builder().build(START, stopped_by=code).exit_code is code


def test_summary_as_dict_contains_plain_values():
    build = builder()
    build.containers("jobs").seen = 3
    build.add(fetched())
    build.add(failed(Reason.STALLED))
    build.add_problem(Reason.NOT_FOUND, "job j9", "404")
    document = json.loads(json.dumps(build.build(START + timedelta(seconds=2)).as_dict()))
    assert document["exit_code"] == 4
    assert document["duration_s"] == 2.0
    assert document["containers"] == {"seen": 3, "selected": 0, "up_to_date": 0, "unfinished": 0}
    assert document["outputs"] == {"completed": 1, "skipped": 0, "failed": 1, "cancelled": 0}
    assert document["counts"][0] == {
        "source": "jobs",
        "kind": "archive",
        "outcome": "completed",
        "reason": "downloaded",
        "outputs": 1,
        "size_bytes": 100,
        "downloaded_bytes": 60,
    }
    assert document["failures"][0]["container_id"] == "j1"
    assert document["failures"][0]["hint"]
    assert document["problems"] == [
        {
            "source": None,
            "reason": "not_found",
            "subject": "job j9",
            "detail": "404",
            "hint": FAILURE_POLICIES[Reason.NOT_FOUND].hint,
        }
    ]


def test_summary_does_not_change_after_build():
    build = builder()
    build.add(fetched())
    before = build.build(START)
    build.add(fetched())
    build.add(failed(Reason.STALLED))
    build.containers("jobs").seen = 9
    assert (before.outputs(), before.failures_total, len(before.failures), before.containers.seen) == (
        1,
        0,
        0,
        0,
    )


def test_plan_counts_all_outputs_and_lists_the_first():
    plan = PlanBuilder(builder(), SPEC.kind_names, max_listed=2)
    for _ in range(10):
        plan.add(ARCHIVE)
    plan.add(PICTURE, "p1/j1/t1/quicklooks/a.png")
    plan.add_skipped(Kind.GEOJSON, 4)
    plan.summary.add_problem(Reason.NOT_FOUND, "job j9")
    document = json.loads(json.dumps(plan.build(START).as_dict()))
    assert document["to_download"] == {"archive": 10, "quicklook": 1, "geojson": 0}
    assert document["up_to_date"] == {"archive": 0, "quicklook": 0, "geojson": 4}
    assert (document["outputs_total"], len(document["outputs"])) == (11, 2)
    assert document["exit_code"] == 4
    assert document["problems_total"] == 1


def test_status_as_dict_contains_plain_values():
    status = Status(
        "out",
        containers={"jobs": {"up_to_date": 2}},
        counts={(Kind.ARCHIVE, "planned", ""): Count(3)},
        failures=[FailureRow(ARCHIVE, None, Reason.STALLED, "slow")],
        failures_total=1,
        last_run_at=START,
    )
    document = json.loads(json.dumps(status.as_dict()))
    (count,) = document["counts"]
    assert tuple(count.values()) == ("jobs", "archive", "planned", None, 3, 0)
    assert document["last_run_at"] == "2022-03-10T12:00:00+00:00"
    assert document["failures"][0]["reason"] == "stalled"


def test_summary_duration_is_not_changed_by_the_wall_clock():
    now_s = [100.0]
    build = SummaryBuilder("r1", datetime.now(UTC) + timedelta(hours=2), clock=lambda: now_s[0])
    build.count(Kind.ARCHIVE, Outcome.COMPLETED, Reason.DOWNLOADED, 1, 500, 500)
    now_s[0] += 5.0
    summary = build.build()
    assert summary.duration_s == 5.0
    assert summary.bytes_per_s == 100.0
    assert summary.as_dict()["duration_s"] == 5.0

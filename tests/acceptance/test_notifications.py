"""The notification at the end of ``run``, ``retry`` and a run of ``serve``, as processes."""

import json
import sys

import jsonschema
import pytest

from bulkdl.report.run_report import schema
from bulkdl.simulator import SimulatedAccount
from support.cli_runs import cli_environment

ACCOUNT = SimulatedAccount(projects=1, jobs=2)
CODE = (
    "import sys; open(sys.argv[1], 'a').write(sys.stdin.read().replace(chr(10), ' ') + chr(10)); sys.exit(%d)"
)


def write_config(tmp_path, exit_code=0, program=sys.executable):
    command = [program, "-c", CODE % exit_code, str(tmp_path / "reports")]
    (tmp_path / "bulkdl.toml").write_text(f"[notify]\ncommand = {json.dumps(command)}\n")


def read_reports(tmp_path):
    path = tmp_path / "reports"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def test_run_and_retry_send_their_report(tmp_path):
    write_config(tmp_path)
    async with cli_environment(tmp_path, ACCOUNT) as world:
        args = (
            "-c",
            str(tmp_path / "bulkdl.toml"),
            "--log-format",
            "json",
            "--format",
            "json",
            "--retries",
            "0",
        )
        world.set_faults({"fault": "status", "status": 500, "endpoint": "object"})
        run = await world.bulkdl(*args)
        assert await run.wait_for_exit() == 5
        world.set_faults()
        retry = await world.bulkdl(*args, command="retry")
        assert await retry.wait_for_exit() == 0
        sent = read_reports(tmp_path)
        assert sent == world.run_reports
        assert [report["exit_code"] for report in sent] == [5, 0]
        for report in sent:
            jsonschema.validate(report, schema())
        assert run.find_events("notify.sent")
        assert run.has_clean_stderr()


@pytest.mark.parametrize("program", [sys.executable, "/nowhere/missing"])
async def test_run_failed_notification_does_not_change_the_exit_code(tmp_path, program):
    write_config(tmp_path, exit_code=9, program=program)
    async with cli_environment(tmp_path, ACCOUNT) as world:
        run = await world.bulkdl("-c", str(tmp_path / "bulkdl.toml"), "--format", "json")
        assert await run.wait_for_exit() == 0
        assert run.summary["exit_code"] == 0
        (failed,) = run.find_events("notify.failed")
        assert failed["level"] == "warning"
        assert failed["hint"]
        assert run.has_clean_stderr()


async def test_run_missing_variable_of_the_header_is_reported_before_the_run(tmp_path):
    path = tmp_path / "bulkdl.toml"
    path.write_text('[notify]\nurl = "https://example.com/x"\nheader_env = "NOT_SET"\n')
    async with cli_environment(tmp_path, ACCOUNT) as world:
        run = await world.bulkdl("-c", str(path))
        assert await run.wait_for_exit() == 2
        assert "notify.header_env: the variable NOT_SET is not set" in run.log
        assert not world.simulator.requests


async def test_serve_sends_the_report_of_each_run(tmp_path):
    write_config(tmp_path)
    async with cli_environment(tmp_path, ACCOUNT) as world:
        config = str(tmp_path / "bulkdl.toml")
        process = await world.start("-c", config, "--every", "1s", "--log-format", "json", command="serve")
        await process.wait_until(lambda: len(process.find_events("notify.sent")) >= 2)
        process.send_signal()
        assert await process.wait_for_exit() in (0, 143)
        sent = read_reports(tmp_path)
        stored = {report["run_id"]: report for report in world.run_reports}
        assert len(sent) >= 2
        assert all(stored[report["run_id"]] == report for report in sent)

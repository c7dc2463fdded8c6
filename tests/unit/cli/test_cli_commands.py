from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from inspect import signature
from typing import ClassVar

import click
import pytest
from click.testing import CliRunner

from bulkdl.cli import COMMANDS, cli, context
from bulkdl.cli.exit_codes import run_command
from bulkdl.cli.help import Group
from bulkdl.graph.downloader import Downloader
from bulkdl.models import Outcome, Reason, Result
from bulkdl.report.plan import PlanBuilder
from bulkdl.report.summary import SummaryBuilder
from bulkdl.selection import ContainerSelector
from bulkdl.settings import Settings, Shard, load_settings, variable_names
from bulkdl.sources.sessions import retry_policy
from bulkdl.sources.up42_jobs.models import Kind, job_output
from bulkdl.sources.up42_jobs.spec import SPEC

P1 = "5f0c1a52-7a3a-4c52-9d0e-0f3f1a2b3c4d"
P2 = "8d3a6c1e-0b7f-4e57-a3c9-52f1d7e64b20"
J1 = "023694d4-1b52-46e8-a9a0-05c9ee23f15c"
J2 = "b5c33b12-aa62-4809-94b8-5352bdfecf4a"
OUTPUT = job_output(P1, J1, None, Kind.ARCHIVE)
START = datetime(2022, 3, 10, 12, tzinfo=UTC)


class RecordingDownloader(Downloader):
    """A downloader that keeps its arguments and returns prepared results instead of downloading."""

    created: ClassVar[list[RecordingDownloader]] = []
    results: ClassVar[list[Result]] = []

    def __init__(self, settings, *, credentials=None, reporter=None, processors=None):
        super().__init__(settings, credentials=credentials, reporter=reporter, processors=processors)
        self.settings, self.credentials = settings, credentials
        self.selection = None
        RecordingDownloader.created.append(self)

    def _builder(self):
        build = SummaryBuilder("r1", START)
        for result in self.results:
            build.add(result)
        return build

    async def run(self, selection=None):
        (self.selection,) = selection
        return self._builder().build(START)

    async def plan(self, selection=None):
        (self.selection,) = selection
        plan = PlanBuilder(self._builder(), SPEC.kind_names)
        plan.add(OUTPUT)
        return plan.build(START)


@pytest.mark.parametrize("method", ["__init__", "run", "plan"])
def test_recording_downloader_has_the_signatures_of_the_real_one(method):
    real, recording = (
        [
            (parameter.name, parameter.kind, parameter.default)
            for parameter in signature(function).parameters.values()
        ]
        for function in (getattr(Downloader, method), getattr(RecordingDownloader, method))
    )
    assert real == recording


@pytest.fixture
def downloader(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith(("BULKDL_", "UP42_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UP42_PROJECT_ID", P1)
    monkeypatch.setenv("UP42_PROJECT_API_KEY", "canary-key")
    monkeypatch.setattr(context, "Downloader", RecordingDownloader)
    monkeypatch.setattr(RecordingDownloader, "created", [])
    monkeypatch.setattr(RecordingDownloader, "results", [])
    return RecordingDownloader


class CommandResult:
    def __init__(self, result):
        self.code, self.out, self.err = result.exit_code, result.stdout, result.stderr


def invoke(*args, stdin=None) -> CommandResult:
    @click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
    @click.argument("argv", nargs=-1, type=click.UNPROCESSED)
    @click.pass_context
    def process(ctx, argv):
        def command():
            return cli.main(list(argv), prog_name="bulkdl", standalone_mode=False)

        ctx.exit(run_command(command, list(argv), {}))

    return CommandResult(CliRunner().invoke(process, list(args), input=stdin))


def test_run_with_flags_passes_settings_and_selection_to_the_downloader(downloader, tmp_path):
    result = invoke(
        *["run", "-o", "out", "-p", P1, "--project", P2, "--job", f"{P1}/{J1}"],
        *["--since", "2022-01-01", "--until", "2022-01-31", "--status", "not started", "--status", "FAILED"],
        *["--mode", "default", "--name", "h*", "--workflow", J2, "--only", "archive", "--only", "geojson"],
        *[
            "--scope",
            "job",
            "--shard",
            "1/3",
            "--archive-concurrency",
            "2",
            "--quicklook-concurrency",
            "3",
            "--geojson-concurrency",
            "5",
        ],
        *[
            "--list-concurrency",
            "6",
            "--rate",
            "7",
            "--bwlimit",
            "2M",
            "--speed-limit",
            "1K",
            "--speed-time",
            "1m",
        ],
        *["--api-url", "http://localhost:9", "--log-format", "json", "--progress", "never", "-q"],
    )
    assert (result.code, result.err) == (0, "")
    (created,) = downloader.created
    settings, selection = created.settings, created.selection
    assert (
        settings.archive_concurrency,
        settings.quicklook_concurrency,
        settings.geojson_concurrency,
        settings.list_concurrency,
    ) == (2, 3, 5, 6)
    assert (settings.rate, str(settings.bwlimit), settings.speed_limit, settings.speed_time) == (
        7,
        "2M",
        1024,
        60,
    )
    assert (settings.api_url, settings.log_format, settings.progress) == (
        "http://localhost:9",
        "json",
        "never",
    )
    assert (str(settings.output), settings.verbose) == ("out", -1)
    assert selection.scopes == (P1, P2)
    assert selection.containers == (ContainerSelector(P1, J1),)
    assert selection.since_at == datetime(2022, 1, 1, tzinfo=UTC)
    assert selection.until_at == datetime(2022, 1, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert selection.statuses == {"NOT_STARTED", "FAILED"}
    assert selection.name_glob == "h*"
    assert (selection.filters.mode, selection.filters.workflow_id) == ("DEFAULT", J2)
    assert selection.kinds == {Kind.ARCHIVE, Kind.GEOJSON}
    assert selection.shard == Shard(1, 3)
    assert created.credentials.by_project[P1].get_secret_value() == "canary-key"


def test_run_with_variables_reads_them_like_flags(downloader, monkeypatch, tmp_path):
    (tmp_path / "jobs.txt").write_text(f"{J2}\n")
    (tmp_path / "c.toml").write_text("quicklook_concurrency = 7")
    for name, value in {
        "OUTPUT": "out",
        "CONFIG": "c.toml",
        "PROJECT": f"{P1}, {P2}",
        "JOB": J1,
        "JOBS_FILE": "jobs.txt",
        "SINCE": "2022-01-01",
        "ONLY": "archive",
        "SHARD": "0/2",
        "ARCHIVE_CONCURRENCY": "9",
        "FORMAT": "json",
        "DRY_RUN": "1",
    }.items():
        monkeypatch.setenv(f"BULKDL_{name}", value)
    result = invoke("run")
    assert result.code == 0
    (created,) = downloader.created
    assert (
        str(created.settings.output),
        created.settings.archive_concurrency,
        created.settings.quicklook_concurrency,
    ) == ("out", 9, 7)
    assert created.selection.scopes == (P1, P2)
    assert created.selection.containers == (ContainerSelector(None, J1), ContainerSelector(None, J2))
    assert json.loads(result.out)["to_download"]["archive"] == 1


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "simulate"])
def test_command_has_a_variable_for_every_flag_that_load_settings_knows(downloader, command):
    settings = {*variable_names(), "config", "louder", "quieter"}  # louder and quieter: BULKDL_VERBOSE
    params = cli.get_command(click.Context(cli), command).params
    assert [param.name for param in params if param.name not in settings and not param.envvar] == []
    env = {param.envvar: "x" for param in params if param.envvar}
    assert load_settings({}, None, env).warnings == ()


def test_run_with_jobs_file_dash_reads_stdin(downloader):
    result = invoke("run", "-o", "out", "-i", "-", stdin=f"# today\r\n{J1}\r\n{J1}\r\n\r\n{P2}/{J2} # x\r\n")
    assert result.code == 0
    assert downloader.created[0].selection.containers == (
        ContainerSelector(None, J1),
        ContainerSelector(P2, J2),
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["-o", "out", "-i", "jobs.txt"],
            "bulkdl: jobs.txt: expected an ID or SCOPE/ID, got jobs.txt:2: 'x y'",
        ),
        (["-o", "out", "-i", "none.txt"], "bulkdl: --jobs-file: none.txt cannot be read"),
        (["-o", "out", "-i", "empty.txt"], "bulkdl: empty.txt: contains no IDs"),
        (["-o", "out", "-i", "bytes.bin"], "bytes.bin:1: "),
        (["-o", "out", "-c", "none.toml"], "bulkdl: none.toml: cannot be read"),
        (["-o", "out", "-p", "demo"], "bulkdl: --project: expected an ID"),
        (["-o", "out", "--job", "demo"], "bulkdl: --job: expected an ID"),
        (["-o", "out", "--archive-concurrency", "x"], "bulkdl: --archive-concurrency: expected"),
        (["-o", "out", "--rate", "1000"], "bulkdl: --rate: expected at most 100"),
        (["-o", "out", "--api-url", "http://example.com"], "bulkdl: --api-url: expected https://"),
        ([], "bulkdl: --output: is missing"),
        (["-o", "out", "--nope"], "unknown option --nope"),
        (["-o", "out", "--format", "xml"], "'xml' is not one of"),
        (["-o"], "requires an argument"),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_command_with_invalid_input_reports_it_and_creates_no_files(
    downloader, tmp_path, command, args, message
):
    (tmp_path / "jobs.txt").write_text(f"{J1}\nx y\n")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "bytes.bin").write_bytes(bytes(range(128, 140)))
    result = invoke(command, *args)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert downloader.created == []
    assert not (tmp_path / "out").exists()


def test_run_without_credentials_exits_with_2(downloader, monkeypatch):
    monkeypatch.delenv("UP42_PROJECT_ID")
    assert "UP42_PROJECT_ID: is missing" in invoke("run", "-o", "out").err
    monkeypatch.delenv("UP42_PROJECT_API_KEY")
    result = invoke("run", "-o", "out")
    assert result.code == 2
    assert "UP42_USERNAME and UP42_PASSWORD" in result.err


def failure(reason: Reason) -> Result:
    return Result(OUTPUT, Outcome.FAILED, reason, detail="after 8 attempts")


def test_run_returns_the_exit_code_of_the_summary(downloader, monkeypatch):
    monkeypatch.setattr(downloader, "results", [failure(Reason.STALLED)])
    assert invoke("run", "-o", "out").code == 5
    monkeypatch.setattr(downloader, "results", [failure(Reason.CORRUPT_CONTENT)])
    assert invoke("run", "-o", "out", "--format", "json").code == 6


def test_run_with_a_failure_prints_output_reason_and_hint(downloader, monkeypatch):
    monkeypatch.setattr(downloader, "results", [failure(Reason.STALLED)])
    out = invoke("run", "-o", "out").out
    assert f"failed: {P1}/{J1}/archive: stalled: after 8 attempts; run the same command again" in out
    assert "0 completed, 1 failed" in out
    assert "exit code 5" in out


def test_run_with_many_failures_prints_the_first_ones(downloader, monkeypatch):
    monkeypatch.setattr(downloader, "results", [failure(Reason.STALLED)] * 1500)
    out = invoke("run", "-o", "out").out
    assert sum(line.startswith("failed: ") for line in out.splitlines()) == 20
    assert "… and 1480 more failed" in out
    document = json.loads(invoke("run", "-o", "out", "--format", "json").out)
    assert (len(document["failures"]), document["failures_total"]) == (1000, 1500)


def test_run_with_json_format_prints_one_object(downloader):
    result = invoke("run", "-o", "out", "--format", "json")
    assert result.out.count("\n") == 1
    assert json.loads(result.out)["run_id"] == "r1"


def test_dry_run_prints_the_plan(downloader):
    assert invoke("run", "--dry-run", "-o", "out").out == invoke("plan", "-o", "out").out
    assert "1 output to download" in invoke("plan", "-o", "out").out


def test_run_with_an_unknown_variable_logs_the_similar_one(downloader, monkeypatch):
    monkeypatch.setenv("BULKDL_ARCHIVE", "3")
    result = invoke("run", "-o", "out", "--log-format", "json")
    assert (
        json.loads(result.err)["detail"]
        == "unknown setting BULKDL_ARCHIVE; did you mean BULKDL_ARCHIVE_CONCURRENCY?"
    )


def test_help_lists_flags_and_ends_with_an_example(downloader):
    for command in COMMANDS:
        result = invoke(command, "--help")
        assert result.code == 0
        assert f"bulkdl {command}" in result.out.split("Example:")[-1]
    out = invoke("run", "--help").out
    for flag in ("--project", "--jobs-file", "--shard", "--bwlimit", "--dry-run", "--config", "--log-format"):
        assert flag in out
    assert "--speed-limit is BULKDL_SPEED_LIMIT" in " ".join(out.split())
    assert "[default: 1K]" in out


def test_commands_have_no_flag_for_a_secret(downloader):
    for command in COMMANDS:
        if command != "simulate":
            flags = [word for word in invoke(command, "--help").out.split() if word.startswith("--")]
            assert not [flag for flag in flags if any(word in flag for word in ("key", "token", "password"))]


def test_group_help_lists_all_commands(downloader):
    out = invoke("--help").out
    assert all(command in out for command in COMMANDS)
    assert invoke("--version").out.startswith("bulkdl ")
    assert invoke("nope").code == 2


def test_run_has_a_flag_for_every_setting_except_the_listed_ones():
    params = {param.name for param in cli.get_command(click.Context(cli), "run").params}
    without = {"allow_http", "client_id", "token_url", "projects", "verbose", "path_templates"}
    without |= {"accounts", "kinds", "processor_settings", "source_settings"}
    without |= {
        "connect_timeout",
        "headers_timeout",
        "retry_base_delay",
        "retry_max_delay",
        "retry_after_max",
        "recheck_absent_for",
    }
    without |= {"archive_max_size", "quicklook_max_size", "geojson_max_size", "api_response_max_size"}
    without |= {"segment_min_size", "segment_if_slower_than", "disk_threads", "inspection_threads"}
    without |= {"processing_threads", "notify", "object_store", "lease_time"}
    of_service = {"every", "at", "webhook_secret_file", "allow_unsigned_webhooks"}
    assert set(Settings.model_fields) - without - of_service <= params
    of_serve = {param.name for param in cli.get_command(click.Context(cli), "serve").params}
    assert of_serve == params - {"dry_run"} | of_service


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--grace", "--shutdown-timeout"),
        ("--http", "--listen"),
        ("--level", "--scope"),
        ("--archives", "--archive-concurrency"),
        ("--retry", "--retries"),
    ],
)
def test_run_with_an_unknown_option_names_the_option_that_is_meant(downloader, option, expected):
    result = invoke("run", "-o", "out", option, "5")
    assert result.code == 2
    assert f"unknown option {option}; did you mean {expected}?" in result.err


def test_help_lists_the_options_of_run_under_headings(downloader):
    headings = [f"{group}:" for group in Group]
    for command, expected in (
        ("run", [each for each in headings if each != "Service:"]),
        ("serve", headings),
    ):
        out = invoke(command, "--help").out
        assert [line for line in out.splitlines() if line in headings] == expected


@pytest.mark.parametrize(
    ("command", "hidden"),
    [
        ("status", ["--api-url", "--progress", "--log-format"]),
        ("verify", ["--api-url", "--proxy"]),
        ("plan", ["--bwlimit", "--connections", "--speed-limit", "--durability"]),
    ],
)
def test_help_hides_options_without_effect_and_the_command_accepts_them(downloader, command, hidden):
    out = invoke(command, "--help").out
    known = {name for param in cli.get_command(click.Context(cli), command).params for name in param.opts}
    assert [option for option in hidden if f"  {option}" in out or option not in known] == []


def test_retries_of_zero_means_one_attempt(downloader):
    assert invoke("run", "-o", "out", "--retries", "0").code == 0
    assert retry_policy(downloader.created[0].settings).max_attempts == 1


def test_run_with_failures_ends_with_the_commands_to_run_next(downloader, monkeypatch):
    monkeypatch.setattr(downloader, "results", [failure(Reason.STALLED)] * 2)
    assert invoke("run", "-o", "my out").out.splitlines()[-1] == (
        "2 outputs failed: `bulkdl status --failures -o 'my out'` lists them, "
        "`bulkdl retry -o 'my out'` downloads them again"
    )


def test_run_without_failures_ends_with_the_headline(downloader):
    assert invoke("run", "-o", "out").out.splitlines()[-1].endswith("exit code 0")

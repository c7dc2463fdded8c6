"""Invalid input of a process: the exit code, one clear line, no traceback, and no changed file."""

import asyncio
import socket
import sqlite3
from pathlib import Path

import pytest

from bulkdl.simulator import SimulatedAccount
from support.cli_runs import UNEXPECTED_STDERR, BulkdlProcess, CliEnvironment, cli_environment
from support.fault_runs import files_by_output

ACCOUNT = SimulatedAccount(projects=2, jobs=6, archive_bytes=3_000)
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"
JOBS = [ACCOUNT.job(0, number) for number in range(3)]
JSON = ("--format", "json")


def one_line(run: BulkdlProcess, *words: str) -> bool:
    """Check that stderr is one line of bulkdl with these words."""
    assert run.out == ""
    assert run.log.startswith("bulkdl: ")
    assert run.log.count("\n") == 1
    assert [word for word in words if word not in run.log] == []
    assert [word for word in UNEXPECTED_STDERR if word in run.log] == []
    return True


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def jobs_there(environment: CliEnvironment) -> set[str]:
    return {key[0] for key in files_by_output(environment.root)}


async def test_run_with_wrong_credentials_exits_with_7_without_a_retry(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        process = await environment.bulkdl("-q", UP42_PROJECT_API_KEY="wrong.key-canary")
        assert [request.endpoint for request in environment.simulator.requests] == ["token"]
        assert process.process.returncode == 7
        assert "check the project ID and its API key" in process.out
        assert process.has_clean_stderr()
        assert "wrong.key-canary" not in process.out + process.log


async def test_run_with_an_unknown_project_exits_with_4_and_downloads_the_others(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, ACCOUNT, UP42_USERNAME="someone@example.com") as environment:
        known = [word for number in (0, 1) for word in ("-p", ACCOUNT.project_key(number).id)]
        process = await environment.bulkdl("-p", UNKNOWN_ID, *known, *JSON, UP42_PASSWORD="correct horse")
        assert process.process.returncode == 4
        assert process.has_clean_stderr()
        (problem,) = process.summary["problems"]
        assert problem["reason"] == "not_found"
        assert UNKNOWN_ID in problem["subject"]
        assert environment.has_complete_output()


async def test_run_with_an_unknown_job_exits_with_4_and_downloads_the_others(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        process = await environment.bulkdl("--job", UNKNOWN_ID, "--job", JOBS[0].id, *JSON)
        assert process.process.returncode == 4
        assert process.has_clean_stderr()
        assert [UNKNOWN_ID in problem["subject"] for problem in process.summary["problems"]] == [True]
        assert jobs_there(environment) == {JOBS[0].id}
        assert environment.find_wrong_files() == []


async def test_run_with_an_unreachable_api_exits_with_5_after_limited_attempts(tmp_path: Path) -> None:
    with (
        socket.socket() as taken
    ):  # bound but not listening: no other process gets the port, and connections are refused
        taken.bind(("127.0.0.1", 0))
        async with cli_environment(tmp_path, ACCOUNT) as environment:
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            process = await environment.bulkdl("--retries", "2", *JSON, BULKDL_API_URL=url)
            assert process.process.returncode == 5
            assert process.has_clean_stderr()
            assert {problem["reason"] for problem in process.summary["problems"]} == {"unreachable"}
            assert len(process.find_events("request.retry_scheduled")) == 2
            assert not environment.simulator.requests


LIST = [
    "# what we owe the customer\r\n",
    "\r\n",
    f"{JOBS[0].id}\r\n",
    f"  {JOBS[0].id.upper()}   # twice\n",
    f"{JOBS[1].project_id}/{JOBS[1].id}\n",
    "\t\n",
]


async def test_run_with_a_jobs_file_accepts_comments_and_blank_lines(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        path = tmp_path / "jobs.txt"
        path.write_bytes("".join(LIST).encode())
        process = await environment.bulkdl("-i", str(path), *JSON)
        assert process.process.returncode == 0, process.log
        assert process.summary["containers"]["selected"] == 2
        assert jobs_there(environment) == {JOBS[0].id, JOBS[1].id}


async def test_run_with_an_empty_jobs_file_does_not_download_all_jobs(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        process = await environment.bulkdl("-i", "-")
        assert process.process.returncode == 2
        assert one_line(process, "stdin", "contains no IDs")
        assert not environment.simulator.requests


async def test_run_with_an_invalid_jobs_file_names_the_line_and_sends_no_request(
    tmp_path: Path,
) -> None:
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        path = tmp_path / "jobs.txt"
        path.write_bytes(
            "".join([*LIST, "rubbish\r\n", f"{JOBS[2].id}\n", "../../etc\n"]).encode() + b"\xff\n"
        )
        process = await environment.bulkdl("-i", str(path))
        assert process.process.returncode == 2
        assert one_line(process, f"{path}:7: 'rubbish'", f"{path}:9: '../../etc'", f"{path}:10: ", "expected")
        assert f"{path}:8" not in process.log
        assert not environment.simulator.requests
        assert not environment.root.exists()


@pytest.mark.parametrize("inside", [False, True], ids=["output", "state"])
async def test_run_with_a_file_as_output_directory_exits_with_2_and_keeps_the_file(
    tmp_path: Path, inside: bool
) -> None:
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        blocked = environment.root / ".bulkdl" if inside else environment.root
        blocked.parent.mkdir(exist_ok=True)
        blocked.write_text("some notes")
        process = await environment.bulkdl()
        assert process.process.returncode == 2
        assert one_line(process, str(environment.root), "cannot be written")
        assert blocked.read_text() == "some notes"
        assert not environment.simulator.requests
        assert files_below(tmp_path) == [blocked]


@pytest.mark.parametrize("command", ["run", "plan"])
async def test_run_with_a_newer_ledger_exits_with_2_and_keeps_the_ledger(
    tmp_path: Path, command: str
) -> None:
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        await environment.run()
        path = environment.root / ".bulkdl" / "ledger.sqlite3"
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 99")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        before, asked = await asyncio.to_thread(path.read_bytes), len(environment.simulator.requests)
        process = await environment.bulkdl(command=command)
        assert process.process.returncode == 2
        assert one_line(process, str(path), "newer")
        assert path.read_bytes() == before
        assert len(environment.simulator.requests) == asked


async def test_run_with_an_invalid_ledger_exits_with_2_and_keeps_the_file(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        path = environment.root / ".bulkdl" / "ledger.sqlite3"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"no database at all\n" * 100)
        process = await environment.bulkdl()
        assert process.process.returncode == 2
        assert one_line(process, str(path))
        assert path.read_bytes() == b"no database at all\n" * 100
        assert not environment.simulator.requests


async def test_run_with_a_read_only_directory_exits_with_2(tmp_path: Path) -> None:
    """Use a directory of the kernel, in which root cannot create files either."""
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        process = await environment.bulkdl("-o", "/proc/sys/bulkdl")
        assert process.process.returncode == 2
        assert one_line(process, "--output /proc/sys/bulkdl", "cannot be written")
        assert not environment.simulator.requests


@pytest.mark.parametrize(
    ("variable", "file", "words"),
    [
        ("UP42_PROJECT_API_KEY_FILE", None, ("UP42_PROJECT_API_KEY_FILE", "cannot be read")),
        ("UP42_PROJECT_API_KEY_FILE", b"  \n", ("UP42_PROJECT_API_KEY_FILE", "is empty")),
        ("UP42_PROJECT_API_KEY_FILE", b"\xff\xfecanary", ("UP42_PROJECT_API_KEY_FILE", "not valid UTF-8")),
        ("BULKDL_CONFIG", b"archive_concurrency = 'canary'\n", ("archive_concurrency", "expected")),
    ],
)
async def test_run_with_unusable_credentials_or_config_exits_with_2(
    tmp_path: Path, variable: str, file: bytes | None, words: tuple[str, ...]
) -> None:
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        path = tmp_path / "mounted"
        if file is not None:
            path.write_bytes(file)
        key = {"UP42_PROJECT_API_KEY": ""} if variable.startswith("UP42") else {}
        process = await environment.bulkdl(**key, **{variable: str(path)})
        assert process.process.returncode == 2
        assert one_line(process, *words)
        assert not environment.simulator.requests
        assert not environment.root.exists()

"""Run with canary secrets, every fault and -vv, then search all output for the canaries."""

import asyncio
import os
import sys
import traceback
from asyncio.subprocess import PIPE
from collections import Counter
from pathlib import Path

import pytest
from pydantic import SecretStr

from bulkdl.settings import CredentialSet
from bulkdl.simulator import SimulatedAccount, Simulator
from bulkdl.simulator.fault_table import FAULTS
from bulkdl.simulator.routes import TODAY_ENDPOINTS
from bulkdl.sources.up42_common.credentials import Account as UserAccount
from bulkdl.sources.up42_common.credentials import ProjectKey, StaticToken
from support.canaries import Canaries, read_everything_below
from support.fault_runs import RecordingFaults, run_environment
from support.run_processes import ROOT, project_key

ACCOUNT = SimulatedAccount(projects=1, jobs=8, archive_bytes=20_000)
PASSWORD = "canary-password-x7Gq"
ABROAD = "/away?Signature=canary-redirect-9Zk"
# Parameters that a fault requires or that shorten it, and the endpoint for faults that apply to several.
PARAMETERS: dict[str, dict[str, object]] = {
    "down": {"seconds": 0.005, "server": "storage", "nth": 20},
    "drip": {"bytes_per_s": 50_000_000},
    "endless": {"chunked": True, "endpoint": "quicklook"},
    "huge_list": {"size_bytes": 300_000},
    "latency": {"seconds": 0.0},
    "redirect": {"endpoint": ["geojson", "object"]},
    "repeat_pages": {"overlap": 2},
    "status": {"status": 500},
    "unsatisfiable": {"nth": 1},
    "wrong_offset": {"ranged": True, "nth": 2},
    "without": {"headers": ["ETag", "Content-Type"], "server": "storage"},
}


# Faults of lists that the source of projects does not request.
TODAY_FAULTS = {
    name
    for name, kind in FAULTS.items()
    if kind.condition.get("endpoint") and set(kind.condition["endpoint"]) <= set(TODAY_ENDPOINTS)
}


def every_fault(stranger: Simulator) -> list[dict[str, object]]:
    """Apply each fault once to a request of its endpoint."""
    # Truncated bodies cause range requests, which two of the faults need and which are therefore not cut.
    cut = {"fault": "cut", "server": "storage", "per": "all", "nth": list(range(1, 41)), "ranged": False}
    rules: list[dict[str, object]] = [cut]
    turn: Counter[str] = Counter()
    for name, kind in sorted(FAULTS.items()):
        if name in TODAY_FAULTS:
            continue
        parameters = PARAMETERS.get(name, {})
        where = str(parameters.get("endpoint") or parameters.get("server") or kind.condition.get("server"))
        turn[where] += 1
        rules.append({"fault": name, "per": "all", "nth": 1 + turn[where], **parameters})
        if name == "redirect":
            rules[-1]["location"] = stranger.api_url.replace("127.0.0.1", "localhost") + ABROAD
    return rules


@pytest.mark.parametrize(("grant", "log_format"), [("key", "json"), ("password", "console")])
async def test_run_writes_no_secret_to_any_file_or_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grant: str, log_format: str
) -> None:
    async with (
        Simulator(ACCOUNT) as stranger,
        run_environment(
            tmp_path / "out", ACCOUNT, simulator_options={"password": PASSWORD, "page_size": 5}
        ) as environment,
    ):
        (project,) = environment.simulator.projects
        secrets = (project.api_key, PASSWORD, "canary-redirect-9Zk")
        canaries = Canaries(environment.simulator, monkeypatch, *secrets)
        env = project_key(environment.simulator)
        if grant == "password":
            env = {"UP42_USERNAME": "someone@example.com", "UP42_PASSWORD": PASSWORD}
        environment.simulator.faults = faults = RecordingFaults.from_rules(*every_fault(stranger))
        written = ""
        for _ in range(2):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bulkdl", "run", "-p", project.id, "-o", str(environment.root)),
                *("--api-url", environment.simulator.api_url, "-vv", "--log-format", log_format),
                *("--retries", "5", "--speed-time", "1"),
                stdout=PIPE,
                stderr=PIPE,
                env={
                    **os.environ,
                    **env,
                    "BULKDL_API_RESPONSE_MAX_SIZE": "200000",
                    "BULKDL_QUICKLOOK_MAX_SIZE": "300000",
                    "BULKDL_RETRY_BASE_DELAY": "0.005",
                    "BULKDL_RETRY_AFTER_MAX": "0.01",
                    "BULKDL_HEADERS_TIMEOUT": "2",  # a busy machine needs more than half a second
                    "PYTHONPATH": str(ROOT),
                },
            )
            out, log = await process.communicate()
            written += out.decode() + log.decode()
        assert {name for name, times in faults.applied_counts.items() if times} == set(FAULTS) - TODAY_FAULTS
        assert len(canaries.found) > 10
        assert "transfer.completed" in written
        assert canaries.seen_in(written) == []
        assert canaries.seen_in(read_everything_below(environment.root)) == []
        # The simulator returns an image for any name and does not expect hostile names.
        assert [path for path in environment.find_wrong_files() if "/quicklooks/" not in path] == []
        for request in (
            *stranger.requests,
            *(one for one in environment.simulator.requests if one.server == "storage"),
        ):
            assert "Authorization" not in request.headers


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_run_with_a_rejected_login_quotes_no_secret(tmp_path: Path, status: int) -> None:
    """The server returns the credentials in its response, and -vv prints tracebacks."""
    async with run_environment(tmp_path / "out", ACCOUNT) as environment:
        (project,) = environment.simulator.projects
        body = f'{{"error": {{"code": {status}, "message": "no user {PASSWORD} with {project.api_key}"}}}}'
        environment.simulator.faults = RecordingFaults.from_rules(
            {"fault": "status", "status": status, "body": body, "endpoint": "token"}
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bulkdl", "run", "-p", project.id, "-o", str(environment.root), "-vv"),
            *("--api-url", environment.simulator.api_url, "--retries", "0"),
            stdout=PIPE,
            stderr=PIPE,
            env={
                **os.environ,
                "UP42_USERNAME": "someone@example.com",
                "UP42_PASSWORD": PASSWORD,
                "PYTHONPATH": str(ROOT),
            },
        )
        out, log = await process.communicate()
        assert process.returncode in (5, 7)
        text = out.decode() + log.decode() + read_everything_below(environment.root)
        assert PASSWORD not in text
        assert project.api_key not in text


def test_repr_and_traceback_contain_no_secret() -> None:
    secret = "canary-repr-Q2x9"
    things = [
        CredentialSet(
            by_project={"p": SecretStr(secret)}, account=("u", SecretStr(secret)), token=SecretStr(secret)
        ),
        ProjectKey("p", SecretStr(secret)),
        UserAccount("u", SecretStr(secret)),
        StaticToken(SecretStr(secret)),
    ]
    for thing in things:
        assert secret not in repr(thing)
        assert secret not in str(thing)
        shown = traceback.format_exception(RuntimeError(thing))
        assert secret not in "".join(shown)

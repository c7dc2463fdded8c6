"""Run ``bulkdl serve`` as a process: events, reload, signals, systemd, and addresses in use."""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from bulkdl.simulator import SimulatedAccount, StorageOptions
from support.cli_runs import BulkdlProcess, CliEnvironment, cli_environment

ACCOUNT = SimulatedAccount(projects=1, jobs=0, storage=StorageOptions(assets=4))
SECRET = "a secret of the webhook"
LOGIN = {"UP42_USERNAME": "someone@example.com", "UP42_PASSWORD": "correct horse"}
ARGS = ("--log-format", "json", "--format", "json")


@asynccontextmanager
async def environment(folder: Path, **env: str) -> AsyncIterator[CliEnvironment]:
    async with cli_environment(folder, ACCOUNT, BULKDL_SOURCE="storage", **LOGIN, **env) as world:
        yield world


async def wait_for_runs(process: BulkdlProcess, count: int) -> list[dict]:
    """Wait until the process waits for the next run after *count* runs; return their summaries."""
    await process.wait_until(lambda: len(process.find_events("serve.waiting")) >= count)
    return [json.loads(line) for line in process.out.splitlines()]


async def listening_url(process: BulkdlProcess) -> str:
    await process.wait_until(lambda: process.find_events("status_page.listening"))
    return process.find_events("status_page.listening")[0]["url"]


async def stop(process: BulkdlProcess, expected: int = 0) -> None:
    process.send_signal()
    assert await process.wait_for_exit() == expected
    assert process.has_clean_stderr()


async def test_serve_event_of_a_new_output_brings_it_to_disk_before_the_schedule(tmp_path):
    secret_file = tmp_path / "secret"
    secret_file.write_text(SECRET + "\n")
    async with environment(tmp_path) as world:
        process = await world.start(
            *ARGS,
            "--every",
            "30d",
            "--listen",
            "127.0.0.1:0",
            "--webhook-secret-file",
            str(secret_file),
            command="serve",
        )
        url = await listening_url(process)
        (first,) = await wait_for_runs(process, 1)
        assert first["exit_code"] == 0
        await register(world, url + "webhooks/up42", SECRET)
        world.simulator.add_assets(3)
        order = await find_order(world)
        (record,) = await world.simulator.send_event(order)
        assert record["response"]["status"] == 204
        second = (await wait_for_runs(process, 2))[1]
        assert second["outputs"]["completed"] > 0
        contents = {path.read_bytes() for path in world.root.rglob("*") if path.is_file()}
        assert all(file.read() in contents for file in world.simulator.expected_files())
        async with aiohttp.ClientSession() as session:
            async with session.post(url + "webhooks/up42", json={"messageId": "x"}) as response:
                assert response.status == 401
            async with session.get(url + "status.json") as response:
                service = (await response.json())["service"]
            async with session.get(url + "readyz") as response:
                assert response.status == 200
        assert [run["trigger"] for run in service["runs"]] == ["webhook", "schedule"]
        assert service["webhooks"] == {
            "is_enabled": True,
            "is_signed": True,
            "accepted": 1,
            "duplicates": 0,
            "rejected": 1,
        }
        await stop(process)
        assert SECRET not in process.log + process.out


async def register(world: CliEnvironment, url: str, secret: str) -> None:
    """Register a webhook of each workspace at the simulator."""
    deliveries = world.simulator.account.deliveries
    headers = {"Authorization": f"Bearer {await log_in(world)}"}
    body = {"name": "n", "url": url, "events": ["order.status"], "secret": secret, "active": True}
    async with aiohttp.ClientSession(headers=headers) as session:
        for number in range(3):
            path = f"/workspaces/{deliveries.workspace_id(number)}/webhooks"
            async with session.post(world.simulator.api_url + path, json=body) as response:
                assert response.status == 200


async def log_in(world: CliEnvironment) -> str:
    form = {"grant_type": "password", "username": LOGIN["UP42_USERNAME"], "password": LOGIN["UP42_PASSWORD"]}
    path = "/realms/public/protocol/openid-connect/token"
    async with (
        aiohttp.ClientSession() as session,
        session.post(world.simulator.api_url + path, data={**form, "client_id": "up42-api"}) as response,
    ):
        return (await response.json())["access_token"]


async def find_order(world: CliEnvironment) -> str:
    headers = {"Authorization": f"Bearer {await log_in(world)}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(world.simulator.api_url + "/v2/orders") as response,
    ):
        return (await response.json())["content"][0]["id"]


async def test_serve_reload_uses_a_valid_config_and_reports_an_invalid_one_in_one_line(tmp_path):
    config = tmp_path / "bulkdl.toml"
    config.write_text('every = "30d"\nonly = ["metadata"]\n')
    async with environment(tmp_path) as world:
        process = await world.start(*ARGS, "-c", str(config), command="serve")
        (first,) = await wait_for_runs(process, 1)
        assert {count["kind"] for count in first["counts"]} == {"metadata"}
        config.write_text('every = "soon"\n')
        process.send_signal(signal.SIGHUP)
        await process.wait_until(lambda: process.find_events("serve.reload_failed"))
        (failed,) = process.find_events("serve.reload_failed")
        assert str(config) in failed["detail"]
        assert "every" in failed["detail"]
        config.write_text('every = "1s"\nonly = ["metadata", "preview"]\nlisten = "127.0.0.1:0"\n')
        process.send_signal(signal.SIGHUP)
        await process.wait_until(lambda: len(process.out.splitlines()) >= 2)
        second = json.loads(process.out.splitlines()[1])
        assert {count["kind"] for count in second["counts"]} == {"metadata", "preview"}
        (ignored,) = process.find_events("serve.restart_required")
        assert ignored["settings"] == "listen"
        process.send_signal()
        assert await process.wait_for_exit() in (0, 143)
        assert process.has_clean_stderr()


@pytest.mark.parametrize("signals", [1, 2])
async def test_serve_signal_during_a_run_ends_with_its_code_and_the_lease_is_released(tmp_path, signals):
    async with environment(tmp_path) as world:
        world.set_faults({"fault": "stall", "at_byte": 100, "seconds": 3600.0, "endpoint": "object"})
        process = await world.start(*ARGS, "--shutdown-timeout", "2s", command="serve")
        await process.wait_until(lambda: world.requests_to("object"))
        for _ in range(signals):
            process.send_signal(signal.SIGTERM)
            await process.wait_until(lambda: process.find_events("run.draining"))
        assert await process.wait_for_exit() == 143
        assert world.run_reports[-1]["exit_code"] == 143
        assert world.query_ledger("SELECT * FROM lease") == []
        (summary,) = [json.loads(line) for line in process.out.splitlines()]
        assert summary["exit_code"] == 143


async def test_serve_reports_its_state_to_systemd(tmp_path):
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        server.setblocking(False)
        env = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "400000"}
        async with environment(tmp_path, **env) as world:
            process = await world.start(*ARGS, command="serve")
            messages = await read_until(server, "WATCHDOG=1")
            assert messages[0].startswith("READY=1")
            await wait_for_runs(process, 1)
            process.send_signal(signal.SIGHUP)
            messages = await read_until(server, "READY=1")
            assert any(message.startswith("RELOADING=1\nMONOTONIC_USEC=") for message in messages)
            process.send_signal()
            await read_until(server, "STOPPING=1")
            assert await process.wait_for_exit() == 0


async def read_until(server: socket.socket, start: str) -> list[str]:
    """Read datagrams until one starts with *start*."""
    messages: list[str] = []
    async with asyncio.timeout(30):
        while not messages or not messages[-1].startswith(start):
            messages.append((await asyncio.get_running_loop().sock_recv(server, 4096)).decode())
    return messages


async def test_serve_port_in_use_ends_with_exit_code_2(tmp_path):
    async with environment(tmp_path) as world:
        address = world.simulator.api_url.removeprefix("http://")
        process = await world.start(*ARGS, "--listen", address, command="serve")
        assert await process.wait_for_exit() == 2
        assert "cannot listen here" in process.log
        assert not world.root.exists()


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--at", "25:00"], "--at: expected times of day such as 01:30"),
        (["--every", "0"], "--every: expected"),
        (["--every", "x"], "--every: expected a duration"),
        (["-i", "-"], "--jobs-file: is read before each run"),
        (["--webhook-secret-file", "missing"], "--webhook-secret-file: missing cannot be read"),
        (["--evry", "1h"], "did you mean --every?"),
    ],
)
async def test_serve_invalid_option_ends_with_exit_code_2(tmp_path, args, expected):
    async with environment(tmp_path) as world:
        process = await world.bulkdl(*args, command="serve")
        assert await process.wait_for_exit() == 2
        assert expected in process.log
        assert "Traceback" not in process.log


async def test_webhooks_commands_register_test_list_and_remove_the_service(tmp_path):
    secret_file = tmp_path / "secret"
    secret_file.write_text(SECRET)
    async with environment(tmp_path, BULKDL_WEBHOOK_SECRET_FILE=str(secret_file)) as world:
        process = await world.start(*ARGS, "--every", "30d", "--listen", "127.0.0.1:0", command="serve")
        url = await listening_url(process) + "webhooks/up42"
        await wait_for_runs(process, 1)

        added = await webhooks(world, "add", "--url", url)
        assert {entry["change"] for entry in added} == {"created"}
        workspaces = {entry["workspace_id"] for entry in added}
        assert len(added) == len(workspaces) > 0
        assert all(entry["is_active"] and entry["url"] == url for entry in added)

        again = await webhooks(world, "add", "--url", url)
        assert [entry["id"] for entry in again] == [entry["id"] for entry in added]
        assert {entry["change"] for entry in again} == {"changed"}
        assert len(await webhooks(world, "list")) == len(added)
        assert await webhooks(world, "list", "--url", url + "x") == []

        tested = await webhooks(world, "test", "--url", url)
        assert {tuple(entry["tests"].values()) for entry in tested} == {(2, 2)}
        await wait_for_runs(process, 2)
        secret_file.write_text("another secret")
        process.send_signal(signal.SIGHUP)
        await process.wait_until(lambda: process.find_events("serve.reloaded"))
        assert (await webhooks(world, "test", "--url", url, code=5))[0]["tests"]["succeeded"] == 0

        assert len(await webhooks(world, "remove", "--url", url, "--workspace", min(workspaces))) == 1
        removed = await webhooks(world, "remove", "--url", url)
        assert len(removed) == len(added) - 1
        assert await webhooks(world, "list") == []
        process.send_signal()
        assert await process.wait_for_exit() in (0, 143)


async def webhooks(world: CliEnvironment, *args: str, code: int = 0) -> list[dict]:
    """Run a command of ``bulkdl webhooks`` and return its result."""
    process = await world.bulkdl(*args, "--format", "json", "--log-format", "json", command="webhooks")
    assert await process.wait_for_exit() == code, process.log
    assert SECRET not in process.log + process.out
    return json.loads(process.out)


@pytest.mark.parametrize(
    ("args", "code", "expected"),
    [
        (["add"], 2, "Missing option '--url'"),
        (["add", "--url", "http://example.com/webhooks/up42"], 2, "--url: expected https://"),
        (["add", "--url", "example.com"], 2, "--url: expected a URL"),
        (["add", "--url", "https://u:p@example.com/"], 2, "--url: expected a URL"),
        (["list", "--workspace", "unknown"], 4, "Workspace unknown not found"),
        (["delete"], 2, "No such command"),
    ],
)
async def test_webhooks_invalid_argument_is_reported_in_one_line(tmp_path, args, code, expected):
    async with environment(tmp_path) as world:
        process = await world.bulkdl(*args, command="webhooks")
        assert (process.process.returncode, expected in process.log) == (code, True), process.log
        assert "Traceback" not in process.log


async def test_webhooks_refused_login_ends_with_exit_code_7(tmp_path):
    async with environment(tmp_path) as world:
        process = await world.bulkdl("list", command="webhooks", UP42_PASSWORD="wrong password")
        assert process.process.returncode == 7
        assert "wrong password" not in process.log


async def test_serve_refused_login_is_tried_again_with_the_new_content_of_the_file(tmp_path):
    password = tmp_path / "password"
    password.write_text("an old password")
    login = {"UP42_USERNAME": LOGIN["UP42_USERNAME"], "UP42_PASSWORD_FILE": str(password)}
    async with cli_environment(tmp_path, ACCOUNT, BULKDL_SOURCE="storage", **login) as world:
        process = await world.start(*ARGS, "--every", "1s", command="serve")
        await process.wait_until(lambda: process.out.count("\n") >= 2)
        assert [json.loads(line)["exit_code"] for line in process.out.splitlines()][:2] == [7, 7]
        password.write_text(LOGIN["UP42_PASSWORD"])
        await process.wait_until(lambda: '"exit_code": 0' in process.out)
        process.send_signal()
        assert await process.wait_for_exit() in (0, 143)
        assert process.has_clean_stderr()
        assert LOGIN["UP42_PASSWORD"] not in process.log + process.out


@pytest.mark.parametrize(("args", "status"), [((), 403), (("--allow-unsigned-webhooks",), 204)])
async def test_serve_unsigned_event_on_a_public_address_needs_the_flag(tmp_path, args, status):
    async with environment(tmp_path) as world:
        process = await world.start(*ARGS, "--every", "30d", "--listen", "0.0.0.0:0", *args, command="serve")
        url = (await listening_url(process)).replace("0.0.0.0", "127.0.0.1")
        await wait_for_runs(process, 1)
        async with (
            aiohttp.ClientSession() as session,
            session.post(url + "webhooks/up42", json={"messageId": "m"}) as response,
        ):
            assert response.status == status
        assert bool(process.find_events("serve.webhooks_disabled")) == (status == 403)
        if status == 204:
            assert len(await wait_for_runs(process, 2)) == 2
        await stop(process)


async def test_serve_writes_the_catalogue_after_each_run(tmp_path):
    async with environment(tmp_path) as world:
        process = await world.start(*ARGS, "--every", "30d", "--catalog", command="serve")
        await wait_for_runs(process, 1)
        (written,) = process.find_events("serve.catalog_written")
        assert written["entries"] > 0
        assert (world.root / "index.html").is_file()
        await stop(process)

"""Processes of several machines that write to one bucket of SeaweedFS and are killed, paused or disturbed."""

import json
import shutil
import signal

import obstore
import pytest

from bulkdl.destinations.objectstore.stores import create_store
from support.cli_runs import CliEnvironment, cli_environment
from support.library_runs import TAME, LibraryEnvironment
from support.s3_proxy import LostResponse

POINTER, LEASE = ".bulkdl/snapshot.json", ".bulkdl/lease.json"
JSON = ("--format", "json")


class Machines:
    """A bucket, and the state directories of machines by name."""

    def __init__(self, site: CliEnvironment, url, folder):
        self.site, self.url, self.folder = site, url, folder
        self.store = create_store(url)

    async def start(self, machine, *args, **env):
        state = str(self.folder / machine)
        return await self.site.start(*args, **{"BULKDL_STATE": state, **env})

    async def run(self, machine, *args, **env):
        run = await self.start(machine, *args, **env)
        return await run.wait_for_exit(60), run

    def read(self, key):
        return json.loads(bytes(obstore.get(self.store, key).bytes()))

    def has_all_outputs(self):
        """Assert that the bucket contains every expected output with its content, and no other archive."""
        expected = LibraryEnvironment(self.site.simulator, None).expected_files()
        found = {meta["path"] for page in obstore.list(self.store) for meta in page}
        assert expected.keys() <= found
        assert {key for key in found if key.endswith(".tar.gz")} <= expected.keys()
        for key, content in expected.items():
            assert bytes(obstore.get(self.store, key).bytes()) == content
        return True


@pytest.fixture
async def machines(bucket_url, store_env, tmp_path):
    env = {**store_env, "BULKDL_OUTPUT": bucket_url, "BULKDL_LEASE_TIME": "6s", "BULKDL_SNAPSHOT_EVERY": "1s"}
    async with cli_environment(tmp_path, TAME, **env) as site:
        project = site.simulator.projects[0]
        site.env["UP42_PROJECT_ID"], site.env["UP42_PROJECT_API_KEY"] = project.id, project.api_key
        yield Machines(site, bucket_url, tmp_path)


@pytest.mark.timeout(240)
async def test_run_killed_with_its_state_directory_the_next_run_completes(machines):
    for number, objects in enumerate((1, 4, 9)):
        before = len(machines.site.requests_to("object"))
        run = await machines.start(f"pod-{number}")
        await run.wait_until(lambda count=before + objects: len(machines.site.requests_to("object")) >= count)
        run.send_signal(signal.SIGKILL)
        assert await run.wait_for_exit() == -signal.SIGKILL
        shutil.rmtree(machines.folder / f"pod-{number}")
    code, run = await machines.run("pod-last", *JSON)
    assert code == 0, run.log
    assert machines.has_all_outputs()
    before = machines.site.sent_bytes
    code, run = await machines.run("pod-new", *JSON)
    assert (code, machines.site.sent_bytes) == (0, before)


@pytest.mark.timeout(240)
async def test_run_paused_owner_is_fenced_and_publishes_nothing(machines):
    paused = await machines.start("first")
    await paused.wait_until(lambda: len(machines.site.requests_to("object")) >= 2)
    paused.send_signal(signal.SIGSTOP)
    code, run = await machines.run("second", *JSON)
    assert code == 0, run.log
    assert run.find_events("lease.taken_over")
    published = machines.read(POINTER)
    paused.send_signal(signal.SIGCONT)
    assert await paused.wait_for_exit(60) == 11, paused.log
    assert machines.read(POINTER) == published
    assert machines.read(LEASE)["run_id"] is None
    assert not paused.find_events("snapshot.published")[1:]
    assert machines.has_all_outputs()


@pytest.mark.timeout(240)
async def test_run_of_another_machine_is_refused_while_a_run_renews_its_lease(machines):
    machines.site.set_faults({"fault": "stall", "at_byte": 100, "nth": 1, "server": "storage"})
    first = await machines.start("first")
    await first.wait_until(lambda: len(machines.site.requests_to("object")) >= 1)
    code, second = await machines.run("second")
    assert code == 11
    assert "another run locks this output directory" in second.log
    first.send_signal()
    first.send_signal()
    await first.wait_for_exit(60)


@pytest.mark.timeout(240)
async def test_run_lost_responses_of_conditional_writes_are_no_conflict(machines, proxy):
    writes = []

    def lose_some(method, path, body):
        if method == "PUT" and ".json" in path and ".bulkdl" in path:
            writes.append(path)
            return LostResponse() if len(writes) % 2 else None
        return None

    proxy.fault = lose_some
    for machine in ("first", "second"):  # each lease is valid for longer than a run
        code, run = await machines.run(machine, *JSON, AWS_ENDPOINT_URL=proxy.url, BULKDL_LEASE_TIME="60s")
        assert code == 0, run.log
    assert len(writes) >= 8
    assert machines.has_all_outputs()
    assert machines.read(LEASE)["run_id"] is None

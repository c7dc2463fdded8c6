"""What is durable when: nothing is recorded before its file would survive a power cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from bulkdl.destinations.local import atomic_files
from bulkdl.graph.downloader import Downloader
from bulkdl.ledger import queries
from bulkdl.models import Durability
from bulkdl.settings import CredentialSet, Settings
from bulkdl.simulator import SimulatedAccount, Simulator

ACCOUNT = SimulatedAccount(projects=1, jobs=3, archive_bytes=1_500_000)


@pytest.fixture
def steps(monkeypatch):
    """What was done to which path, in order."""
    done = []
    fsync, place, record, whole = (
        os.fsync,
        atomic_files.rename_into_place,
        queries.record_results,
        atomic_files.sync_file_system,
    )

    def synced(handle):
        done.append(("sync", Path(f"/proc/self/fd/{handle}").readlink()))
        fsync(handle)

    def placed(aside, final):
        done.append(("rename_into_place", final, aside))
        place(aside, final)

    def recorded(connection, results, run_id):
        done.extend(("record", each.file.key) for each in results if each.file)
        record(connection, results, run_id)

    def synced_all(folder):
        done.append(("sync all", folder))
        whole(folder)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(atomic_files, "rename_into_place", placed)
    monkeypatch.setattr(atomic_files, "sync_file_system", synced_all)
    monkeypatch.setattr(queries, "record_results", recorded)
    return done


async def run(root, durability):
    async with Simulator(ACCOUNT) as simulator:
        keys = {each.id: SecretStr(each.api_key) for each in simulator.projects}
        settings = Settings(output=root, api_url=simulator.api_url, durability=durability)
        async with Downloader(settings, credentials=CredentialSet(keys, project_ids=tuple(keys))) as made:
            assert (await made.run()).exit_code == 0


def recorded_keys(steps):
    return [step[1] for step in steps if step[0] == "record"]


def between(steps, root, key):
    """The steps from the moment *key* got its final name until it was recorded, and what came before."""
    at = next(n for n, step in enumerate(steps) if step[0] == "rename_into_place" and step[1] == root / key)
    end = steps.index(("record", key))
    assert at < end
    return steps[:at], steps[at:end], steps[at][2]


async def test_full_syncs_the_file_before_its_name_and_the_name_before_the_row(tmp_path, steps):
    await run(tmp_path, Durability.FULL)
    linked = 0
    for key in recorded_keys(steps):
        before, after, aside = between(steps, tmp_path, key)
        assert ("sync", (tmp_path / key).parent) in after, key
        if aside.name.startswith("new-"):
            linked += 1
        else:
            assert ("sync", aside) in before, key
    assert 0 < linked < len(recorded_keys(steps))


async def test_batch_syncs_everything_at_once_before_the_rows(tmp_path, steps):
    await run(tmp_path, Durability.BATCH)
    for key in recorded_keys(steps):
        before, after, aside = between(steps, tmp_path, key)
        assert ("sync all", tmp_path) in after, key
        assert ("sync", aside) not in before
    assert len([step for step in steps if step[0] == "sync all"]) < len(recorded_keys(steps))


async def test_none_leaves_it_to_the_system(tmp_path, steps):
    await run(tmp_path, Durability.NONE)
    placed = {step[2] for step in steps if step[0] == "rename_into_place" and ".bulkdl" not in step[1].parts}
    synced = {step[1] for step in steps if step[0] == "sync"}
    assert recorded_keys(steps)
    assert not placed & synced
    assert ("sync all", tmp_path) not in steps

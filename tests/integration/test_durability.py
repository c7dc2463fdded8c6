"""Order of fsync, rename and ledger row: a recorded file survives a power cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from bulkdl.disk import atomic_files
from bulkdl.graph.downloader import Downloader
from bulkdl.ledger import queries
from bulkdl.models import Durability
from bulkdl.settings import CredentialSet, Settings
from bulkdl.simulator import SimulatedAccount, Simulator

ACCOUNT = SimulatedAccount(projects=1, jobs=3, archive_bytes=1_500_000)


@pytest.fixture
def steps(monkeypatch):
    """Record the fsyncs, renames and ledger rows, in order."""
    done = []
    fsync, rename_into_place, record_results, sync_file_system = (
        os.fsync,
        atomic_files.rename_into_place,
        queries.record_results,
        atomic_files.sync_file_system,
    )

    def synced(handle):
        done.append(("sync", Path(f"/proc/self/fd/{handle}").readlink()))
        fsync(handle)

    def placed(temp_path, final):
        done.append(("rename_into_place", final, temp_path))
        rename_into_place(temp_path, final)

    def recorded(connection, results, run_id):
        done.extend(("record", result.file.key) for result in results if result.file)
        record_results(connection, results, run_id)

    def synced_all(folder):
        done.append(("sync all", folder))
        sync_file_system(folder)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(atomic_files, "rename_into_place", placed)
    monkeypatch.setattr(atomic_files, "sync_file_system", synced_all)
    monkeypatch.setattr(queries, "record_results", recorded)
    return done


async def run(root, durability):
    async with Simulator(ACCOUNT) as simulator:
        keys = {project.id: SecretStr(project.api_key) for project in simulator.projects}
        settings = Settings(output=root, api_url=simulator.api_url, durability=durability)
        async with Downloader(settings, credentials=CredentialSet(keys, project_ids=tuple(keys))) as made:
            assert (await made.run()).exit_code == 0


def recorded_keys(steps):
    return [step[1] for step in steps if step[0] == "record"]


def split_steps(steps, root, key):
    """Return the steps before the rename of *key*, the steps until its ledger row, and its temporary path."""
    renamed_at = next(
        index for index, step in enumerate(steps) if step[0] == "rename_into_place" and step[1] == root / key
    )
    end = steps.index(("record", key))
    assert renamed_at < end
    return steps[:renamed_at], steps[renamed_at:end], steps[renamed_at][2]


async def test_full_syncs_the_file_before_the_rename_and_the_folder_before_the_row(tmp_path, steps):
    await run(tmp_path, Durability.FULL)
    linked = 0
    for key in recorded_keys(steps):
        before, after, temp_path = split_steps(steps, tmp_path, key)
        assert ("sync", (tmp_path / key).parent) in after, key
        if temp_path.name.startswith("new-"):
            linked += 1
        else:
            assert ("sync", temp_path) in before, key
    assert 0 < linked < len(recorded_keys(steps))


async def test_batch_syncs_the_file_system_before_the_rows(tmp_path, steps):
    await run(tmp_path, Durability.BATCH)
    for key in recorded_keys(steps):
        before, after, temp_path = split_steps(steps, tmp_path, key)
        assert ("sync all", tmp_path) in after, key
        assert ("sync", temp_path) not in before
    assert len([step for step in steps if step[0] == "sync all"]) < len(recorded_keys(steps))


async def test_none_does_not_sync_files(tmp_path, steps):
    await run(tmp_path, Durability.NONE)
    placed = {step[2] for step in steps if step[0] == "rename_into_place" and ".bulkdl" not in step[1].parts}
    synced = {step[1] for step in steps if step[0] == "sync"}
    assert recorded_keys(steps)
    assert not placed & synced
    assert ("sync all", tmp_path) not in steps

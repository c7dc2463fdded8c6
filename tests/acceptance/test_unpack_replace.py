"""``--unpack replace``: archives are deleted after they were unpacked, and are not downloaded again."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bulkdl.simulator import SimulatedAccount, Simulator
from support.filled_directory import FilledDirectory

pytestmark = pytest.mark.slow


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FilledDirectory]:
    async with Simulator(SimulatedAccount(seed=3, projects=1, jobs=4)) as running:
        yield FilledDirectory(tmp_path, running)


def archives_of(site: FilledDirectory) -> list[Path]:
    found = [*site.output.glob("*/*/final_output.*"), *site.output.glob("*/*/*/task_output.*")]
    return [path for path in found if path.suffix != ".json"]


def folders_of(site: FilledDirectory) -> list[Path]:
    return sorted(site.output.glob("*/*/*/output"))


async def run(site: FilledDirectory, *options: str) -> dict[str, Any]:
    ended = await site.bulkdl("run", "-q", "--format", "json", *options)
    assert ended.code == 0, ended.err
    document: dict[str, Any] = ended.document
    return document


async def test_run_with_replace_deletes_archives_and_does_not_download_them_again(site: Any) -> None:
    first = await run(site, "--unpack", "replace")
    assert first["derived"][0]["completed"] == len(folders_of(site)) > 1
    assert archives_of(site) == []
    for options in (["--unpack", "replace"], ["--unpack", "keep"], []):
        again = await run(site, *options)
        assert (again["downloaded_bytes"], again["outputs"]["completed"]) == (0, 0)
    plan = await site.bulkdl("plan", "-q", "--format", "json")
    assert plan.document["to_download"] == dict.fromkeys(plan.document["to_download"], 0)
    assert archives_of(site) == []
    assert (await site.bulkdl("verify", "--deep")).code == 0


async def test_missing_member_of_a_replaced_archive_is_restored_by_a_run(site: Any) -> None:
    await run(site, "--unpack", "replace")
    (site.output / folders_of(site)[0] / "data.json").unlink()
    found = await site.bulkdl("verify", "--format", "json")
    assert found.code == 6
    assert {Path(each["key"]).name for each in found.document["findings"]} >= {"data.json"}
    again = await run(site, "--unpack", "replace")
    assert again["downloaded_bytes"] > 0
    assert (folders_of(site)[0] / "data.json").exists()
    assert archives_of(site) == []
    assert (await site.bulkdl("verify", "--deep")).code == 0


async def test_unpack_command_with_replace_deletes_the_archives_of_selected_jobs(site: Any) -> None:
    await run(site)
    jobs = {path.parent for path in site.output.glob("*/*/final_output.*") if path.suffix != ".json"}
    job = min(jobs)
    kept = [path for path in archives_of(site) if job not in path.parents]
    assert (await site.bulkdl("unpack", "-q", "--replace", "--job", job.name)).code == 0
    assert archives_of(site) == kept
    assert (await run(site))["downloaded_bytes"] == 0


async def test_run_with_replace_keeps_an_archive_that_cannot_be_unpacked(site: Any) -> None:
    await run(site)
    damaged = next(path for path in archives_of(site) if path.parent.parent.parent.parent == site.output)
    damaged.write_bytes(damaged.read_bytes()[:-40].ljust(damaged.stat().st_size, b"\0"))
    ended = await site.bulkdl("run", "-q", "--unpack", "replace")
    assert ended.code == 6
    assert damaged in archives_of(site)


def remove_ledger(site: FilledDirectory) -> None:
    for path in site.output.glob(".bulkdl/ledger.sqlite3*"):
        path.unlink()


async def rebuild(site: FilledDirectory) -> Any:
    return await site.bulkdl("verify", "--rebuild", "--format", "json", "--log-format", "json")


async def test_rebuild_restores_deleted_archives_and_their_members(site: Any) -> None:
    await run(site, "--unpack", "replace")
    files = sorted(path for path in site.output.rglob("*") if ".bulkdl" not in path.parts)
    before = (await site.bulkdl("status", "--format", "json")).document
    remove_ledger(site)
    rebuilt = await rebuild(site)
    assert (rebuilt.code, rebuilt.document["untracked_total"]) == (0, 0), rebuilt
    after = (await site.bulkdl("status", "--format", "json")).document
    assert after["derived"] == before["derived"]
    assert (await site.bulkdl("verify", "--deep")).code == 0
    for options in (["--unpack", "replace"], ["--unpack", "keep"], []):
        again = await run(site, *options)
        assert (again["downloaded_bytes"], again["outputs"]["completed"]) == (0, 0)
    assert archives_of(site) == []
    assert sorted(path for path in site.output.rglob("*") if ".bulkdl" not in path.parts) == files


async def test_rebuild_restores_the_members_of_archives_that_are_there(site: Any) -> None:
    await run(site, "--unpack", "keep")
    remove_ledger(site)
    rebuilt = await rebuild(site)
    assert (rebuilt.code, rebuilt.document["untracked_total"]) == (0, 0), rebuilt
    assert (await site.bulkdl("verify", "--deep")).code == 0
    assert (await run(site, "--unpack", "keep"))["downloaded_bytes"] == 0


async def test_rebuild_reports_a_damaged_member_and_a_run_downloads_its_archive(site: Any) -> None:
    await run(site, "--unpack", "replace")
    remove_ledger(site)
    member = folders_of(site)[0] / "data.json"
    content = member.read_bytes()
    member.write_bytes(b" " * len(content))
    rebuilt = await rebuild(site)
    assert rebuilt.code == 6, rebuilt
    (finding,) = rebuilt.document["findings"]
    assert (finding["key"], finding["state"]) == (member.relative_to(site.output).as_posix(), "damaged")
    assert "checksum mismatch" in finding["detail"]
    again = await run(site, "--unpack", "replace")
    assert 0 < again["outputs"]["completed"] <= 2
    assert member.read_bytes() == content
    assert archives_of(site) == []
    assert (await site.bulkdl("verify", "--deep")).code == 0


async def test_rebuild_without_manifests_lets_a_run_download_the_archives_again(site: Any) -> None:
    await run(site, "--unpack", "replace")
    folders = folders_of(site)
    shutil.rmtree(site.output / ".bulkdl")
    rebuilt = await rebuild(site)
    assert rebuilt.code == 0, rebuilt
    warned = {event["key"] for event in rebuilt.events if event["event"] == "archive.not_restored"}
    assert len(warned) == len(folders)
    assert rebuilt.document["untracked_total"] > len(folders)
    again = await run(site, "--unpack", "replace")
    assert again["outputs"]["completed"] >= len(folders)
    assert folders_of(site) == folders
    assert archives_of(site) == []
    assert (await site.bulkdl("verify", "--deep")).code == 0

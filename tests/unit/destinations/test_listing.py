import os

import pytest

from bulkdl.destinations.interfaces import NotAnObjectError
from bulkdl.destinations.local.listing import iter_files, open_regular
from bulkdl.settings.path_templates import PathTemplates
from bulkdl.sources.interfaces import SourceLayout
from bulkdl.sources.path_matcher import PathMatcher
from bulkdl.sources.up42_jobs.source import SOURCE_TYPE

TEMPLATES = PathTemplates()


def list_keys(root, templates=TEMPLATES):
    can_contain = PathMatcher([SourceLayout(SOURCE_TYPE, dict(templates))]).can_be_folder
    return [info.key for info in iter_files(root, can_contain, root / ".bulkdl")]


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def test_iter_files_lists_the_files_of_a_folder_before_its_subfolders(tmp_path):
    for name in (
        "b",
        "a/y/deep/z",
        "a/x",
        ".bulkdl/ledger.sqlite3",
        "shard/.bulkdl/ledger.sqlite3",
        "shard/k",
    ):
        put(tmp_path / name)
    assert list_keys(tmp_path) == ["b", "a/x", "a/y/deep/z"]


def test_iter_files_follows_links_to_folders_of_the_templates(tmp_path):
    root, disk = tmp_path / "out", tmp_path / "disk"
    put(disk / "job" / "task" / "quicklooks" / "a.jpg")
    put(disk / "job" / "job.json")
    root.mkdir()
    (root / "project").symlink_to(disk)
    (root / "other").mkdir()
    (root / "other" / "job").symlink_to(disk / "job")
    assert list_keys(root) == [
        "other/job/job.json",
        "other/job/task/quicklooks/a.jpg",
        "project/job/job.json",
        "project/job/task/quicklooks/a.jpg",
    ]


def test_iter_files_does_not_follow_other_links(tmp_path):
    root, disk = tmp_path / "out", tmp_path / "disk"
    put(disk / "a" / "b" / "c" / "d" / "deep")
    put(disk / "a" / "b" / "with space" / "x")
    put(root / "real" / "with space" / "x")
    (root / "not an id").symlink_to(disk)
    (root / "real" / "with space" / "link").symlink_to(disk)
    (root / "project").symlink_to(disk)
    (root / "dangling").symlink_to(disk / "nothing")
    assert list_keys(root) == ["dangling", "real/with space/x"]


@pytest.mark.parametrize("target", ["out", "out/project", "out/project/job"])
def test_iter_files_ends_in_a_loop_of_links(tmp_path, target):
    root = tmp_path / "out"
    put(root / "project" / "job" / "job.json")
    (root / "project" / "loop").symlink_to(tmp_path / target)
    (root / "project" / "job" / "loop").symlink_to(tmp_path / target)
    keys = list_keys(root)
    assert keys[0] == "project/job/job.json"
    assert len(keys) <= 2
    assert not any(key.count("loop") > 1 for key in keys)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every folder")
def test_iter_files_skips_an_unreadable_folder(tmp_path):
    put(tmp_path / "closed" / "a")
    (tmp_path / "closed").chmod(0)
    assert list_keys(tmp_path) == []


def test_open_regular_of_a_fifo_is_an_error(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(NotAnObjectError, match="not a regular file"), open_regular(tmp_path / "fifo"):
        pass

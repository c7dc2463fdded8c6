"""The image: its configuration, its files and its permissions."""

from __future__ import annotations

import asyncio
import json
import signal
import tarfile
from pathlib import Path

import pytest

from bulkdl.simulator import SimulatedAccount, Simulator
from support.container_engine import CANARY, IMAGE, ROOT, TOOLS, Engine, called

MIB = 1024 * 1024


def test_hadolint_has_nothing_to_say():
    done = called(TOOLS / "hadolint", "--no-color", "Dockerfile", check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_no_part_of_this_machine_is_written_down():
    for name in ("Dockerfile", ".dockerignore", "requirements-runtime.lock", "requirements-build.lock"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "://" not in text, name
        assert "index-url" not in text, name


def test_image_starts_bulkdl_as_an_unprivileged_user(engine):
    config = engine.inspect(IMAGE)["Config"]
    # The exec form, because a shell would receive SIGTERM instead of bulkdl.
    assert config["Entrypoint"] == ["bulkdl"]
    user, _, group = config["User"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    variables = dict(entry.split("=", 1) for entry in config["Env"])
    assert variables["BULKDL_OUTPUT"] == "/data"
    assert variables["PYTHONDONTWRITEBYTECODE"] == "1"
    assert not [name for name in variables if name.startswith("PIP_")]


def test_its_labels_say_what_it_is(engine):
    labels = engine.inspect(IMAGE)["Config"]["Labels"]
    at_head = called("git", "rev-parse", "HEAD").stdout.strip()
    assert labels["org.opencontainers.image.revision"] == at_head
    assert labels["org.opencontainers.image.version"] != "0"
    for name in ("title", "description", "licenses"):
        assert labels[f"org.opencontainers.image.{name}"]


def test_it_adds_little_to_its_base(engine):
    added = engine.inspect(IMAGE)["Size"] - engine.inspect(engine.base)["Size"]
    assert added < 90 * MIB


@pytest.fixture(scope="module")
def layers(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the files of every layer, including files that a later layer hides."""
    folder = tmp_path_factory.mktemp("layers")
    engine("save", "--output", str(folder / "image.tar"), IMAGE)
    with tarfile.open(folder / "image.tar") as archive:
        archive.extractall(folder / "image", filter="data")
    (folder / "image.tar").unlink()
    return folder / "image"


def members(layers: Path) -> list[str]:
    names: list[str] = []
    for path in sorted(layers.rglob("*")):
        if path.is_file() and tarfile.is_tarfile(path):
            with tarfile.open(path) as layer:
                names += layer.getnames()
    return names


def test_no_secret_of_the_build_is_in_any_layer(layers):
    canary = CANARY.encode()
    files = [path for path in layers.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if canary in path.read_bytes()]
    assert not [name for name in members(layers) if name.endswith(("/pip.conf", "/ca-bundle"))]


def test_nothing_to_build_or_test_with_is_in_it(layers):
    ours = [name for name in members(layers) if name.startswith("opt/bulkdl/lib")]
    packages = {name.split("site-packages/")[1].split("/")[0] for name in ours if "site-packages/" in name}
    assert {"bulkdl", "aiohttp", "PIL"} <= packages
    assert not packages & {"pip", "setuptools", "hatchling", "pytest", "mypy", "rasterio", "hypothesis"}


def test_every_module_is_compiled(layers):
    names = set(members(layers))
    ours = [name for name in names if "site-packages/bulkdl/" in name and name.endswith(".py")]
    assert ours
    for name in ours:
        folder, _, module = name.rpartition("/")
        stem = module.removesuffix(".py")
        assert any(other.startswith(f"{folder}/__pycache__/{stem}.cpython-") for other in names), name


def test_the_demo_runs_read_only_with_one_volume_and_finds_all_there_the_second_time(containers, volume):
    first = containers.run(volume, "demo", "-o", "/data", "--format", "json")
    assert first.returncode == 0, first.stderr[-3000:]
    second = containers.run(volume, "demo", "-o", "/data", "--format", "json")
    assert second.returncode == 0, second.stderr[-3000:]
    assert json.loads(first.stdout)["downloaded_bytes"] > 0
    assert json.loads(second.stdout)["downloaded_bytes"] == 0


def test_without_a_volume_that_it_may_write_to_it_says_so(containers, tmp_path):
    tmp_path.chmod(0o755)
    done = containers.run(str(tmp_path), "demo", "-o", "/data")
    assert done.returncode == 2, done.stderr[-3000:]
    assert "/data" in done.stderr
    assert list(tmp_path.iterdir()) == []


async def test_sigterm_in_the_middle_is_143_and_the_next_container_fetches_little_again(containers, tmp_path):
    """A bind mount allows counting the files during the run."""
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o777)
    # So large that a running download cannot finish within the shutdown timeout.
    account = SimulatedAccount(seed=7, projects=1, jobs=6, archive_bytes=(24 * MIB, 32 * MIB))
    async with Simulator(account) as simulator:
        env = {
            "UP42_PROJECT_ID": simulator.projects[0].id,
            "UP42_PROJECT_API_KEY": simulator.projects[0].api_key,
            "BULKDL_API_URL": simulator.api_url,
        }
        slow = {**env, "BULKDL_BWLIMIT": "12M", "BULKDL_SHUTDOWN_TIMEOUT": "1s"}
        arguments = containers.arguments(str(data), "--detach", IMAGE, "run", env=slow)
        name = (await off_loop(containers, *arguments)).strip()
        while stored_bytes(data) < 40 * MIB:
            state = await off_loop(containers, "inspect", "--format={{.State.Running}}", name)
            assert state.strip() == "true", await off_loop(containers, "logs", name)
        await off_loop(containers, "kill", f"--signal={signal.SIGTERM.name}", name)
        exit_code = int(await off_loop(containers, "wait", name))
        logs = await off_loop(containers, "logs", name)
        assert exit_code == 143, logs[-3000:]
        requests_before = len(simulator.requests)
        kept = stored_bytes(data)
        assert kept > archive_bytes(data), "nothing was in the middle"

        arguments = containers.arguments(str(data), IMAGE, "run", env=env)
        await off_loop(containers, *arguments)
        storage = [seen for seen in list(simulator.requests)[requests_before:] if seen.server == "storage"]
        downloaded = sum(seen.sent_bytes for seen in storage)
    expected = archive_bytes(data)
    again = kept + downloaded - expected
    assert expected * 0.1 < kept < expected * 0.9
    assert any(seen.status == 206 for seen in storage)
    assert again < expected * 0.05, f"kept {kept:,}, then downloaded {downloaded:,} of {expected:,}"


async def off_loop(engine: Engine, *args: str) -> str:
    """Run the engine in a thread, because the simulator runs in this one."""
    done = await asyncio.to_thread(engine, *args)
    return done.stdout + done.stderr if args[0] == "logs" else done.stdout


def archive_bytes(data: Path) -> int:
    """Count each archive once: the archive of a job is a link to that of its last task."""
    sizes = {
        path.stat().st_ino: path.stat().st_size for path in data.glob("*/**/*_output.*") if is_archive(path)
    }
    return sum(sizes.values())


def is_archive(path: Path) -> bool:
    return path.name.endswith((".tar.gz", ".tar", ".zip"))


def stored_bytes(data: Path) -> int:
    """Return the bytes of the archives and of the partial files."""
    parts = data / ".bulkdl" / "parts"
    partial = sum(path.stat().st_size for path in parts.rglob("*") if path.is_file()) if parts.is_dir() else 0
    return archive_bytes(data) + partial

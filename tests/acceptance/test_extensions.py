"""The examples of docs/extending.md work when they are installed as separate distributions."""

import asyncio
import hashlib
import json
import os
import runpy
import shutil
import site
import sqlite3
import subprocess
import sys
import sysconfig
import threading
import venv
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bulkdl.simulator import SimulatedAccount, Simulator
from support.processor_distributions import build_wheel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # builds wheels and an environment

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
MAX_LINES = 80
ACCOUNT = SimulatedAccount(projects=1, jobs=4, archive_bytes=(2000, 5000))
FILES = {
    "first/a.json": b'{"a": 1}',
    "first/table.csv": b"a,b\n1,2\n",
    "second/ünï & co.json": b"[]",
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of a new environment with bulkdl and the three examples."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    interpreter = folder / "bin" / "python"
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    # The dependencies of bulkdl are those of this environment: a test needs no network.
    (packages / "dependencies.pth").write_text(
        f"import site; site.addsitedir({site.getsitepackages()[0]!r})\n"
    )
    wheels = [build_wheel(project, folder / "wheels" / project.name) for project in (ROOT, *examples())]
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(interpreter),
        "install",
        "--no-index",
        "--no-deps",
    ]
    subprocess.run([*command, "--quiet", "--ignore-installed", *wheels], check=True)
    return interpreter


def examples() -> list[Path]:
    return sorted(path.parent for path in EXAMPLES.glob("*/pyproject.toml"))


async def bulkdl(python: Path, *args: object, **variables: str) -> tuple[int, str]:
    """Run the command line of the new environment; return its exit code and stdout."""
    hidden = ("BULKDL_", "UP42_", "PYTHON")
    env = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    process = await asyncio.create_subprocess_exec(
        *(str(python), "-m", "bulkdl", *map(str, args)),
        env={**env, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    assert b"Traceback" not in err, err.decode()
    return process.returncode or 0, out.decode() + err.decode()


def credentials(simulator: Simulator) -> dict[str, str]:
    (project,) = simulator.projects
    return {
        "UP42_PROJECT_ID": project.id,
        "UP42_PROJECT_API_KEY": project.api_key,
        "BULKDL_API_URL": simulator.api_url,
    }


@pytest.mark.parametrize("project", examples(), ids=lambda project: project.name)
def test_example_is_short(project: Path) -> None:
    (module,) = project.glob("*.py")
    assert len(module.read_text("utf-8").splitlines()) <= MAX_LINES


def test_extending_page_contains_the_current_examples() -> None:
    generator = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    page = (ROOT / "docs" / "extending.md").read_text("utf-8")
    assert page == generator["extending_page"](), "stale: run make docs"
    assert page.count("```python") == len(examples()) + 1


async def test_environment_imports_the_installed_distributions(python: Path) -> None:
    modules = ("bulkdl", "bulkdl_directories", "bulkdl_sqlite", "bulkdl_checksums")
    program = f"import {', '.join(modules)}; print({', '.join(f'{name}.__file__' for name in modules)})"
    result = await asyncio.to_thread(
        subprocess.run, [python, "-I", "-c", program], check=True, capture_output=True, text=True
    )
    assert all(str(python.parents[1]) in path for path in result.stdout.split())


@pytest.fixture
def site_url(tmp_path: Path) -> Iterator[str]:
    """Serve FILES with a plain HTTP server."""
    root = tmp_path / "site"
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_arguments: object) -> None:
            """Write nothing to stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


async def test_source_example_downloads_all_files(python: Path, tmp_path: Path, site_url: str) -> None:
    config = tmp_path / "bulkdl.toml"
    config.write_text(
        f'source = "directories"\napi_url = "{site_url}"\n[source_settings.directories]\nurl = "{site_url}"\n'
    )
    args = ("-c", config, "-o", tmp_path / "out")
    code, out = await bulkdl(python, "plan", *args, "--only", "file")
    assert code == 0, out
    code, out = await bulkdl(python, "run", *args)
    assert code == 0, out
    folder = tmp_path / "out" / "127-0-0-1"
    assert (folder / "first" / "a.json").read_bytes() == FILES["first/a.json"]
    assert sorted(path.read_bytes() for path in folder.glob("*/*")) == sorted(FILES.values())
    code, out = await bulkdl(python, "run", *args, "--format", "json")
    summary = json.loads(out[out.index("{") : out.rindex("}") + 1].splitlines()[0])
    assert (code, summary["downloaded_bytes"], summary["containers"]["up_to_date"]) == (0, 0, 2)
    code, out = await bulkdl(python, "verify", "--deep", "-o", tmp_path / "out")
    assert code == 0, out
    shutil.rmtree(tmp_path / "out" / ".bulkdl")
    code, out = await bulkdl(python, "verify", "--rebuild", "-o", tmp_path / "out")
    assert code == 0, out
    code, out = await bulkdl(python, "status", "-o", tmp_path / "out", "--format", "json")
    assert json.loads(out)["counts"][0]["outputs"] == len(FILES)


async def test_destination_example_stores_all_outputs_in_one_file(python: Path, tmp_path: Path) -> None:
    args = ("-o", f"sqlite://{tmp_path}/out.sqlite", "--state", tmp_path / "state")
    async with Simulator(ACCOUNT) as simulator:
        code, out = await bulkdl(python, "run", *args, **credentials(simulator))
        assert code == 0, out
        expected = sum(1 for _ in simulator.expected_outputs())
    connection = sqlite3.connect(tmp_path / "out.sqlite")
    keys = [key for (key,) in connection.execute("SELECT key FROM objects")]
    connection.close()
    documents = [key for key in keys if key.endswith(("job.json", "job_tasks.json", "task_quicklook.json"))]
    assert len(keys) - len(documents) == expected
    code, out = await bulkdl(python, "verify", "--deep", *args)
    assert code == 0, out


async def test_destination_without_folders_refuses_to_unpack_before_the_first_request(
    python: Path, tmp_path: Path
) -> None:
    output = f"sqlite://{tmp_path}/out.sqlite"
    async with Simulator(ACCOUNT) as simulator:
        code, out = await bulkdl(
            *(python, "run", "-o", output, "--state", tmp_path / "state", "--unpack", "keep"),
            **credentials(simulator),
        )
        assert list(simulator.requests) == []
    assert code == 2
    assert out.strip() == (
        f"bulkdl: --output {output}: the processor unpack requires folders, which this destination does not "
        "have; choose a local directory"
    )


async def test_derived_files_are_published_to_a_destination_without_folders(
    python: Path, tmp_path: Path
) -> None:
    args = ("-o", f"sqlite://{tmp_path}/out.sqlite", "--state", tmp_path / "state")
    async with Simulator(ACCOUNT) as simulator:
        code, out = await bulkdl(python, "run", *args, "--processor", "checksums", **credentials(simulator))
        assert code == 0, out
    connection = sqlite3.connect(tmp_path / "out.sqlite")
    stored = dict(connection.execute("SELECT key, content FROM objects"))
    connection.close()
    derived = {key: content for key, content in stored.items() if key.endswith(".sha256")}
    assert derived
    for key, content in derived.items():
        original = stored[key.removesuffix(".sha256")]
        assert content.split()[0].decode() == hashlib.sha256(original).hexdigest()


async def test_processor_example_writes_a_checksum_file_for_each_output(python: Path, tmp_path: Path) -> None:
    async with Simulator(ACCOUNT) as simulator:
        code, out = await bulkdl(
            python, "run", "-o", tmp_path / "out", "--processor", "checksums", **credentials(simulator)
        )
    assert code == 0, out
    checksums = sorted((tmp_path / "out").rglob("*.sha256"))
    assert checksums
    for path in checksums:
        await asyncio.to_thread(
            subprocess.run, ["sha256sum", "--check", "--quiet", path.name], cwd=path.parent, check=True
        )


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("-o", "s4://bucket"), ("s4", "sqlite")),
        (("--processor", "unknown"), ("--processor", "unknown", "checksums")),
        (("--source", "unknown"), ("--source", "unknown", "directories")),
    ],
)
async def test_unknown_extension_is_reported_with_the_installed_ones(
    python: Path, tmp_path: Path, args: tuple[str, ...], words: tuple[str, ...]
) -> None:
    code, out = await bulkdl(python, "run", "-o", tmp_path / "out", *args, UP42_TOKEN="t")
    assert code == 2
    assert all(word in out for word in words), out
    assert len(out.strip().splitlines()) == 1

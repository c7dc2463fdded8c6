"""
The archives that ``make dist`` builds, installed without the repository.

Each extra is installed into a new environment, with the oldest and the newest Python that is installed here.
DIST_PYTHONS selects other interpreters.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXTRAS = ("simulator", "objectstore", "fast", "geoparquet")
MIN_MINOR, MAX_MINOR = 11, 20


def find_pythons() -> list[str]:
    """Return the oldest and the newest interpreter that bulkdl supports."""
    if chosen := os.environ.get("DIST_PYTHONS"):
        return chosen.split()
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = []
    for minor in range(MIN_MINOR, MAX_MINOR):
        name = f"python3.{minor}"
        candidates = [*sorted(map(str, pyenv.glob(f"versions/3.{minor}.*/bin/{name}"))), shutil.which(name)]
        found += [path for path in candidates if path and is_working(path)][:1]
    return [found[0], found[-1]] if len(found) > 1 else found or [sys.executable]


def is_working(python: str) -> bool:
    return subprocess.run([python, "-c", "import venv"], capture_output=True, check=False).returncode == 0


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Return stdout and stderr of *command*, which does not see the repository."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("BULKDL_", "UP42_", "PYTHON"))}
    done = subprocess.run(command, cwd=cwd, env=kept | env, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


@pytest.fixture(scope="session")
def wheel() -> Path:
    (path,) = (ROOT / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="session")
def sdist() -> Path:
    (path,) = (ROOT / "dist").glob("*.tar.gz")
    return path


def build(source: Path, target: Path, kind: str) -> bytes:
    """Build with hatchling, which the environment of the tests contains."""
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", target, cwd=source, SOURCE_DATE_EPOCH="1767225600")
    (archive,) = (path for path in target.iterdir() if path.suffix in (".whl", ".gz"))
    return archive.read_bytes()


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_dist_built_twice_has_the_same_bytes(tmp_path: Path, kind: str) -> None:
    assert build(ROOT, tmp_path / "1", kind) == build(ROOT, tmp_path / "2", kind)


def test_wheel_of_the_sdist_contains_the_same_files(tmp_path: Path, sdist: Path, wheel: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    build(source, tmp_path / "built", "wheel")
    (built,) = (tmp_path / "built").iterdir()
    with zipfile.ZipFile(built) as one, zipfile.ZipFile(wheel) as other:
        assert read_files(one) == read_files(other)


def read_files(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """Return all files of a wheel except RECORD, whose lines have the order in which the files were added."""
    return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}


def test_wheel_contains_only_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"bulkdl"}
    assert {"bulkdl/py.typed", "bulkdl/ledger/schema.sql"} <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("python", find_pythons())
@pytest.mark.parametrize("extra", EXTRAS)
def test_wheel_in_a_new_environment_downloads_the_demo(
    tmp_path: Path, wheel: Path, python: str, extra: str
) -> None:
    environment = tmp_path / "environment"
    run(python, "-m", "venv", environment, cwd=tmp_path)
    extras = ",".join(sorted({"simulator", extra}))  # the demo needs the simulator
    command = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:")
    run(environment / "bin" / "python", *command, f"{wheel}[{extras}]", cwd=tmp_path)
    bulkdl = environment / "bin" / "bulkdl"
    expected = ["bulkdl", read_version(), f"({read_revision(wheel)})"]
    assert run(bulkdl, "--version", cwd=tmp_path).split() == expected
    run(bulkdl, "demo", "-o", "demo", "--catalog", "--unpack", "keep", cwd=tmp_path)
    assert len(list((tmp_path / "demo").rglob("*.tar.gz"))) > 10
    assert (tmp_path / "demo" / "catalog" / "items.parquet").exists() == (extra == "geoparquet")
    run(bulkdl, "verify", "-o", "demo", "--deep", cwd=tmp_path)


def read_revision(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        revision = archive.read("bulkdl/cli/_revision.py").decode().split('"')[1]
    assert re.fullmatch("[0-9a-f]{12}", revision)
    return revision


def read_version() -> str:
    line = next(line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("version"))
    return line.split('"')[1]

import subprocess
import sys
from pathlib import Path

import pytest

import bulkdl
from bulkdl import errors

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", bulkdl.__all__)
def test_public_name_when_imported_is_defined(name):
    assert getattr(bulkdl, name) is not None


def test_public_names_include_every_error():
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert classes <= set(bulkdl.__all__)


def test_package_attribute_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'bulkdl' has no attribute 'Downlaoder'"):
        bulkdl.Downlaoder  # noqa: B018


def test_import_bulkdl_does_not_load_its_modules():
    program = "import sys, bulkdl; print([name for name in sys.modules if name.startswith('bulkdl.')])"
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


def test_command_run_does_not_load_the_catalogue():
    program = "import sys, bulkdl.cli.run; print([name for name in sys.modules if '.catalog' in name])"
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


TYPED_PROGRAMS = (
    ROOT / "tests/unit/public_api_example.py",
    ROOT / "docs/examples/checksum_processor/bulkdl_checksums.py",
)


# Without a cache, mypy needs about 20 s on two busy cores.
@pytest.mark.timeout(300)
def test_program_that_uses_the_public_api_passes_mypy():
    command = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", "--no-error-summary"]
    result = subprocess.run(
        [*command, *TYPED_PROGRAMS],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (result.stdout, result.returncode) == ("", 0)

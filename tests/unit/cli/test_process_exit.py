"""The end of the process: obstore aborts an interpreter that finalizes while its threads still report."""

import subprocess
import sys

import pytest

MAIN = """
import atexit, sys
{imports}
atexit.register(print, "finalized")
sys.argv = ["bulkdl", {argument!r}]
from bulkdl.cli import main
main()
"""


@pytest.mark.parametrize(("argument", "exit_code"), [("--version", 0), ("--invalid", 2)])
@pytest.mark.parametrize("imports", ["", "import obstore"])
def test_main_skips_the_finalization_only_if_obstore_is_loaded(imports, argument, exit_code):
    code = MAIN.format(imports=imports, argument=argument)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == exit_code
    assert ("finalized" in ended.stdout) == (not imports)
    assert ("bulkdl 0" in ended.stdout) == (exit_code == 0), "the output is incomplete"
    assert ("--invalid" in ended.stderr) == (exit_code == 2)

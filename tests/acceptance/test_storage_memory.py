"""The memory of a plan does not grow with the account. The simulator and bulkdl are processes."""

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager

import pytest

from support.environment import clear_environment
from support.filled_directory import ROOT

FEW, MANY = 3_000, 15_000
MAX_GROWTH_KIB = 8_000
# The peak is read from /proc: that of the operating system includes the process that started this one.
PLAN = """
import atexit, pathlib, sys
from bulkdl.cli import main
status, folder = pathlib.Path("/proc/self/status"), pathlib.Path(sys.argv.pop(1))
atexit.register(lambda: folder.joinpath("status").write_text(status.read_text()))
sys.exit(main())
"""


@contextmanager
def simulator(assets):
    command = [sys.executable, "-m", "bulkdl", "simulate", "--assets", str(assets)]
    command += ["--items", "1", "--item-assets", "4"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


def plan(folder, assets):
    """Return the plan of an account with *assets* originals, and the peak memory of the process."""
    folder.mkdir()
    env = dict(os.environ)
    clear_environment(env)
    with simulator(assets) as line:
        env |= {
            "PYTHONPATH": str(ROOT),
            "UP42_USERNAME": line["account"]["username"],
            "UP42_PASSWORD": line["account"]["password"],
            "BULKDL_API_URL": line["api_url"],
            "BULKDL_RATE": "0",
        }
        command = [sys.executable, "-c", PLAN, str(folder), "plan", "-o", "out", "--format", "json"]
        done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=True)
    (peak_kib,) = re.findall(r"VmHWM:\s+([0-9]+) kB", (folder / "status").read_text())
    return json.loads(done.stdout), int(peak_kib)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_plan_memory_does_not_grow_with_the_account(tmp_path):
    small, small_kib = plan(tmp_path / "small", FEW)
    large, large_kib = plan(tmp_path / "large", MANY)
    assert large["to_download"]["original"] > MANY > FEW
    assert large["outputs_total"] > 4 * small["outputs_total"]
    assert large_kib - small_kib < MAX_GROWTH_KIB, (small_kib, large_kib)
    assert large_kib < 110_000, "the limit of a million item assets is 200 MiB"

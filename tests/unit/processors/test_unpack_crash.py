"""A killed unpacking leaves the old folder or the new one, and the next run completes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", ["create", "replace", "download"])
def test_unpack_killed_at_each_step_is_completed_by_the_next_run(tmp_path: Path, scenario: str) -> None:
    completed = subprocess.run(
        [sys.executable, TESTS / "support/unpack_crash.py", scenario, tmp_path],
        env={**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr[-3000:]
    assert int(completed.stdout) > 40

"""Run ``bulkdl run`` as a process against an origin that shares no code with the simulator."""

import os
import subprocess
import sys
from pathlib import Path

from support.environment import clear_environment

ROOT = Path(__file__).parents[2]


def run_against(api_url: str, root: Path, *flags: str, **env: str) -> tuple[int, str]:
    """Return the exit code, and stderr followed by stdout. *env* contains the credentials."""
    kept = dict(os.environ)
    clear_environment(kept)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bulkdl", "run", "-o", str(root), "--api-url", api_url, "-q"),
            *("--speed-time", "1", "--rate", "0", *flags),
        ],
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
        env={
            **kept,
            "BULKDL_RETRY_BASE_DELAY": "0.01",
            "BULKDL_RETRY_MAX_DELAY": "0.05",
            "PYTHONPATH": str(ROOT),
            **env,
        },
    )
    return done.returncode, done.stderr + done.stdout

"""Start ``bulkdl run`` as a process against the simulator of a fault run."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from bulkdl.simulator import Simulator
from support.fault_runs import RunEnvironment

ROOT = Path(__file__).resolve().parents[2]
# The second folder has a sitecustomize module that limits the receive buffers.
PROCESS_PATH = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support" / "process_site")])


def project_key(simulator: Simulator) -> dict[str, str]:
    """Return the variables with the credentials of the only project."""
    (project,) = simulator.projects
    return {"UP42_PROJECT_ID": project.id, "UP42_PROJECT_API_KEY": project.api_key}


async def start_run(environment: RunEnvironment, *args: str, **env: str) -> Process:
    """Start ``bulkdl run`` on the directory of *environment*. Variables in *env* have priority."""
    return await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "bulkdl",
            "run",
            "-o",
            str(environment.root),
            "--api-url",
            environment.simulator.api_url,
        ),
        *("-q", *args),
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "PYTHONPATH": PROCESS_PATH, **project_key(environment.simulator), **env},
    )


async def wait_for_run(process: Process) -> tuple[int, str]:
    """Return the exit code, and stderr followed by stdout."""
    out, log = await process.communicate()
    assert process.returncode is not None
    return process.returncode, log.decode() + out.decode()

"""Run the command line as a process against a simulator in the test process."""

import asyncio
import json
import os
import sys
from pathlib import Path

from bulkdl.simulator import Simulator

ROOT = Path(__file__).resolve().parents[2]


class ProcessResult:
    """Exit code and output of a process."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __repr__(self):
        return f"exit code {self.code}\n{self.out}\n{self.err}"

    @property
    def document(self):
        return json.loads(self.out)

    @property
    def events(self):
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]


class FilledDirectory:
    """An output directory and the simulator that it is filled from."""

    def __init__(self, folder: Path, simulator: Simulator) -> None:
        self.folder, self.simulator = folder, simulator
        self.output = folder / "out"
        config = [
            f'[[projects]]\nid = "{project.id}"\napi_key_env = "KEY"\n' for project in simulator.projects[:1]
        ]
        (folder / "bulkdl.toml").write_text("\n".join(config))
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("BULKDL_", "UP42_"))}
        self.env = {
            **kept,
            "PYTHONPATH": str(ROOT),
            "KEY": simulator.projects[0].api_key,
            "BULKDL_API_URL": simulator.api_url,
            "BULKDL_CONFIG": str(folder / "bulkdl.toml"),
            "BULKDL_OUTPUT": str(self.output),
        }

    async def start(self, *args, **env):
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "bulkdl", *args),
            cwd=self.folder,
            env={**self.env, **env},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def bulkdl(self, *args, **env) -> ProcessResult:
        process = await self.start(*args, **env)
        async with asyncio.timeout(60):
            out, err = await process.communicate()
        return ProcessResult(process.returncode, out.decode(), err.decode())

    def file(self, pattern):
        return min(path for path in self.output.glob(pattern) if ".bulkdl" not in path.parts)

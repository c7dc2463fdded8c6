"""Run the command line as a process against the storage of a simulated account."""

import asyncio
import json
import os
import sys
from collections import Counter
from pathlib import Path

from bulkdl.simulator import Simulator
from support.environment import clear_environment
from support.filled_directory import ROOT, ProcessResult

LISTS = ("assets", "collections", "processing_jobs", "orders")


class StorageAccount:
    """An output directory and the simulated account that it is filled from."""

    def __init__(self, folder: Path, simulator: Simulator) -> None:
        self.folder, self.simulator = folder, simulator
        self.output = folder / "out"
        username, password = simulator.account_credentials
        self.env = dict(os.environ)
        clear_environment(self.env)
        self.env |= {
            "PYTHONPATH": str(ROOT),
            "UP42_USERNAME": username,
            "UP42_PASSWORD": password,
            "BULKDL_API_URL": simulator.api_url,
            "BULKDL_OUTPUT": str(self.output),
            "BULKDL_RATE": "0",
            "BULKDL_RETRY_BASE_DELAY": "10ms",
            "BULKDL_RETRY_MAX_DELAY": "100ms",
        }

    async def bulkdl(self, *args: str, **env: str) -> ProcessResult:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "bulkdl", *args),
            cwd=self.folder,
            env={**self.env, **env},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(80):
            out, err = await process.communicate()
        return ProcessResult(process.returncode, out.decode(), err.decode())

    async def run(self, *args: str, **env: str) -> ProcessResult:
        return await self.bulkdl("run", "--format", "json", "--log-format", "json", *args, **env)

    def count_requests(self) -> Counter:
        """Return the number of requests by endpoint, and forget them."""
        counts = Counter(record.endpoint for record in self.simulator.requests)
        self.simulator.requests.clear()
        return counts

    def files(self) -> list[Path]:
        return [path for path in self.output.rglob("*") if path.is_file() and ".bulkdl" not in path.parts]

    def missing_files(self, selected=lambda file: True) -> list[str]:
        """Return the selected expected files of which a place is missing or has other bytes."""
        contents = Counter(path.read_bytes() for path in self.files())
        expected = [file for file in self.simulator.expected_files() if selected(file)]
        return [file.name for file in expected if contents[file.read()] < len(file.places)]

    def read_report(self) -> dict:
        (path,) = self.output.glob(".bulkdl/runs/*.json")
        return json.loads(path.read_text())

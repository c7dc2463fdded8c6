"""
Run ``bulkdl serve`` for a time against an account that grows, with faults, kills, reloads and clock jumps.

``make soak DURATION=1h`` starts it. At the end it checks that nothing is lost or downloaded twice, that
memory and file descriptors did not grow, and that each run report is valid. It prints the result as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema

from bulkdl.report.run_report import schema
from bulkdl.settings.parsers import parse_duration
from bulkdl.simulator import Faults, SimulatedAccount, Simulator, SimulatorOptions, StorageOptions
from soak.service_process import Clock, Lifetime, ServiceProcess
from support.environment import clear_environment

ROOT = Path(__file__).parents[2]
DOCUMENTS = frozenset({"collection.json", "delivery.json", "item.json", "asset.json"})
PROBABILITY = 0.01
FAULTS: tuple[dict[str, Any], ...] = (
    *({"fault": name} for name in ("reset", "unauthorized", "revoke_tokens", "expire_urls", "url_expired")),
    *({"fault": name} for name in ("signature_mismatch", "xml_200", "html", "short", "ignore_range")),
    *({"fault": name} for name in ("truncated_json", "error_in_200", "no_length", "gzip_transcoded")),
    {"fault": "cut", "at_fraction": 0.5},
    {"fault": "flip", "at_fraction": 0.5, "server": "storage"},
    {"fault": "stall", "at_fraction": 0.3, "seconds": 3.0},
    {"fault": "latency", "seconds": 2.0},
    {"fault": "status", "status": 500},
    {"fault": "status", "status": 503},
    {"fault": "throttled", "retry_after": 1},
    {"fault": "down", "seconds": 1.0, "probability": 0.001},
)
# Growth within one process: caches of the interpreter, and the memory of the largest run.
MAX_GROWTH_KIB = 24 * 1024
MAX_NEW_DESCRIPTORS = 6
MIN_SAMPLES = 3
WARM_UP_RUNS = 5
RESTART_SHARE = 0.6  # of the duration
JUMPS_S = (3600, -3600, 86400 * 400, -86400 * 400, 0)


class Soak:
    """One soak in *folder*."""

    def __init__(self, folder: Path, simulator: Simulator, seed: int) -> None:
        self._folder, self._simulator = folder, simulator
        self._random = random.Random(seed)
        self._output = folder / "out"
        self.clock = Clock(folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}/"
        config = folder / "bulkdl.toml"
        config.write_text(
            'source = "storage"\nevery = "2s"\nrate = 0\nretry_max_delay = "2s"\nspeed_time = "2s"\n'
        )
        username, password = simulator.account_credentials
        env = dict(os.environ)
        clear_environment(env)
        env |= {"PYTHONPATH": str(ROOT), "UP42_USERNAME": username, "UP42_PASSWORD": password}
        env |= {"BULKDL_API_URL": simulator.api_url, "BULKDL_OUTPUT": str(self._output)}
        args = ["-c", str(config), "--listen", f"127.0.0.1:{port}", "--shutdown-timeout", "5s"]
        self.service = ServiceProcess(folder, args, {**env, **self.clock.env})
        self.actions: Counter[str] = Counter()

    async def status(self) -> dict[str, Any] | None:
        """Return the service part of the status page, or None while the service starts."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
                session.get(self._url + "status.json") as response,
            ):
                document: dict[str, Any] = (await response.json())["service"]
                return document
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def disturb(self, end_s: float) -> None:
        """Let the account grow, and disturb the service, until *end_s* by the monotonic clock."""
        actions: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (0.30, self._grow),
            (0.03, self._kill),
            (0.02, self._restart),
            (0.05, self._reload),
            (0.05, self._jump),
            (0.50, self._observe),
        ]
        started_s = time.monotonic()
        while (now_s := time.monotonic()) < end_s:
            if now_s - started_s > RESTART_SHARE * (end_s - started_s):  # the last process lives long
                actions = [each for each in actions if each[1] not in (self._kill, self._restart)]
            await asyncio.sleep(self._random.uniform(0.5, 2.0))
            assert self.service.is_alive(), "the service ended by itself; see serve.log"
            (action,) = self._random.choices([each for _, each in actions], [weight for weight, _ in actions])
            self.actions[action.__name__.strip("_")] += 1
            await action()

    async def _grow(self) -> None:
        self._simulator.add_assets(self._random.randint(1, 3))
        await self.send_event()

    async def send_event(self) -> None:
        """Send an event, as UP42 does. The service may not be listening."""
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
                await session.post(
                    self._url + "webhooks/up42", json={"messageId": str(self._random.random())}
                )
        except (aiohttp.ClientError, TimeoutError):
            self.actions["event not delivered"] += 1

    async def _kill(self) -> None:
        await self.service.end(signal.SIGKILL)
        await self.service.start()

    async def _restart(self) -> None:
        await self.service.end(signal.SIGTERM)
        await self.service.start()

    async def _reload(self) -> None:
        if await self.status() is not None:  # before its start, SIGHUP ends a process
            self.service.reload()

    async def _jump(self) -> None:
        self.clock.shift(self._random.choice(JUMPS_S))

    async def _observe(self) -> None:
        status = await self.status()
        if status is not None and status["state"] == "waiting":
            self.service.measure(status["runs_total"])

    async def finish(self) -> None:
        """Remove the faults, let the account settle, and wait for a run that finds nothing to download."""
        self._simulator.faults = None
        self.clock.shift(0)
        self._simulator.settle()
        async with asyncio.timeout(600):
            while True:
                await asyncio.sleep(1)
                status = await self.status()
                if status is None or not status["runs"]:
                    continue
                last = status["runs"][0]
                if last["exit_code"] == 0 and last["completed"] == 0 and self.missing() == Counter():
                    break
                await self.send_event()
        await self.service.end(signal.SIGTERM)

    def missing(self) -> Counter[str]:
        """Return the digests of expected files that are not on disk."""
        return self._expected() - self._present()

    def unexpected(self) -> Counter[str]:
        """
        Return the digests of files on disk that are not expected, or were downloaded twice.

        An original that got a collection later keeps its first name, as a hard link to the same file.
        """
        inodes = {path.stat().st_ino: path for path in self._paths()}
        return Counter(_digest(path.read_bytes()) for path in inodes.values()) - self._expected()

    def _expected(self) -> Counter[str]:
        files = self._simulator.expected_files()
        return _count_places(files)

    def _present(self) -> Counter[str]:
        return Counter(_digest(path.read_bytes()) for path in self._paths())

    def _paths(self) -> list[Path]:
        paths = (path for path in self._output.rglob("*") if path.is_file() and ".bulkdl" not in path.parts)
        return [path for path in paths if path.name not in DOCUMENTS]

    def reports(self) -> list[dict[str, Any]]:
        paths = sorted((self._output / ".bulkdl" / "runs").glob("*.json"))
        return [json.loads(path.read_text("utf-8")) for path in paths]


def _count_places(files: Any) -> Counter[str]:
    counts: Counter[str] = Counter()
    for file in files:
        counts[_digest(file.read())] += len(file.places)
    return counts


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def find_growth(service: ServiceProcess) -> list[str]:
    """
    Return the processes whose memory or file descriptors grew from their first to their last third.

    The number of idle connections differs between runs, so the smallest number of each third counts.
    """
    found = []
    for number, lifetime in enumerate(service.lifetimes):
        samples = [each for each in lifetime.samples if each.runs >= WARM_UP_RUNS]
        third = len(samples) // 3
        if third < MIN_SAMPLES:
            continue
        first, last = samples[:third], samples[-third:]
        for name, limit in (("rss_kib", MAX_GROWTH_KIB), ("descriptors", MAX_NEW_DESCRIPTORS)):
            before, after = (min(getattr(each, name) for each in part) for part in (first, last))
            if after - before > limit:
                found.append(f"process {number}: {name} grew from {before} to {after}")
    return found


def _describe(lifetime: Lifetime) -> dict[str, Any]:
    """Return the first and the last samples of a process."""
    samples = [asdict(sample) for sample in lifetime.samples]
    return {"samples": len(samples), "first": samples[:5], "last": samples[-5:]}


async def run(folder: Path, duration_s: float, seed: int) -> int:
    """Run the soak; return 0 if all checks pass."""
    account = SimulatedAccount(
        projects=1, jobs=0, storage=StorageOptions(assets=6, raster_bytes=(2_000, 400_000))
    )
    rules = Faults.from_rules(*({"probability": PROBABILITY, **rule} for rule in FAULTS))
    options = SimulatorOptions(token_lifetime_s=30, max_recorded_requests=0)
    async with Simulator(account, options, faults=rules) as simulator:
        soak = Soak(folder, simulator, seed)
        await soak.service.start()
        await soak.disturb(time.monotonic() + duration_s)
        await soak.finish()
        problems = [f"missing: {soak.missing().total()} files"] if soak.missing() else []
        problems += [f"unexpected: {soak.unexpected().total()} files"] if soak.unexpected() else []
        problems += find_growth(soak.service)
        reports = soak.reports()
        validator = jsonschema.Draft202012Validator(schema())
        problems += [
            f"run {each['run_id']}: invalid report" for each in reports if not validator.is_valid(each)
        ]
        samples = [sample for lifetime in soak.service.lifetimes for sample in lifetime.samples]
        result = {
            "duration_s": duration_s,
            "seed": seed,
            "processes": len(soak.service.lifetimes),
            "actions": dict(soak.actions),
            "clock_jumps": soak.clock.is_available,
            "run_reports": len(reports),
            "exit_codes": {
                str(code): n for code, n in Counter(each["exit_code"] for each in reports).items()
            },
            "files": soak._present().total(),
            "max_rss_kib": max((sample.rss_kib for sample in samples), default=0),
            "max_descriptors": max((sample.descriptors for sample in samples), default=0),
            "longest_process": _describe(max(soak.service.lifetimes, key=lambda each: len(each.samples))),
            "problems": problems,
        }
        print(json.dumps(result, indent=1))  # noqa: T201 - the result of the script
        return 1 if problems else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", default="1h", type=parse_duration, help="for example 10m or 1h")
    parser.add_argument("--seed", default=1, type=int)
    parser.add_argument("--folder", type=Path, help="keep the output directory and the log here")
    options = parser.parse_args()
    if options.folder is not None:
        options.folder.mkdir(parents=True)
        return asyncio.run(run(options.folder, options.duration, options.seed))
    with tempfile.TemporaryDirectory(prefix="bulkdl-soak-") as folder:
        return asyncio.run(run(Path(folder), options.duration, options.seed))


if __name__ == "__main__":
    raise SystemExit(main())

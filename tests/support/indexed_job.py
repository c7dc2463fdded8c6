"""
Simulate an Indexed Job with processes of the command line instead of pods.

It implements the part of the controller that bulkdl depends on. An index has one pod at a time. The
environment is that of the manifest, with ``$(NAME)`` replaced. The first matching rule of podFailurePolicy
determines the action for a pod. backoffLimitPerIndex and maxFailedIndexes are counted. A failed Job stops its
pods with SIGTERM, and with SIGKILL after terminationGracePeriodSeconds. The simulation does not wait between
attempts, mount volumes (paths of the pod become local directories), run probes or limit resources.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Disturbance = Callable[["Pod"], Awaitable[None]]
Variables = Callable[[int, int], Mapping[str, str]]


@dataclass(slots=True)
class Pod:
    """
    Attributes:
        attempt: Counts from 1 for each index.
        disrupted: Whether it has the condition DisruptionTarget.
        output: Its BULKDL_OUTPUT on this machine.
    """

    index: int
    attempt: int
    process: asyncio.subprocess.Process
    output: Path
    log: Path
    grace_s: float
    disrupted: bool = False

    async def evict(self) -> None:
        """Terminate the pod as when its node is drained."""
        self.disrupted = True
        await self.terminate()

    async def terminate(self) -> None:
        """Send SIGTERM, and SIGKILL after the grace period."""
        with suppress(ProcessLookupError):  # it has ended, and its wait has not returned yet
            self.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(self.process.wait()), self.grace_s)
        except TimeoutError:
            self.process.kill()


@dataclass(frozen=True, slots=True)
class End:
    """The exit code of a pod as in a shell, and the action of the Job."""

    index: int
    attempt: int
    exit_code: int
    action: str


@dataclass
class IndexedJob:
    """
    Attributes:
        job: The manifest.
        paths: Mount path → folder here.
        added: From index and attempt, variables that the test adds to the pod's, or puts in their place.
        disturb: Runs concurrently with each pod.
    """

    job: Mapping[str, Any]
    paths: Mapping[str, Path]
    logs: Path
    added: Variables = lambda _index, _attempt: {}
    disturb: Disturbance | None = None
    ends: list[End] = field(default_factory=list)
    succeeded: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    _pods: dict[int, Pod] = field(default_factory=dict)
    _why: str = ""

    async def run(self) -> str:
        """Wait for the end of the Job. Return ``Complete`` or the reason of its failure."""
        slots = asyncio.Semaphore(self.spec["parallelism"])
        async with asyncio.TaskGroup() as group:
            for index in range(self.spec["completions"]):
                group.create_task(self._index(index, slots), name=f"index {index}")
        return self._why or ("FailedIndexes" if self.failed else "Complete")

    @property
    def spec(self) -> Any:
        return self.job["spec"]

    @property
    def _pod_spec(self) -> Any:
        return self.spec["template"]["spec"]

    async def _index(self, index: int, slots: asyncio.Semaphore) -> None:
        failures = attempt = 0
        async with slots:
            while not self._why and index not in self.succeeded | self.failed:
                attempt += 1
                action = await self._pod(index, attempt)
                failures += action == "Count"
                if action == "Complete":
                    self.succeeded.add(index)
                elif action == "FailIndex" or failures > self.spec["backoffLimitPerIndex"]:
                    self.failed.add(index)
                elif action == "FailJob":
                    await self._fail("PodFailurePolicy")
            if len(self.failed) > self.spec["maxFailedIndexes"]:
                await self._fail("MaxFailedIndexesExceeded")

    async def _pod(self, index: int, attempt: int) -> str:
        env = self.environment(index) | dict(self.added(index, attempt))
        log = self.logs / f"{index}-{attempt}.log"
        with log.open("wb") as stream:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bulkdl", *self._pod_spec["containers"][0]["args"],
                env=env, stdin=asyncio.subprocess.DEVNULL, stdout=stream, stderr=stream,
            )  # fmt: skip
        grace_s = self._pod_spec["terminationGracePeriodSeconds"]
        pod = self._pods[index] = Pod(index, attempt, process, Path(env["BULKDL_OUTPUT"]), log, grace_s)
        disturbing = asyncio.ensure_future(self.disturb(pod)) if self.disturb else None
        code = await process.wait()
        del self._pods[index]
        if disturbing:
            disturbing.cancel()
            await asyncio.wait([disturbing])
        action = self._action(128 - code if code < 0 else code, disrupted=pod.disrupted)
        self.ends.append(End(index, attempt, 128 - code if code < 0 else code, action))
        return action

    async def _fail(self, why: str) -> None:
        self._why = self._why or why
        await asyncio.gather(*(pod.terminate() for pod in self._pods.values()))

    def _action(self, exit_code: int, *, disrupted: bool) -> str:
        if exit_code == 0:
            return "Complete"
        for rule in self.spec["podFailurePolicy"]["rules"]:
            codes = rule.get("onExitCodes", {"values": [], "operator": "In"})
            conditions = [each["type"] for each in rule.get("onPodConditions", ())]
            by_code = "onExitCodes" in rule and (exit_code in codes["values"]) is (codes["operator"] == "In")
            if by_code or (disrupted and "DisruptionTarget" in conditions):
                return str(rule["action"])
        return "Count"

    def environment(self, index: int) -> dict[str, str]:
        """Return the variables of the pod with local directories in its paths."""
        env: dict[str, str] = {}
        for entry in self._pod_spec["containers"][0]["env"]:
            value = str(index) if "valueFrom" in entry else entry["value"]
            env[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda match: env[match[1]], value)
        for name, value in env.items():
            for mount, folder in self.paths.items():
                if value == mount or value.startswith(f"{mount}/"):
                    env[name] = str(folder) + value.removeprefix(mount)
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("BULKDL_", "UP42_"))
        }
        return kept | env

    def codes(self) -> Counter[tuple[int, str]]:
        """Return the number of pods for each exit code and action."""
        return Counter((end.exit_code, end.action) for end in self.ends)

"""Implement the faults that change the state of the simulator before the response is created."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bulkdl.simulator.messages import ReceivedRequest
from bulkdl.simulator.routes import LIST_KEYS


class SimulatorState(Protocol):
    """Operations that are available to these faults."""

    @property
    def page_size(self) -> int: ...
    async def take_down(self, server: str, seconds: float) -> None: ...
    def replace_object(self, path: str, longer_by: int) -> None: ...
    def revoke_tokens(self) -> None: ...
    def expire_urls(self) -> None: ...
    def job_count(self, project_id: str) -> int: ...
    def delete_jobs(self, project_id: str, count: int) -> None: ...
    def delete_oldest_collections(self, count: int) -> None: ...
    def add_assets(self, count: int) -> None: ...
    def settle(self) -> None: ...


@dataclass(frozen=True, slots=True)
class FaultEvent:
    """One fault that applies to *call*."""

    call: ReceivedRequest
    simulator: SimulatorState
    values: Mapping[str, Any]


async def down(event: FaultEvent) -> None:
    await event.simulator.take_down(event.call.server, event.values["seconds"])


async def replaced(event: FaultEvent) -> None:
    event.simulator.replace_object(event.call.path, event.values["longer_by"])


async def revoke_tokens(event: FaultEvent) -> None:
    event.simulator.revoke_tokens()


async def expire_urls(event: FaultEvent) -> None:
    event.simulator.expire_urls()


async def repeat_pages(event: FaultEvent) -> None:
    """
    Let page n start at n x (size - overlap). With *forever*, start again after the last entry.

    The endpoints of today's API do this themselves, because their pages have links or a number of pages.
    """
    if event.call.endpoint in LIST_KEYS:
        event.call.overrides.update(overlap=event.values["overlap"], forever=event.values["forever"])
        return
    page = event.call.query.get("page", "0")
    step = max(0, event.simulator.page_size - event.values["overlap"])
    offset = int(page) * step if page.isdigit() else 0
    count = event.simulator.job_count(event.call.segments[1])
    event.call.overrides["offset"] = offset % max(1, count) if event.values["forever"] else offset


async def delete_jobs(event: FaultEvent) -> None:
    """Delete the oldest jobs of the project before its page is sent."""
    event.simulator.delete_jobs(event.call.segments[1], event.values["count"])


async def delete_collections(event: FaultEvent) -> None:
    """Delete the oldest collections, with their items and originals, before the page is sent."""
    event.simulator.delete_oldest_collections(event.values["count"])


async def add_assets(event: FaultEvent) -> None:
    """Add the next deliveries before the page is sent, so that all later pages shift."""
    event.simulator.add_assets(event.values["count"])


async def settle(event: FaultEvent) -> None:
    event.simulator.settle()

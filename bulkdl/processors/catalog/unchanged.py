"""
Reuse what the previous catalogue has of unchanged containers.

A writer of text renders each container to a text, which the cache keeps. Other writers keep the rows or the
files of an unchanged container, for example by hard links. The entries of an unchanged container are then not
needed. Without a previous catalogue they are read from the cache.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from bulkdl.processors.catalog.facts import BBox, CatalogContainer, CatalogEntry


@dataclass(frozen=True, slots=True)
class Summary:
    """
    What the STAC catalogue and the result need of the entries of a container.

    Attributes:
        bbox: The bounding box of all footprints; None if there are none.
        start, end: The time span; empty without entries.
    """

    ids: tuple[str, ...]
    states: dict[str, int]
    bbox: BBox | None
    start: str
    end: str

    def encode(self) -> list[Any]:
        return [self.ids, self.states, self.bbox, self.start, self.end]

    @classmethod
    def decode(cls, values: list[Any]) -> Summary:
        ids, states, bbox, start, end = values
        return cls(tuple(ids), states, tuple(bbox) if bbox is not None else None, start, end)


def summarize(container: CatalogContainer) -> Summary:
    """Return the summary of *container*."""
    bbox, start, end = None, "", ""
    for entry in container.entries:
        if entry.footprint is not None:
            bbox = unite_bboxes(bbox, entry.footprint.bbox)
        first, last = _span(entry, container.created_at)
        start, end = min(start or first, first), max(end, last)
    states = Counter(entry.state for entry in container.entries)
    return Summary(tuple(entry.id for entry in container.entries), dict(states), bbox, start, end)


def _span(entry: CatalogEntry, created_at: str) -> tuple[str, str]:
    start = entry.datetime or entry.start or created_at
    return start, entry.end or entry.datetime or start


def unite_bboxes(one: BBox | None, other: BBox) -> BBox:
    """Return the bounding box of both. Across the antimeridian it has all longitudes."""
    west, south, east, north = other
    if west > east:
        west, east = -180.0, 180.0
    if one is None:
        return west, south, east, north
    return min(one[0], west), min(one[1], south), max(one[2], east), max(one[3], north)


class KeptContainer:
    """
    A container whose entries are those of the previous catalogue.

    Args:
        facts: The container without its entries.
        load: Returns the entries; called at most once.
    """

    def __init__(
        self, facts: CatalogContainer, summary: Summary, load: Callable[[], CatalogContainer]
    ) -> None:
        self.facts = facts
        self.summary = summary
        self._load = load

    @cached_property
    def container(self) -> CatalogContainer:
        """The container with its entries."""
        return self._load()


@runtime_checkable
class KeepingWriter(Protocol):
    """A writer that can keep what the previous catalogue has of a container."""

    def keep(self, kept: KeptContainer) -> bool:
        """Keep *kept*; return False if there is nothing to keep, so that it must be added."""

    def remove(self, scope_id: str, container_id: str) -> None:
        """Remove a container of the previous catalogue that has changed or does not exist any more."""


class TextWriter(ABC):
    """A writer whose output of a container is a text. The text has no tab and no line feed."""

    format: str

    @abstractmethod
    def render(self, container: CatalogContainer) -> str:
        """Return the text of *container*."""

    @abstractmethod
    def write(self, text: str) -> None:
        """Write a text that ``render`` has returned, perhaps for the previous catalogue."""

    def add(self, container: CatalogContainer) -> None:
        """Render and write *container*."""
        self.write(self.render(container))

    @abstractmethod
    def finish(self) -> None:
        """Complete all files."""

    @abstractmethod
    def close(self) -> None:
        """Release everything that is open."""

"""The lists that a source returns: the containers of a scope and the outputs of a container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bulkdl.errors import DownloadError
from bulkdl.models import Container, Output


@dataclass(frozen=True, slots=True)
class PlannedOutput:
    """
    An output that a source listed.

    Attributes:
        filename: The safe file name of an output whose name the server chose; empty for the other kinds.
        identity: Equal for outputs that can be the same stored object. One of them is downloaded, the others
            are linked or copied. Empty: the output has an object of its own.
    """

    output: Output
    filename: str = ""
    identity: str = ""
    path_values: Mapping[str, str] = field(default_factory=dict, compare=False, hash=False, repr=False)


@dataclass(frozen=True, slots=True)
class ListingFailure:
    """
    A part of a listing that could not be read: the outputs of one kind of one parent.

    Attributes:
        output: Stands for the list: its name is empty although outputs of its kind have names.
    """

    output: Output
    failure: DownloadError


@dataclass(frozen=True, slots=True)
class ContainerListing:
    """
    The outputs of one container.

    Attributes:
        outputs: All outputs that the container can have, of the requested kinds and of kinds that need no
            request of their own.
        listed_kinds: The kinds whose outputs are completely in *outputs*.
        documents: Responses to store next to the outputs, by key.
        failures: The lists that could not be read.
        is_final: Whether a later listing returns the same outputs. Otherwise a later run lists it again.
    """

    container: Container
    outputs: tuple[PlannedOutput, ...]
    listed_kinds: frozenset[str]
    documents: Mapping[str, bytes]
    failures: tuple[ListingFailure, ...] = ()
    is_final: bool = True


@dataclass(frozen=True, slots=True)
class UnreadableContainer:
    """An entry of a list that is not a valid container. *id* is None if it has no valid ID either."""

    id: str | None
    problem: str

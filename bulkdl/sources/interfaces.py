"""
The interface of a source: what a package must provide so that bulkdl downloads from another provider.

A source has two parts. A ``SourceType`` is static: it needs no credentials and no network, so that
``status``, ``verify`` and ``retry`` can use it. It opens a ``Source``, which talks to the provider.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from yarl import URL

from bulkdl.listings import ContainerListing, PlannedOutput, UnreadableContainer
from bulkdl.models import Container, ContainerRef, Output
from bulkdl.transfer.interfaces import RemoteFile


class Source(Protocol):
    """
    An open connection to a provider, for one run.

    All methods raise ``ApiError`` (a ``DownloadError``) for failed requests. They retry requests themselves,
    except ``RemoteFile.open``: the transfer decides on its retries.
    """

    @property
    def scopes(self) -> tuple[str, ...]:
        """All scopes for which credentials are configured, for example project IDs."""

    def list_containers(self, scope: str) -> AsyncGenerator[Container | UnreadableContainer, None]:
        """List all containers of *scope*, in any order; the caller closes the iterator to stop early."""

    async def get_container(self, ref: ContainerRef) -> Container:
        """Request one container. Raise ApiError (NOT_FOUND) if it does not exist in this scope."""

    async def list_outputs(self, container: Container, kinds: frozenset[str]) -> ContainerListing:
        """List the outputs of *container*; only *kinds* may cost a request of their own."""

    def open_output(self, output: Output) -> RemoteFile:
        """
        Return the remote file of *output*. No request is sent before its ``prepare`` or ``open``.

        Its methods raise ``ApiError`` with ``NOT_FOUND`` and ``is_absent`` if the provider states that the
        output does not exist. Any other 404 is a failure.
        """

    def endpoint_label(self, method: str, url: URL) -> str:
        """Return a label with few distinct values for the metrics of a request."""


OpenSource = Callable[[], AbstractAsyncContextManager[Source]]


class SourceType(Protocol):
    """
    The static part of a source, which is registered under its name.

    Attributes:
        name: The value of ``--source``, and the source in the ledger and in reports.
    """

    @property
    def name(self) -> str: ...

    def make_key(self, planned: PlannedOutput, templates: Mapping[str, str]) -> Callable[[str], str]:
        """Return a function from the suffix, which depends on the content, to the key of an output."""

    def excluding_filter(self, container: Container, filters: Mapping[str, object]) -> str | None:
        """Return the name of the first own filter of the source that excludes *container*; else None."""

    def includes(self, output: Output, filters: Mapping[str, object]) -> bool:
        """Return whether the own filters of the source include *output*."""

    def scopes_in(self, filters: Mapping[str, object]) -> Sequence[str]:
        """Return the scopes that the own filters of the source name; empty if they name none."""

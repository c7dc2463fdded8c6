"""
The interface of a source: what a package must provide so that bulkdl downloads from another provider.

A source has two parts. A ``SourceType`` is static: it needs no credentials and no network, so that
``status``, ``verify`` and ``retry`` can use it. It opens a ``Source``, which talks to the provider.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, runtime_checkable

from yarl import URL

from bulkdl.errors import ApiError
from bulkdl.listings import ContainerListing, PlannedOutput, UnreadableContainer
from bulkdl.models import Container, ContainerRef, Output
from bulkdl.selection import Selection
from bulkdl.settings import CredentialSet, Settings
from bulkdl.source_spec import SourceSpec
from bulkdl.sources.path_values import find_value_keys
from bulkdl.sources.sessions import Sessions
from bulkdl.transfer.interfaces import RemoteFile


@dataclass(frozen=True, slots=True)
class SourceContext:
    """
    Arguments of a source when it is opened.

    Attributes:
        credentials: The result of ``SourceType.load_credentials``, or the credentials of the caller.
        sessions: Open HTTP sessions with the request policy of the run.
    """

    settings: Settings
    credentials: CredentialSet
    sessions: Sessions


class DocumentMissingError(ApiError):
    """A document of a container does not exist in the destination."""


ReadDocument = Callable[[str], bytes]
"""
Returns the document with this key; blocks.

Raises:
    DocumentMissingError: The document does not exist.
    ApiError: The key names something else than a file.
    OSError, DestinationError: The document cannot be read.
"""


@dataclass(frozen=True, slots=True)
class ContainerKey:
    """
    The key of a file or a document of a container.

    Attributes:
        scope: The scope in the key; None if the path template does not contain it.
        path_values: The names and dates in the key; see ``Container.path_values``.
    """

    key: str
    container_id: str
    scope: str | None
    path_values: Mapping[str, str] = field(default_factory=dict)


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
        """
        List the outputs of *container*; only *kinds* may cost a request of their own.

        Raise ApiError if the container itself cannot be listed. A list of one kind and parent that cannot be
        read is a ``ListingFailure``, so that the other outputs are downloaded.
        """

    def open_output(self, output: Output) -> RemoteFile:
        """
        Return the remote file of *output*. No request is sent before its ``prepare`` or ``open``.

        Its methods raise ``ApiError`` with ``NOT_FOUND`` and ``is_absent`` if the provider states that the
        output does not exist. Any other 404 is a failure.
        """


@runtime_checkable
class AnnouncedSource(Source, Protocol):
    """A source that can list the outputs of several containers with one request. The method is optional."""

    def announce_listings(self, containers: Sequence[Container], kinds: frozenset[str]) -> None:
        """Receive containers for which ``list_outputs`` will be called soon, unless the run is stopped."""


@runtime_checkable
class SelectiveSource(Source, Protocol):
    """A source that reads its lists in another way for some selections. The method is optional."""

    def prepare_lists(self, selection: Selection) -> None:
        """Receive the selection of a run or a plan before its containers are listed."""


class SourceType(Protocol):
    """
    The static part of a source, which is registered under its name.

    Attributes:
        spec: The kinds, the names of fields and the filters of the source.
    """

    @property
    def spec(self) -> SourceSpec: ...

    @property
    def name(self) -> str:
        """The value of ``--source``, and the source in the ledger and in reports; the name of *spec*."""

    @property
    def document_templates(self) -> tuple[str, ...]:
        """The names of the path templates of documents."""

    @property
    def container_templates(self) -> tuple[str, ...]:
        """The names of the path templates of the documents that stand for a container."""

    def load_credentials(self, settings: Settings) -> CredentialSet:
        """
        Read the credentials from the environment and the settings.

        Raises:
            ConfigError: They are missing or incomplete.
        """

    def open(self, context: SourceContext) -> AbstractAsyncContextManager[Source]:
        """Open a connection to the provider. No request is sent before the first call of its methods."""

    def endpoint_label(self, method: str, url: URL) -> str:
        """Return a label with few distinct values for the metrics of a request to the API."""

    def path_templates(self, settings: Settings) -> Mapping[str, str]:
        """Return the path templates by name: one for each output and document."""

    def make_key(self, planned: PlannedOutput, templates: Mapping[str, str]) -> Callable[[str], str]:
        """Return a function from the suffix, which depends on the content, to the key of an output."""

    def parse_key(self, key: str, fields: Mapping[str, str]) -> ContainerKey | None:
        """
        Return the container of *key*; None if the key does not name a container.

        Args:
            fields: The values of the placeholders of the path template that *key* matches.
        """

    def read_listing(
        self, container: ContainerKey, templates: Mapping[str, str], read: ReadDocument
    ) -> ContainerListing:
        """
        Read the listing of a container from its stored documents, to rebuild a lost ledger; blocks.

        Args:
            container: The key of the document that stands for the container.

        Raises:
            ApiError: A document is missing or invalid.
        """


@dataclass(frozen=True, slots=True)
class SourceLayout:
    """A source and the path templates of its outputs and documents, by name."""

    source_type: SourceType
    templates: Mapping[str, str]

    @property
    def value_keys(self) -> frozenset[str]:
        """The keys of the names and dates in the templates; see ``Container.path_values``."""
        return find_value_keys(self.templates.values())

    @property
    def make_key(self) -> Callable[[PlannedOutput], Callable[[str], str]]:
        """The function ``SourceType.make_key`` with these templates."""
        return partial(self.source_type.make_key, templates=self.templates)

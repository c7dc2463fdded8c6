"""The base class of simple sources: it derives most of the static part from the specification."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import ClassVar

from yarl import URL

from bulkdl.listings import ContainerListing, PlannedOutput
from bulkdl.models import ContainerRef
from bulkdl.settings import CredentialSet, Settings
from bulkdl.source_spec import SourceSpec
from bulkdl.sources.interfaces import ContainerKey, ReadDocument, Source, SourceContext
from bulkdl.transfer.interfaces import RemoteFile
from bulkdl.transfer.remote_files import SignedUrlSource


class BaseSourceType:
    """
    The static part of a source without credentials and with one path template for each kind.

    Attributes:
        templates: The path templates: of each kind under its name, and of the documents. Their placeholders
            are the labels of the specification, and ``{filename}`` and ``{suffix}`` for outputs.
        document_templates: The names of the templates of documents; the first one stands for a container.
    """

    spec: ClassVar[SourceSpec]
    templates: ClassVar[Mapping[str, str]]
    document_templates: ClassVar[tuple[str, ...]]

    @property
    def container_templates(self) -> tuple[str, ...]:
        """The template of the document that stands for a container."""
        return self.document_templates[:1]

    @property
    def name(self) -> str:
        """The name of the source."""
        return self.spec.name

    def load_credentials(self, settings: Settings) -> CredentialSet:
        """Return no credentials."""
        del settings
        return CredentialSet()

    def open(self, context: SourceContext) -> AbstractAsyncContextManager[Source]:
        """Open a connection to the provider."""
        raise NotImplementedError

    def endpoint_label(self, method: str, url: URL) -> str:
        """Return one label for all requests to the API."""
        del method, url
        return "api"

    def path_templates(self, settings: Settings) -> Mapping[str, str]:
        """Return the path templates, which are not a setting."""
        del settings
        return self.templates

    def document_key(self, ref: ContainerRef) -> str:
        """Return the key of the document that stands for the container *ref*."""
        labels = self.spec.labels
        template = self.templates[self.document_templates[0]]
        return template.format(**{labels.scope: ref.scope, labels.container: ref.id})

    def make_key(self, planned: PlannedOutput, templates: Mapping[str, str]) -> Callable[[str], str]:
        """Return a function from the suffix to the key of an output."""
        output, labels = planned.output, self.spec.labels
        fields = {
            labels.scope: output.container.scope,
            labels.container: output.container.id,
            labels.parent: output.parent,
        }
        return partial(_format, templates[output.kind], planned.filename, fields)

    def parse_key(self, key: str, fields: Mapping[str, str]) -> ContainerKey | None:
        """Return the container of *key*."""
        labels = self.spec.labels
        return ContainerKey(key, fields[labels.container], fields.get(labels.scope))

    def read_listing(
        self, container: ContainerKey, templates: Mapping[str, str], read: ReadDocument
    ) -> ContainerListing:
        """Read the listing of a container from its stored documents."""
        raise NotImplementedError


def _format(template: str, filename: str, fields: Mapping[str, str], suffix: str) -> str:
    return template.format(**fields, filename=filename, suffix=suffix)


def open_url(context: SourceContext, url: str) -> RemoteFile:
    """Return the remote file at *url*, which can be downloaded without credentials, also in segments."""

    async def get_url() -> str:
        return url

    sessions = context.sessions
    return SignedUrlSource(
        sessions.storage,
        get_url,
        sessions.cooldown,
        sessions.retry_policy,
        headers_timeout_s=context.settings.headers_timeout,
    )

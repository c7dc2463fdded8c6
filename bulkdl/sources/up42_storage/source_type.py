"""The static part of the source of today's UP42."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from yarl import URL

from bulkdl.listings import ContainerListing, PlannedOutput
from bulkdl.settings import CredentialSet, Settings, load_account_credentials
from bulkdl.sources.interfaces import ContainerKey, ReadDocument, Source, SourceContext
from bulkdl.sources.up42_storage import documents, endpoints, keys
from bulkdl.sources.up42_storage.source import StorageSource
from bulkdl.sources.up42_storage.spec import SOURCE, SPEC


class StorageSourceType:
    """The source of the deliveries of accounts."""

    spec = SPEC
    name = SOURCE
    container_templates = keys.CONTAINER_TEMPLATES
    document_templates = keys.DOCUMENT_TEMPLATES

    def load_credentials(self, settings: Settings) -> CredentialSet:
        """Read the credentials of the accounts."""
        return load_account_credentials(settings)

    def open(self, context: SourceContext) -> AbstractAsyncContextManager[Source]:
        """Open the accounts. The sessions of *context* are the only resource."""
        return _open(context)

    def endpoint_label(self, method: str, url: URL) -> str:
        """Return the endpoint of today's API that *url* belongs to."""
        return endpoints.endpoint_label(method, url)

    def path_templates(self, settings: Settings) -> Mapping[str, str]:
        """Return the path templates of deliveries, items and assets."""
        return {name: getattr(settings.path_templates, name) for name in keys.TEMPLATES}

    def make_key(self, planned: PlannedOutput, templates: Mapping[str, str]) -> Callable[[str], str]:
        """Return a function from the suffix to the key of an output."""
        return keys.make_key(planned, templates)

    def parse_key(self, key: str, fields: Mapping[str, str]) -> ContainerKey:
        """Return the delivery of *key*."""
        return documents.parse_key(key, fields)

    def read_listing(
        self, container: ContainerKey, templates: Mapping[str, str], read: ReadDocument
    ) -> ContainerListing:
        """Read a delivery and its outputs from its stored documents."""
        return documents.read_listing(container, templates, read)


@asynccontextmanager
async def _open(context: SourceContext) -> AsyncGenerator[Source, None]:
    yield StorageSource(context)


SOURCE_TYPE = StorageSourceType()

"""The static part of the source of UP42 jobs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from yarl import URL

from bulkdl.listings import ContainerListing, PlannedOutput
from bulkdl.settings import CredentialSet, Settings, load_credentials
from bulkdl.sources.interfaces import ContainerKey, ReadDocument, Source, SourceContext
from bulkdl.sources.up42_jobs import documents, endpoints, planning
from bulkdl.sources.up42_jobs.models import SOURCE
from bulkdl.sources.up42_jobs.planning import DOCUMENT_TEMPLATES, TEMPLATES
from bulkdl.sources.up42_jobs.source import JobsSource
from bulkdl.sources.up42_jobs.spec import SPEC


class JobsSourceType:
    """The source of UP42 jobs."""

    spec = SPEC
    name = SOURCE
    document_templates = DOCUMENT_TEMPLATES
    container_templates = DOCUMENT_TEMPLATES[:1]

    def load_credentials(self, settings: Settings) -> CredentialSet:
        """Read the credentials of UP42."""
        return load_credentials(settings)

    def open(self, context: SourceContext) -> AbstractAsyncContextManager[Source]:
        """Open the jobs. The sessions of *context* are the only resource."""
        return _open(context)

    def endpoint_label(self, method: str, url: URL) -> str:
        """Return the endpoint of the UP42 API that *url* belongs to."""
        return endpoints.endpoint_label(method, url)

    def path_templates(self, settings: Settings) -> Mapping[str, str]:
        """Return the path templates of jobs, tasks and their outputs."""
        return {name: getattr(settings.path_templates, name) for name in TEMPLATES}

    def make_key(self, planned: PlannedOutput, templates: Mapping[str, str]) -> Callable[[str], str]:
        """Return a function from the suffix to the key of an output."""
        return planning.target_key(planned, templates)

    def parse_key(self, key: str, fields: Mapping[str, str]) -> ContainerKey:
        """Return the job of *key*; its path template contains the job ID."""
        return ContainerKey(key, fields["job_id"], fields.get("project_id"))

    def read_listing(
        self, container: ContainerKey, templates: Mapping[str, str], read: ReadDocument
    ) -> ContainerListing:
        """Read a job and its outputs from its stored documents."""
        return documents.read_listing(container, templates, read)


@asynccontextmanager
async def _open(context: SourceContext) -> AsyncGenerator[Source, None]:
    yield JobsSource(context)


SOURCE_TYPE = JobsSourceType()

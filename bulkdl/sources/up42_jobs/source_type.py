"""The static part of the source of UP42 jobs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from yarl import URL

from bulkdl.listings import PlannedOutput
from bulkdl.settings import CredentialSet, Settings, load_credentials
from bulkdl.sources.interfaces import Source, SourceContext
from bulkdl.sources.up42_jobs import endpoints, planning
from bulkdl.sources.up42_jobs.models import SOURCE
from bulkdl.sources.up42_jobs.source import JobsSource


class JobsSourceType:
    """The source of UP42 jobs."""

    name = SOURCE

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
        return dict(settings.path_templates)

    def make_key(self, planned: PlannedOutput, templates: Mapping[str, str]) -> Callable[[str], str]:
        """Return a function from the suffix to the key of an output."""
        return planning.target_key(planned, templates)


@asynccontextmanager
async def _open(context: SourceContext) -> AsyncGenerator[Source, None]:
    yield JobsSource(context)


SOURCE_TYPE = JobsSourceType()

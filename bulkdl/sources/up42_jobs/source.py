"""UP42 jobs as a source: a container is a job, and its parts are the tasks of the job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain

from yarl import URL

from bulkdl.disk.filenames import safe_filenames
from bulkdl.errors import ApiError
from bulkdl.listings import ContainerListing, ListingFailure, PlannedOutput, UnreadableContainer
from bulkdl.models import Container, ContainerRef, Output
from bulkdl.settings import CredentialSet, Settings, load_credentials
from bulkdl.sources.interfaces import ContainerKey, ReadDocument, Source, SourceContext
from bulkdl.sources.path_values import fill_template
from bulkdl.sources.up42_jobs.clients import ApiClients
from bulkdl.sources.up42_jobs.documents import encode_job, read_listing
from bulkdl.sources.up42_jobs.endpoints import endpoint_label
from bulkdl.sources.up42_jobs.models import SOURCE, Kind, Task, job_output
from bulkdl.sources.up42_jobs.path_values import JobPathValues, add_path_values, document_key, find_values
from bulkdl.sources.up42_jobs.planning import ALL_KINDS, LISTED_WITH_TASKS, expected_outputs, has_open_task
from bulkdl.sources.up42_jobs.spec import SPEC
from bulkdl.transfer.interfaces import RemoteFile
from bulkdl.transfer.remote_files import ApiSource, SignedUrlSource

_JOB_TEMPLATES = {Kind.ARCHIVE: "job_archive", Kind.GEOJSON: "job_geojson"}
_TASK_TEMPLATES = {Kind.ARCHIVE: "task_archive", Kind.GEOJSON: "task_geojson", Kind.QUICKLOOK: "quicklook"}
DOCUMENT_TEMPLATES = ("job", "job_tasks", "task_quicklooks")
TEMPLATES = (*DOCUMENT_TEMPLATES, *_JOB_TEMPLATES.values(), *_TASK_TEMPLATES.values())


@dataclass(frozen=True, slots=True)
class _QuicklookList:
    """The quicklooks of one task: the planned outputs, and the response body or the failure."""

    key: str
    outputs: tuple[PlannedOutput, ...] = ()
    document: bytes | None = None
    failure: ListingFailure | None = None


class JobsSource:
    """The jobs of the projects that the credentials of a run have access to."""

    def __init__(self, context: SourceContext) -> None:
        settings = context.settings
        self._clients = ApiClients(settings, context.credentials, context.sessions)
        self._sessions = context.sessions
        self._headers_timeout_s = settings.headers_timeout
        self._templates = SOURCE_TYPE.path_templates(settings)
        self._values = JobPathValues(self._templates.values(), self._request_project_name)

    @property
    def scopes(self) -> tuple[str, ...]:
        """All projects of the configuration."""
        return self._clients.project_ids

    def list_containers(self, scope: str) -> AsyncGenerator[Container | UnreadableContainer, None]:
        """List the jobs of a project, the last page first. The next page is requested in advance."""
        return self._clients.client(scope).jobs(scope)

    async def get_container(self, ref: ContainerRef) -> Container:
        """Request one job."""
        job, _ = await self._clients.client(ref.scope).job(ref.scope, ref.id)
        return job

    async def list_outputs(self, container: Container, kinds: frozenset[str]) -> ContainerListing:
        """
        Request the tasks of a job and, if *kinds* has quicklooks, the quicklooks of each task.

        Raises:
            ApiError: The request for the tasks failed.
        """
        ref = container.ref
        tasks, document = await self._clients.client(ref.scope).tasks(ref.scope, ref.id)
        container = await self._values.add_to(container, tasks)
        wants_quicklooks = Kind.QUICKLOOK.value in kinds
        lists = await self._list_all_quicklooks(container, tasks) if wants_quicklooks else []
        failures = tuple(entry.failure for entry in lists if entry.failure is not None)
        are_all_listed = wants_quicklooks and not failures
        documents = self._job_documents(container, document)
        documents |= {entry.key: entry.document for entry in lists if entry.document is not None}
        return ContainerListing(
            container,
            outputs=add_path_values(
                container.path_values,
                chain(
                    expected_outputs(container, tasks),
                    chain.from_iterable(entry.outputs for entry in lists),
                ),
            ),
            listed_kinds=ALL_KINDS if are_all_listed else LISTED_WITH_TASKS,
            documents=documents,
            failures=failures,
            is_final=not has_open_task(container, tasks),
        )

    def open_output(self, output: Output) -> RemoteFile:
        """Return an archive at a signed URL of the storage, or an output that the API sends itself."""
        client = self._clients.client(output.container.scope)
        if output.kind != Kind.ARCHIVE:
            return ApiSource(partial(client.open, output))
        sessions = self._sessions
        return SignedUrlSource(
            sessions.storage,
            partial(client.sign, output),
            sessions.cooldown,
            sessions.retry_policy,
            headers_timeout_s=self._headers_timeout_s,
        )

    async def _request_project_name(self, project_id: str) -> str:
        return await self._clients.client(project_id).project_name(project_id)

    async def _list_all_quicklooks(self, job: Container, tasks: Sequence[Task]) -> list[_QuicklookList]:
        async with asyncio.TaskGroup() as group:
            requests = [
                group.create_task(self._list_quicklooks(job, task), name=f"quicklooks-{task.id}")
                for task in tasks
            ]
        return [request.result() for request in requests]

    async def _list_quicklooks(self, job: Container, task: Task) -> _QuicklookList:
        ref = job.ref
        key = document_key(self._templates["task_quicklooks"], ref, job.path_values, task.id)
        try:
            names, document = await self._clients.client(ref.scope).quicklooks(ref.scope, ref.id, task.id)
        except ApiError as failure:
            placeholder = job_output(ref.scope, ref.id, task.id, Kind.QUICKLOOK)
            return _QuicklookList(key, failure=ListingFailure(placeholder, failure))
        outputs = tuple(
            PlannedOutput(job_output(ref.scope, ref.id, task.id, Kind.QUICKLOOK, name), filename)
            for name, filename in safe_filenames(dict.fromkeys(filter(None, names))).items()
        )
        return _QuicklookList(key, outputs, document)

    def _job_documents(self, job: Container, tasks: bytes) -> dict[str, bytes]:
        documents = {document_key(self._templates["job_tasks"], job.ref, job.path_values): tasks}
        if job.document:  # a job from the ledger has no document; the stored file remains
            key = document_key(self._templates["job"], job.ref, job.path_values)
            documents[key] = encode_job(job, self._templates["job"])
        return documents


class JobsSourceType:
    """The static part of the source: it needs no credentials and no network."""

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
        return endpoint_label(method, url)

    def path_templates(self, settings: Settings) -> Mapping[str, str]:
        """Return the path templates of jobs, tasks and their outputs."""
        return {name: getattr(settings.path_templates, name) for name in TEMPLATES}

    def make_key(self, planned: PlannedOutput, templates: Mapping[str, str]) -> Callable[[str], str]:
        """Return a function from the suffix to the key of an output."""
        output = planned.output
        names = _TASK_TEMPLATES if output.parent else _JOB_TEMPLATES
        template = templates[names[Kind(output.kind)]]
        values = find_values(output.container, planned.path_values, output.parent)

        def key(suffix: str) -> str:
            return fill_template(template, {**values, "filename": planned.filename, "suffix": suffix})

        return key

    def parse_key(self, key: str, fields: Mapping[str, str]) -> ContainerKey:
        """Return the job of *key*; its path template contains the job ID."""
        return ContainerKey(key, fields["job_id"], fields.get("project_id"))

    def read_listing(
        self, container: ContainerKey, templates: Mapping[str, str], read: ReadDocument
    ) -> ContainerListing:
        """Read a job and its outputs from its stored documents."""
        return read_listing(container, templates, read)


@asynccontextmanager
async def _open(context: SourceContext) -> AsyncGenerator[Source, None]:
    yield JobsSource(context)


SOURCE_TYPE = JobsSourceType()

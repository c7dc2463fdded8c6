"""
Client of the UP42 API for one set of credentials: list projects, jobs and tasks, sign and open outputs.

Requests for JSON are retried. ``open`` makes one attempt and returns the response; the transfer decides on
retries. An error document in a 200 response is handled like a response with the status of its code. Every
segment of a path is percent-encoded completely.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import quote

import aiohttp
from yarl import URL

from bulkdl.errors import ApiError
from bulkdl.http.errors import map_http_errors
from bulkdl.listings import UnreadableContainer
from bulkdl.log import get_logger
from bulkdl.models import Container, Output, Reason
from bulkdl.sources.transport import RequestPolicy, describe_request, get_host, peek_body
from bulkdl.sources.up42_common.auth import RejectedTokens, TokenSource
from bulkdl.sources.up42_common.errors import (
    ApiErrorInfo,
    api_error,
    parse_error_body,
    parse_error_response,
)
from bulkdl.sources.up42_common.json_client import JsonClient, distrust_redirect
from bulkdl.sources.up42_jobs import decode
from bulkdl.sources.up42_jobs.models import Kind, Task
from bulkdl.sources.up42_jobs.pagination import Page, iter_jobs

_log = get_logger(__name__)
_T = TypeVar("_T")

JSON_LIMIT_BYTES = 64 * 1024 * 1024
# Error documents of UP42 are smaller than this.
_MAX_ERROR_BYTES = 16 * 1024


def address(api_url: str, path: str) -> URL:
    """Return the URL of *path*. It is sent without any further encoding."""
    return URL(api_url.rstrip("/") + path, encoded=True)


def encode_segment(text: str) -> str:
    """
    Encode *text* as one path segment. A server cannot read it as several segments or as ``..``.

    The server chooses the names of quicklooks. They can contain any character, including slashes and ``..``.
    """
    encoded = quote(text, safe="")
    return encoded.replace(".", "%2E") if text in (".", "..") else encoded


def project_path(project_id: str) -> str:
    return f"/projects/{encode_segment(project_id)}"


def jobs_path(project_id: str, page: int) -> str:
    """Return one page of a project's jobs (from 0), oldest first, so that new jobs do not shift the pages."""
    return f"{project_path(project_id)}/jobs?page={page}&sort=createdAt,asc"


def job_path(project_id: str, job_id: str) -> str:
    return f"{project_path(project_id)}/jobs/{encode_segment(job_id)}"


def tasks_path(project_id: str, job_id: str) -> str:
    return f"{job_path(project_id, job_id)}/tasks"


def task_path(project_id: str, job_id: str, task_id: str) -> str:
    return f"{tasks_path(project_id, job_id)}/{encode_segment(task_id)}"


def quicklooks_path(project_id: str, job_id: str, task_id: str) -> str:
    return f"{task_path(project_id, job_id, task_id)}/outputs/quicklooks"


def output_path(ref: Output) -> str:
    """
    Return the path of the output *ref*, or for an archive the path of the request for its signed URL.

    Raises:
        ValueError: *ref* is a quicklook without a task or without a name.
    """
    project_id, job_id = ref.container.scope, ref.container.id
    owner = task_path(project_id, job_id, ref.parent) if ref.parent else job_path(project_id, job_id)
    match Kind(ref.kind):
        case Kind.ARCHIVE:
            return f"{owner}/downloads/results"
        case Kind.GEOJSON:
            return f"{owner}/outputs/data-json"
        case Kind.QUICKLOOK:
            if not ref.parent or not ref.name:
                raise ValueError("a quicklook belongs to a task and has a name")
            return f"{owner}/outputs/quicklooks/{encode_segment(ref.name)}"


class Client:
    """The UP42 API with one set of credentials."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        api_url: str,
        tokens: TokenSource,
        request_policy: RequestPolicy,
        *,
        json_limit_bytes: int = JSON_LIMIT_BYTES,
        allow_http: bool = False,
    ) -> None:
        """
        Create a client.

        Args:
            json_limit_bytes: Maximum size of a JSON response.
            allow_http: Accept signed URLs without TLS even if the API uses TLS.
        """
        self._json = JsonClient(session, tokens, request_policy, limit_bytes=json_limit_bytes)
        self._session = session
        self._api_url = api_url
        self._tokens = tokens
        self._request_policy = request_policy
        self._allow_http = allow_http or URL(api_url).scheme == "http"

    async def check(self, project_id: str) -> None:
        """
        Check that the project exists and that the credentials have access to it.

        Raises:
            ApiError: NOT_FOUND, FORBIDDEN, CREDENTIALS, or another error of the request.
        """
        await self._request(project_path(project_id), decode.get_data)

    async def project_name(self, project_id: str) -> str:
        """
        Return the name of a project; empty if it has none.

        Raises:
            ApiError: The request failed.
        """
        name, _ = await self._request(project_path(project_id), decode.project_name)
        return name

    def jobs(self, project_id: str) -> AsyncGenerator[Container | UnreadableContainer, None]:
        """
        List all jobs of a project, the last page first. The next page is requested in advance.

        Close the iterator (``contextlib.aclosing``) to stop early.

        Raises:
            ApiError: The request for a page failed. The jobs of the pages before it were yielded.
        """

        async def page(number: int) -> Page:
            return await self._page(project_id, number)

        return iter_jobs(page, project_id)

    async def _page(self, project_id: str, number: int) -> Page:
        def read(document: object, label: str) -> Page:
            return decode.jobs_page(document, project_id, label)

        entries, _ = await self._request(jobs_path(project_id, number), read)
        return entries

    async def job(self, project_id: str, job_id: str) -> tuple[Container, bytes]:
        """Return one job and the unchanged response body."""

        def read(document: object, label: str) -> Container:
            return decode.job(document, project_id, job_id, label)

        return await self._request(job_path(project_id, job_id), read)

    async def tasks(self, project_id: str, job_id: str) -> tuple[list[Task], bytes]:
        """Return the tasks of a job and the unchanged response body."""
        return await self._request(tasks_path(project_id, job_id), decode.tasks)

    async def quicklooks(self, project_id: str, job_id: str, task_id: str) -> tuple[list[str], bytes]:
        """Return the names of the quicklooks of a task (untrusted) and the unchanged response body."""
        return await self._request(quicklooks_path(project_id, job_id, task_id), decode.quicklooks)

    async def sign(self, output: Output) -> str:
        """
        Request a signed URL of an archive. It is opaque and expires after about two minutes.

        Raises:
            ApiError: INSECURE_URL if the URL has no TLS; NOT_FOUND if UP42 does not have the archive.
        """
        if output.kind != Kind.ARCHIVE:
            raise ValueError(f"{output}: only archives have signed URLs")
        text, _ = await self._request(output_path(output), decode.signed_url)
        url = URL(text, encoded=True)
        if url.scheme == "http" and not self._allow_http:
            raise ApiError(Reason.INSECURE_URL, f"{output}: http://{get_host(url)}{url.raw_path}")
        _log.debug("url.signed", host=get_host(url), path=url.raw_path)
        return text

    @asynccontextmanager
    async def open(self, output: Output) -> AsyncIterator[tuple[aiohttp.ClientResponse, bytes]]:
        """
        Request a quicklook or a GeoJSON file once, and return the response with any status.

        The request is repeated only after the server rejected the token.

        Returns:
            The response, and the bytes of its body that were already read.

        Raises:
            ApiError: No response, no token, or an error document in a 200 response. Reading the body
                raises the exceptions of aiohttp.
        """
        if output.kind == Kind.ARCHIVE:
            raise ValueError(f"{output}: an archive is downloaded from its signed URL")
        url = address(self._api_url, output_path(output))
        response, prefetched = await self._open(url)
        async with response:
            yield response, prefetched

    async def _open(self, url: URL) -> tuple[aiohttp.ClientResponse, bytes]:
        rejected = RejectedTokens(self._tokens)
        while True:
            await self._request_policy.acquire(url, low_priority=True)
            token = await self._tokens.token()
            with map_http_errors(ApiError, describe_request("GET", url)):
                response, prefetched, error = await self._send_and_peek(url, token)
            status = error.status if error else response.status
            retry_after_s = self._request_policy.apply_cooldown(response, status)
            if status != 401 or not rejected.may_repeat(token):
                break
            response.release()
        if error is None:
            return response, prefetched
        label = describe_request("GET", url)
        raise api_error(error, label, retry_after_s=retry_after_s, secrets=(token,))

    async def _send_and_peek(
        self, url: URL, token: str
    ) -> tuple[aiohttp.ClientResponse, bytes, ApiErrorInfo | None]:
        """Return a response, the bytes read of a 200 or 404, and the UP42 error that it contains, if any."""
        headers = {"Accept": "*/*", "Accept-Encoding": "identity", "Authorization": f"Bearer {token}"}
        response = await self._request_policy.send(self._session.get(url, headers=headers))
        if response.status not in (200, 404):
            return response, b"", None
        try:
            prefetched, is_complete = await peek_body(
                response, _MAX_ERROR_BYTES, self._request_policy.timeouts
            )
        except BaseException:  # also on cancellation: no caller has a reference to the response yet
            response.close()
            raise
        if not is_complete:
            return response, prefetched, None
        if response.status == 200:
            return response, prefetched, parse_error_body(prefetched)
        error = distrust_redirect(url, response, parse_error_response(404, prefetched))
        return response, prefetched, error if error.is_enveloped else None

    async def _request(self, path: str, read: Callable[[object, str], _T]) -> tuple[_T, bytes]:
        """Request a JSON document, with retries; return the value that *read* makes of it, and the body."""
        return await self._json.request("GET", address(self._api_url, path), read)

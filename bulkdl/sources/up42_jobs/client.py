"""
UP42's API for one set of credentials: what there is, and where it can be fetched.

Questions that are answered in JSON are asked until there is an answer or a reason to stop.
``open`` makes one attempt and hands over the response: what to do about a body is the transfer's. An
error that stands in a 200 is what its code says, whatever was asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeVar

import aiohttp
from yarl import URL

from bulkdl.errors import ApiError
from bulkdl.http.errors import map_http_errors
from bulkdl.log import get_logger
from bulkdl.models import Job, Kind, Output, Reason, Task
from bulkdl.sources.up42_jobs import decode, paths
from bulkdl.sources.up42_jobs.auth import TokenSource
from bulkdl.sources.up42_jobs.decode import UnreadableJob
from bulkdl.sources.up42_jobs.errors import ApiErrorInfo, api_error, find_error, parse_error_body, refusal_in
from bulkdl.sources.up42_jobs.pagination import Page, iter_jobs
from bulkdl.sources.up42_jobs.transport import RequestPolicy, body_of, describe_request, host_of, peek_body

_log = get_logger(__name__)
_T = TypeVar("_T")

JSON_LIMIT_BYTES = 64 * 1024 * 1024
# Tokens that one request may try: one that all have, one that others had meanwhile, and a new one.
_TOKENS = 3
# Documents longer than this are read outside the event loop.
_LONG_BYTES = 256 * 1024
# No error that UP42 words is longer.
_COMPLAINT_BYTES = 16 * 1024


class _Unauthorised(ApiError):
    """
    The server refused the token of this attempt.

    Attributes:
        renews: The next token will be a new one; else it may be one that others have had for a while.
    """

    renews = True


class Client:
    """UP42's API for one set of credentials."""

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
        Put a client together.

        Args:
            json_limit_bytes: Longest JSON answer that is read into memory.
            allow_http: Signed URLs without TLS are given out even if the API itself has TLS.
        """
        self._session = session
        self._api_url = api_url
        self._tokens = tokens
        self._request_policy = request_policy
        self._limit_bytes = json_limit_bytes
        self._allow_http = allow_http or URL(api_url).scheme == "http"

    async def check(self, project_id: str) -> None:
        """
        Find out whether there is a project that these credentials may see.

        Raises:
            ApiError: NOT_FOUND, FORBIDDEN, CREDENTIALS, or what else came in between.
        """
        await self._ask(paths.project(project_id), decode.data_of)

    def jobs(self, project_id: str) -> AsyncGenerator[Job | UnreadableJob, None]:
        """
        List all jobs of a project, the last page first; the next page is requested meanwhile.

        Close the iterator (``contextlib.aclosing``) if you leave it early.

        Raises:
            ApiError: A page could not be had; what came before it has been given out.
        """

        async def page(number: int) -> Page:
            return await self._page(project_id, number)

        return iter_jobs(page, project_id)

    async def _page(self, project_id: str, number: int) -> Page:
        def read(document: object, where: str) -> Page:
            return decode.jobs_page(document, project_id, where)

        found, _ = await self._ask(paths.jobs(project_id, number), read)
        return found

    async def job(self, project_id: str, job_id: str) -> tuple[Job, bytes]:
        """Return one job, and the answer as UP42 gave it."""

        def read(document: object, where: str) -> Job:
            return decode.job(document, project_id, job_id, where)

        return await self._ask(paths.job(project_id, job_id), read)

    async def tasks(self, project_id: str, job_id: str) -> tuple[list[Task], bytes]:
        """Return a job's tasks in UP42's order, and the answer as UP42 gave it."""
        return await self._ask(paths.tasks(project_id, job_id), decode.tasks)

    async def quicklooks(self, project_id: str, job_id: str, task_id: str) -> tuple[list[str], bytes]:
        """Return the names of a task's quicklooks (untrusted), and the answer as UP42 gave it."""
        return await self._ask(paths.quicklooks(project_id, job_id, task_id), decode.quicklooks)

    async def sign(self, output: Output) -> str:
        """
        Ask for a signed URL of an archive. It is opaque, and lives for about two minutes.

        Raises:
            ApiError: INSECURE_URL if it has no TLS; NOT_FOUND if UP42 has no such archive.
        """
        if output.kind is not Kind.ARCHIVE:
            raise ValueError(f"{output}: only archives have signed URLs")
        text, _ = await self._ask(paths.output(output), decode.signed_url)
        url = URL(text, encoded=True)
        if url.scheme == "http" and not self._allow_http:
            raise ApiError(Reason.INSECURE_URL, f"{output}: http://{host_of(url)}{url.raw_path}")
        _log.debug("url.signed", host=host_of(url), path=url.raw_path)
        return text

    @asynccontextmanager
    async def open(self, output: Output) -> AsyncIterator[tuple[aiohttp.ClientResponse, bytes]]:
        """
        Ask for a quicklook or a geojson: one attempt, any status.

        A refused token is renewed and the attempt made once more, which is all the patience here.

        Returns:
            The response, and the bytes of its body that have been read already.

        Raises:
            ApiError: No response came, or no token, or an error in a 200. What is raised while
                reading is aiohttp's.
        """
        if output.kind is Kind.ARCHIVE:
            raise ValueError(f"{output}: an archive is fetched from its signed URL")
        url = paths.address(self._api_url, paths.output(output))
        response, begun = await self._opened(url)
        async with response:
            yield response, begun

    async def _opened(self, url: URL) -> tuple[aiohttp.ClientResponse, bytes]:
        new = False
        for turn in range(_TOKENS):
            await self._request_policy.acquire(url, can_wait=True)
            token = await self._tokens.token()
            with map_http_errors(ApiError, describe_request("GET", url)):
                response, begun, complaint = await self._begun(url, token)
            status = complaint.status if complaint else response.status
            asked_s = self._request_policy.apply_cooldown(response, status)
            if status != 401:
                break
            renews = self._tokens.invalidate(token)
            if new or turn == _TOKENS - 1:
                break
            new = renews
            response.release()
        if complaint is None:
            return response, begun
        where = describe_request("GET", url)
        raise api_error(complaint, where, retry_after_s=asked_s, secrets=(token,))

    async def _begun(self, url: URL, token: str) -> tuple[aiohttp.ClientResponse, bytes, ApiErrorInfo | None]:
        """Return a response, what has been read of a 200 or 404, and the UP42 error that it is, if any."""
        headers = {"Accept": "*/*", "Accept-Encoding": "identity", "Authorization": f"Bearer {token}"}
        response = await self._request_policy.send(self._session.get(url, headers=headers))
        if response.status not in (200, 404):
            return response, b"", None
        try:
            begun, is_all = await peek_body(response, _COMPLAINT_BYTES, self._request_policy.patience)
        except BaseException:  # cancelled, too: nobody else knows of the response
            response.close()
            raise
        if not is_all:
            return response, begun, None
        if response.status == 200:
            return response, begun, parse_error_body(begun)
        refusal = _from(url, response, refusal_in(404, begun))
        return response, begun, refusal if refusal.enveloped else None

    async def _ask(self, path: str, read: Callable[[object, str], _T]) -> tuple[_T, bytes]:
        """Ask until there is an answer that *read* can make a value of; return it and the answer."""
        url = paths.address(self._api_url, path)

        async def attempt() -> tuple[_T, bytes]:
            new = False
            for _ in range(_TOKENS):
                try:
                    return await self._attempt(url, read)
                except _Unauthorised as failure:
                    refused = failure
                if new:
                    break
                new = refused.renews
            raise ApiError(Reason.CREDENTIALS, f"{refused.detail} (with a new token)")

        return await self._request_policy.retry(attempt)

    async def _attempt(self, url: URL, read: Callable[[object, str], _T]) -> tuple[_T, bytes]:
        where = describe_request("GET", url)
        await self._request_policy.acquire(url)
        token = await self._tokens.token()
        headers = {"Accept": "application/json", "Authorization": f"Bearer {token}"}
        with map_http_errors(ApiError, where):
            async with await self._request_policy.send(self._session.get(url, headers=headers)) as response:
                asked_s = self._request_policy.apply_cooldown(response)
                body = await body_of(response, self._limit_bytes, where, self._request_policy.patience)
        if response.status == 200:
            answer = await _understood(body, read, where)
            if not isinstance(answer, ApiErrorInfo):
                return answer, body
            self._request_policy.apply_cooldown(response, answer.status)
        else:
            answer = refusal_in(response.status, body)
        failure = api_error(_from(url, response, answer), where, retry_after_s=asked_s, secrets=(token,))
        if answer.status == 401:
            refusal = _Unauthorised(failure.reason, failure.detail)
            refusal.renews = self._tokens.invalidate(token)
            raise refusal
        raise failure


def _from(url: URL, response: aiohttp.ClientResponse, complaint: ApiErrorInfo) -> ApiErrorInfo:
    """Return *complaint*, not as UP42's own if a redirect led from *url* to another host."""
    if host_of(response.url) == host_of(url):
        return complaint
    return replace(complaint, enveloped=False)


async def _understood(body: bytes, read: Callable[[object, str], _T], where: str) -> _T | ApiErrorInfo:
    """Return what a 200 really says: the value, or the error that is in it."""

    def understand() -> _T | ApiErrorInfo:
        document = decode.parse_json(body, where)
        return find_error(document) or read(document, where)

    return await asyncio.to_thread(understand) if len(body) > _LONG_BYTES else understand()

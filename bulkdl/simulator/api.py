"""
Implement the API host: projects, jobs, tasks and outputs, with a bearer token.

Each endpoint is one method. It takes the parameters of the path and returns a reply, or raises ``Refused``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from bulkdl.simulator import routes
from bulkdl.simulator.account import SimulatedAccount, SimulatedJob, SimulatedTask
from bulkdl.simulator.documents import (
    data_json,
    dump,
    envelope,
    error_envelope,
    job_document,
    project_document,
    task_document,
)
from bulkdl.simulator.lazy_bytes import LiteralBytes
from bulkdl.simulator.messages import Headers, ReceivedRequest, Reply
from bulkdl.simulator.objects import has_archive, object_path
from bulkdl.simulator.pictures import create_picture
from bulkdl.simulator.scenarios import HOSTILE_NAMES
from bulkdl.simulator.tokens import Caller, Tokens, Unauthorized, UnsupportedGrant

_HEADERS: Headers = (
    ("x-content-type-options", "nosniff"),
    ("x-xss-protection", "1; mode=block"),
    ("cache-control", "no-cache, no-store, max-age=0, must-revalidate"),
    ("pragma", "no-cache"),
    ("expires", "0"),
    ("x-frame-options", "SAMEORIGIN"),
    ("referrer-policy", "same-origin"),
    ("x-powered-by", "Rocket Fuel"),
    ("access-control-expose-headers", "Content-Disposition"),
)


class RequestRejected(Exception):
    """The request is rejected with *reply*."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def create_reply(body: bytes, content_type: str = "application/json", status: int = 200) -> Reply:
    return Reply(status, (("Content-Type", content_type), *_HEADERS), LiteralBytes(body))


def reject(status: int, message: str, code: int | str | None = None) -> RequestRejected:
    return RequestRejected(
        create_reply(error_envelope(status if code is None else code, message), status=status)
    )


def create_unauthorized_reply(message: str) -> Reply:
    body = dump({"error": {"code": "UNAUTHORIZED", "message": message, "details": None}, "data": None})
    return create_reply(body, status=401)


@dataclass(frozen=True, slots=True)
class _ApiRequest:
    """One authorized request with the parameters of its path."""

    call: ReceivedRequest
    caller: Caller
    parameters: dict[str, str]


class Api:
    def __init__(
        self, account: SimulatedAccount, tokens: Tokens, sign: Callable[[str], str], page_size: int
    ) -> None:
        """Create the API. *sign* returns the signed URL of an object path."""
        self.account, self._tokens, self._sign, self.page_size = account, tokens, sign, page_size
        self._endpoints: dict[str, Callable[[_ApiRequest], Reply]] = {
            "me": self._me,
            "project": self._project,
            "jobs": self._jobs,
            "job": self._job,
            "tasks": self._tasks,
            "results": self._results,
            "geojson": self._geojson,
            "quicklooks": self._quicklooks,
            "quicklook": self._quicklook,
            "logs": self._logs,
        }

    async def handle(self, call: ReceivedRequest) -> Reply:
        route = routes.find_route(call.segments)
        try:
            if route.endpoint == "token":
                return self._token(call)
            caller = self._tokens.check(call.headers.get("Authorization", ""))
            endpoint = self._endpoints.get(route.endpoint)
            if endpoint is None:
                raise reject(404, f"No message available for {call.path}", "RESOURCE_NOT_FOUND")
            if call.method not in {"GET", "HEAD"}:
                raise reject(405, f"Request method '{call.method}' not supported")
            return endpoint(_ApiRequest(call, caller, route.parameters))
        except Unauthorized as error:
            return create_unauthorized_reply(str(error))
        except RequestRejected as error:
            return error.reply

    def _token(self, call: ReceivedRequest) -> Reply:
        if call.method != "POST":
            raise reject(405, f"Request method '{call.method}' not supported")
        try:
            token = self._tokens.grant(call)
        except UnsupportedGrant:
            raise reject(
                415, f"Content type '{call.headers.get('Content-Type', '')}' not supported"
            ) from None
        except Unauthorized:
            return Reply(401, (("WWW-Authenticate", 'Basic realm="oauth2/client"'), *_HEADERS))
        body = {"data": {"accessToken": token}, "access_token": token, "token_type": "bearer"}
        return create_reply(dump(body))

    def _me(self, _ask: _ApiRequest) -> Reply:
        return create_reply(envelope({"id": self.account.user_id, "email": "someone@example.com"}))

    def _project(self, request: _ApiRequest) -> Reply:
        return create_reply(envelope(project_document(self.account, self._require_project(request))))

    def _jobs(self, request: _ApiRequest) -> Reply:
        number = self._require_project(request)
        query = request.call.query
        page = query.get("page", "0")
        if not page.isdigit():
            raise reject(400, f"Failed to convert page '{page}'")
        offset = request.call.overrides.get("offset", int(page) * self.page_size)
        order = _sorted_job_numbers(self.account, number, query.get("sort", "createdAt,desc"))
        jobs = [self.account.job(number, order[at]) for at in self._window(offset, len(order))]
        return create_reply(envelope([job_document(job) for job in jobs]))

    def _window(self, offset: int, count: int) -> range:
        return range(min(offset, count), min(offset + self.page_size, count))

    def _job(self, request: _ApiRequest) -> Reply:
        return create_reply(envelope(job_document(self._require_job(request))))

    def _tasks(self, request: _ApiRequest) -> Reply:
        job = self._require_job(request)
        return create_reply(envelope([task_document(job, task) for task in job.tasks]))

    def _results(self, request: _ApiRequest) -> Reply:
        job, task = self._require_source_task(request)
        if not has_archive(task):
            raise reject(404, f"No results found for job {job.id}")
        return create_reply(envelope({"url": self._sign(object_path(job, task))}))

    def _geojson(self, request: _ApiRequest) -> Reply:
        return create_reply(data_json(self._require_source_task(request)[1]))

    def _quicklooks(self, request: _ApiRequest) -> Reply:
        return create_reply(envelope(list(self._require_task(request)[1].quicklooks)))

    def _quicklook(self, request: _ApiRequest) -> Reply:
        task, name = self._require_task(request)[1], request.parameters["name"]
        if name not in task.quicklooks and not (task.quicklooks and name in HOSTILE_NAMES):
            raise reject(404, f"Quicklook {name} not found", "RESOURCE_NOT_FOUND")
        kind = "image/png" if name.endswith(".png") else "image/jpg"
        return create_reply(create_quicklook(self.account, task, name), kind)

    def _logs(self, request: _ApiRequest) -> Reply:
        _, task = self._require_task(request)
        return create_reply(f"{task.name}: {task.status}\n".encode(), "text/plain")

    def _require_project(self, request: _ApiRequest) -> int:
        project_id = request.parameters["project"]
        number = self.account.project_number(project_id)
        if number is None:
            raise reject(404, f"Project not found for id {project_id} and userId {self.account.user_id}")
        if not request.caller.can_read(number):
            raise reject(403, "Access is denied")
        return number

    def _require_job(self, request: _ApiRequest) -> SimulatedJob:
        job = self.account.find_job(self._require_project(request), request.parameters["job"])
        if job is None:
            names, user = request.parameters, self.account.user_id
            raise reject(
                404, f"Job not found for id {names['job']} and projectId {names['project']} and userId {user}"
            )
        return job

    def _require_task(self, request: _ApiRequest) -> tuple[SimulatedJob, SimulatedTask]:
        job = self._require_job(request)
        for task in job.tasks:
            if task.id == request.parameters["task"]:
                return job, task
        raise reject(
            404,
            f"Task not found for id {request.parameters['task']} and jobId {job.id}",
            "RESOURCE_NOT_FOUND",
        )

    def _require_source_task(self, request: _ApiRequest) -> tuple[SimulatedJob, SimulatedTask]:
        """Return the task whose output is requested. The output of a job is that of its last task."""
        job, task = (
            self._require_task(request)
            if "task" in request.parameters
            else (self._require_job(request), None)
        )
        status = job.status if task is None else task.status
        if status != "SUCCEEDED":
            raise reject(404, f"No output found for job {job.id}")
        return job, task or job.tasks[-1]


@lru_cache(maxsize=256)
def create_quicklook(account: SimulatedAccount, task: SimulatedTask, name: str) -> bytes:
    return create_picture(
        f"{account.seed}/{task.id}/{name}", name.rpartition(".")[2], account.quicklook_bytes
    )


@lru_cache(maxsize=8)
def _sorted_job_numbers(account: SimulatedAccount, project: int, sort: str) -> Sequence[int]:
    """Return the job numbers in the order of *sort* (``key,asc|desc``). Unknown keys mean createdAt."""
    key, _, direction = sort.partition(",")
    numbers = account.job_numbers(project)
    backwards = direction.lower() != "asc"
    if key in {"name", "id", "mode", "status"}:
        return sorted(numbers, key=lambda k: str(getattr(account.job(project, k), key)), reverse=backwards)
    return numbers[::-1] if backwards else numbers

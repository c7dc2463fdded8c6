"""
Implement the API host: projects, jobs, tasks and outputs, with a bearer token.

Each endpoint is one method. It takes the parameters of the path and returns a reply, or raises ``Refused``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from bulkdl.simulator import routes
from bulkdl.simulator.account import Account, JobFacts, TaskFacts
from bulkdl.simulator.documents import (
    data_json,
    dump,
    envelope,
    error_envelope,
    job_document,
    project_document,
    task_document,
)
from bulkdl.simulator.lazy_bytes import Literal
from bulkdl.simulator.messages import Call, Headers, Reply
from bulkdl.simulator.objects import has_archive, object_path
from bulkdl.simulator.pictures import picture
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


class Refused(Exception):
    """The request is rejected with *reply*."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def answered(body: bytes, content_type: str = "application/json", status: int = 200) -> Reply:
    return Reply(status, (("Content-Type", content_type), *_HEADERS), Literal(body))


def refused(status: int, message: str, code: int | str | None = None) -> Refused:
    return Refused(answered(error_envelope(status if code is None else code, message), status=status))


def unauthorized_reply(message: str) -> Reply:
    body = dump({"error": {"code": "UNAUTHORIZED", "message": message, "details": None}, "data": None})
    return answered(body, status=401)


@dataclass(frozen=True, slots=True)
class _Ask:
    """One authorized request with the parameters of its path."""

    call: Call
    caller: Caller
    names: dict[str, str]


class Api:
    def __init__(self, account: Account, tokens: Tokens, sign: Callable[[str], str], page_size: int) -> None:
        """Create the API. *sign* returns the signed URL of an object path."""
        self.account, self._tokens, self._sign, self.page_size = account, tokens, sign, page_size
        self._endpoints: dict[str, Callable[[_Ask], Reply]] = {
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

    async def answer(self, call: Call) -> Reply:
        route = routes.find(call.segments)
        try:
            if route.endpoint == "token":
                return self._token(call)
            caller = self._tokens.check(call.headers.get("Authorization", ""))
            endpoint = self._endpoints.get(route.endpoint)
            if endpoint is None:
                raise refused(404, f"No message available for {call.path}", "RESOURCE_NOT_FOUND")
            if call.method not in {"GET", "HEAD"}:
                raise refused(405, f"Request method '{call.method}' not supported")
            return endpoint(_Ask(call, caller, route.names))
        except Unauthorized as error:
            return unauthorized_reply(str(error))
        except Refused as error:
            return error.reply

    def _token(self, call: Call) -> Reply:
        if call.method != "POST":
            raise refused(405, f"Request method '{call.method}' not supported")
        try:
            token = self._tokens.grant(call)
        except UnsupportedGrant:
            raise refused(
                415, f"Content type '{call.headers.get('Content-Type', '')}' not supported"
            ) from None
        except Unauthorized:
            return Reply(401, (("WWW-Authenticate", 'Basic realm="oauth2/client"'), *_HEADERS))
        body = {"data": {"accessToken": token}, "access_token": token, "token_type": "bearer"}
        return answered(dump(body))

    def _me(self, _ask: _Ask) -> Reply:
        return answered(envelope({"id": self.account.user_id, "email": "someone@example.com"}))

    def _project(self, ask: _Ask) -> Reply:
        return answered(envelope(project_document(self.account, self._number(ask))))

    def _jobs(self, ask: _Ask) -> Reply:
        number = self._number(ask)
        query = ask.call.query
        page = query.get("page", "0")
        if not page.isdigit():
            raise refused(400, f"Failed to convert page '{page}'")
        offset = ask.call.overrides.get("offset", int(page) * self.page_size)
        order = _order(self.account, number, query.get("sort", "createdAt,desc"))
        jobs = [self.account.job(number, order[at]) for at in self._window(offset, len(order))]
        return answered(envelope([job_document(job) for job in jobs]))

    def _window(self, offset: int, count: int) -> range:
        return range(min(offset, count), min(offset + self.page_size, count))

    def _job(self, ask: _Ask) -> Reply:
        return answered(envelope(job_document(self._found_job(ask))))

    def _tasks(self, ask: _Ask) -> Reply:
        job = self._found_job(ask)
        return answered(envelope([task_document(job, task) for task in job.tasks]))

    def _results(self, ask: _Ask) -> Reply:
        job, task = self._source(ask)
        if not has_archive(task):
            raise refused(404, f"No results found for job {job.id}")
        return answered(envelope({"url": self._sign(object_path(job, task))}))

    def _geojson(self, ask: _Ask) -> Reply:
        return answered(data_json(self._source(ask)[1]))

    def _quicklooks(self, ask: _Ask) -> Reply:
        return answered(envelope(list(self._found_task(ask)[1].quicklooks)))

    def _quicklook(self, ask: _Ask) -> Reply:
        task, name = self._found_task(ask)[1], ask.names["name"]
        if name not in task.quicklooks and not (task.quicklooks and name in HOSTILE_NAMES):
            raise refused(404, f"Quicklook {name} not found", "RESOURCE_NOT_FOUND")
        kind = "image/png" if name.endswith(".png") else "image/jpg"
        return answered(quicklook(self.account, task, name), kind)

    def _logs(self, ask: _Ask) -> Reply:
        _, task = self._found_task(ask)
        return answered(f"{task.name}: {task.status}\n".encode(), "text/plain")

    def _number(self, ask: _Ask) -> int:
        project_id = ask.names["project"]
        number = self.account.project_number(project_id)
        if number is None:
            raise refused(404, f"Project not found for id {project_id} and userId {self.account.user_id}")
        if not ask.caller.may_read(number):
            raise refused(403, "Access is denied")
        return number

    def _found_job(self, ask: _Ask) -> JobFacts:
        job = self.account.find_job(self._number(ask), ask.names["job"])
        if job is None:
            names, user = ask.names, self.account.user_id
            raise refused(
                404, f"Job not found for id {names['job']} and projectId {names['project']} and userId {user}"
            )
        return job

    def _found_task(self, ask: _Ask) -> tuple[JobFacts, TaskFacts]:
        job = self._found_job(ask)
        for task in job.tasks:
            if task.id == ask.names["task"]:
                return job, task
        raise refused(
            404, f"Task not found for id {ask.names['task']} and jobId {job.id}", "RESOURCE_NOT_FOUND"
        )

    def _source(self, ask: _Ask) -> tuple[JobFacts, TaskFacts]:
        """Return the task whose output is requested. The output of a job is that of its last task."""
        job, task = self._found_task(ask) if "task" in ask.names else (self._found_job(ask), None)
        status = job.status if task is None else task.status
        if status != "SUCCEEDED":
            raise refused(404, f"No output found for job {job.id}")
        return job, task or job.tasks[-1]


@lru_cache(maxsize=256)
def quicklook(account: Account, task: TaskFacts, name: str) -> bytes:
    return picture(f"{account.seed}/{task.id}/{name}", name.rpartition(".")[2], account.quicklook_bytes)


@lru_cache(maxsize=8)
def _order(account: Account, project: int, sort: str) -> Sequence[int]:
    """Return the job numbers in the order of *sort* (``key,asc|desc``). Unknown keys mean createdAt."""
    key, _, direction = sort.partition(",")
    numbers = account.job_numbers(project)
    backwards = direction.lower() != "asc"
    if key in {"name", "id", "mode", "status"}:
        return sorted(numbers, key=lambda k: str(getattr(account.job(project, k), key)), reverse=backwards)
    return numbers[::-1] if backwards else numbers

"""
Run the simulator: two listeners, the account, and a record of the requests.

The API and the storage listen on two ports, and the storage URL has a different host name. Credentials that
are sent to the wrong host can therefore be detected.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from bulkdl.simulator import routes
from bulkdl.simulator.account import ProjectKey, SimulatedAccount
from bulkdl.simulator.api import Api
from bulkdl.simulator.expected import ExpectedOutput, ExpectedSkip, iter_expected_outputs, iter_expected_skips
from bulkdl.simulator.fault_events import FaultEvent
from bulkdl.simulator.fault_replies import FaultContext
from bulkdl.simulator.faults import Faults
from bulkdl.simulator.ids import IdKind
from bulkdl.simulator.listener import Listener
from bulkdl.simulator.messages import ReceivedRequest, Reply, RequestRecord
from bulkdl.simulator.objects import Bucket
from bulkdl.simulator.sender import Sender
from bulkdl.simulator.signing import Signer
from bulkdl.simulator.storage import Storage
from bulkdl.simulator.tokens import Tokens
from bulkdl.simulator.v2.expected import ExpectedFile, iter_expected_files, iter_foreign_hrefs
from bulkdl.simulator.v2.today_api import TodayApi

_SIGNATURE = re.compile(r"(Signature=)[^&]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorOptions:
    """
    Attributes:
        storage_host: Host name in the signed URLs.
        page_size: Number of jobs in a page, and the maximum of ``size`` and ``limit`` in today's API.
        latency_s: Delay of each response.
        strict_storage_auth: Let the storage reject requests with an Authorization header.
        max_recorded_requests: Number of requests that are kept. None keeps all.
        token_clock: Returns the Unix time for the tokens.
    """

    host: str = "127.0.0.1"
    api_port: int = 0
    storage_host: str = "localhost"
    storage_port: int = 0
    token_lifetime_s: float = 300
    url_lifetime_s: float = 120
    page_size: int = 100
    latency_s: float = 0
    strict_storage_auth: bool = False
    max_recorded_requests: int | None = 100_000
    username: str = "someone@example.com"
    password: str = "correct horse"  # noqa: S105 - not a real credential
    token_clock: Callable[[], float] = time.time


class Simulator:
    """
    Context manager that runs UP42 and its storage on local sockets.

    Attributes:
        api_url: Available after entering, like *storage_url*.
        requests: The latest requests, oldest first.
        faults: Can be replaced while the simulator runs.
    """

    def __init__(
        self,
        account: SimulatedAccount,
        options: SimulatorOptions | None = None,
        *,
        faults: Faults | None = None,
    ) -> None:
        options = options or SimulatorOptions()
        self.account = account
        self.faults = faults
        self.requests: deque[RequestRecord] = deque(maxlen=options.max_recorded_requests)
        self.latency_s = options.latency_s
        self._storage_host = options.storage_host
        self._request_count = 0
        self._tokens = Tokens(
            account, options.token_lifetime_s, options.username, options.password, options.token_clock
        )
        self._signer = Signer(options.url_lifetime_s)
        self._bucket = Bucket(account)
        self._api = Api(account, self._tokens, self._sign, options.page_size)
        self._today = TodayApi(
            account, self._tokens, self._bucket, self._sign, self.delete_collection, options.page_size
        )
        self._storage = Storage(self._bucket, self._signer, strict_auth=options.strict_storage_auth)
        self._listeners = {
            "api": Listener(self._serve_api, options.host, options.api_port),
            "storage": Listener(self._serve_storage, options.host, options.storage_port),
        }
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for listener in self._listeners.values():
            await self._exit.enter_async_context(listener)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exit.aclose()

    @property
    def api_url(self) -> str:
        return f"http://{self._listeners['api'].host}:{self._listeners['api'].port}"

    @property
    def storage_url(self) -> str:
        return f"http://{self._storage_host}:{self._listeners['storage'].port}"

    @property
    def projects(self) -> list[ProjectKey]:
        return [self.account.project_key(number) for number in range(self.account.projects)]

    @property
    def account_credentials(self) -> tuple[str, str]:
        """Return user name and password of the account."""
        return self._tokens.user

    def expected_outputs(self) -> Iterator[ExpectedOutput]:
        """Return all outputs of a complete download of the account."""
        return iter_expected_outputs(self.account, self._bucket)

    def expected_skips(self) -> Iterator[ExpectedSkip]:
        return iter_expected_skips(self.account)

    def expected_files(self) -> Iterator[ExpectedFile]:
        """Return all files of a complete download of the storage (today's API), each asset once."""
        return iter_expected_files(self.account.deliveries, self._bucket)

    def foreign_hrefs(self) -> Iterator[str]:
        """Return the hrefs on other hosts, which a client must not request."""
        return iter_foreign_hrefs(self.account.deliveries)

    async def send_event(self, identity: str) -> list[Any]:
        """
        Send the status of an order or a processing job to the active webhooks of its workspace.

        Returns:
            One record of each delivery, with ``success``, ``request`` and ``response``.
        """
        index = self.account.ids.decode(identity)
        if index is not None and index.kind is IdKind.ORDER:
            return await self._today.webhooks.send_order_event(identity)
        return await self._today.webhooks.send_job_event(identity)

    def revoke_tokens(self) -> None:
        """Reject all tokens issued so far with 401."""
        self._tokens.revoke_all()

    def expire_urls(self) -> None:
        """Expire all URLs signed so far."""
        self._signer.expire_all()

    def evolve(self, **changes: Any) -> None:
        """
        Change fields of the account, such as ``all_finished=True`` or more ``jobs``.

        The seed must not change, because it identifies the account.
        """
        self.account = replace(self.account, **changes)
        self._api.account = self._bucket.account = self._tokens.account = self.account
        self._today.account = self.account

    def evolve_storage(self, **changes: Any) -> None:
        """Change fields of the storage, such as ``settled=True`` or more ``assets``."""
        self.evolve(storage=replace(self.account.storage, **changes))

    def delete_collection(self, collection_id: str) -> None:
        """Delete a collection with its items and its original."""
        self.evolve_storage(deleted=self.account.storage.deleted | {collection_id})

    def delete_oldest_collections(self, count: int = 1) -> None:
        """Delete the oldest *count* collections with their items and originals."""
        deliveries = self.account.deliveries
        ids = {deliveries.collection_id(number) for number in deliveries.collections[:count]}
        self.evolve_storage(deleted=self.account.storage.deleted | ids)

    def add_assets(self, count: int = 1) -> None:
        """Add the next *count* originals, and what is delivered between them."""
        self.evolve_storage(assets=self.account.storage.assets + count)

    def settle(self) -> None:
        """Let extractions and processing jobs in progress finish."""
        self.evolve_storage(settled=True)

    async def take_down(self, server: str, seconds: float) -> None:
        """Let the listener *server* (``api`` or ``storage``) refuse connections for *seconds*."""
        await self._listeners[server].take_down(seconds)

    def replace_object(self, path: str, longer_by: int = 0) -> None:
        """Replace the object at the storage *path*. The new object is about *longer_by* bytes longer."""
        self._bucket.replace_object(path, longer_by)

    def delete_jobs(self, project_id: str, count: int = 1) -> None:
        """Delete the oldest *count* jobs of a project."""
        project = self.account.project_number(project_id)
        if project is not None:
            oldest = self.account.job_numbers(project)[:count]
            ids = {self.account.job(project, number).id for number in oldest}
            self.evolve(deleted=self.account.deleted | ids)

    def job_count(self, project_id: str) -> int:
        number = self.account.project_number(project_id)
        return 0 if number is None else self.account.job_count(number)

    @property
    def page_size(self) -> int:
        return self._api.page_size

    def _sign(self, path: str, disposition: str = "") -> str:
        return self.storage_url + self._signer.sign(path, disposition)

    async def _serve_api(self, request: web.BaseRequest) -> web.StreamResponse:
        segments = ReceivedRequest("api", request.method, request.raw_path, request.headers).segments
        route = routes.find_route(segments)
        handle = self._today.handle if routes.is_today(segments) else self._api.handle
        return await self._serve(request, "api", handle, route.endpoint, route.level)

    async def _serve_storage(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._serve(request, "storage", self._storage.handle, "object", "")

    async def _serve(
        self,
        request: web.BaseRequest,
        server: str,
        handler: Callable[[ReceivedRequest], Awaitable[Reply]],
        endpoint: str,
        level: str,
    ) -> web.StreamResponse:
        call = ReceivedRequest(
            server, request.method, request.raw_path, request.headers, await request.read()
        )
        call.endpoint, call.level = endpoint, level
        record = self._record_request(call)
        await asyncio.sleep(self.latency_s)
        return Sender(await self._answer(call, handler, record), record)

    async def _answer(
        self,
        call: ReceivedRequest,
        handler: Callable[[ReceivedRequest], Awaitable[Reply]],
        record: RequestRecord,
    ) -> Reply:
        """Create the reply and apply the faults of the script."""
        rules = self.faults.select_rules(call) if self.faults else []
        record.faults = tuple(rule.kind.name for rule in rules)
        for rule in rules:
            if rule.kind.change_state:
                await rule.kind.change_state(FaultEvent(call, self, rule.values))
        reply = await handler(call)
        if not rules:
            return reply
        stored = await self._bucket.get(call.path) if call.server == "storage" else None
        for rule in rules:
            if rule.kind.change_reply and (reply.is_success or not rule.kind.only_on_success):
                reply = rule.kind.change_reply(FaultContext(call, stored, rule.values), reply)
        return reply

    def _record_request(self, call: ReceivedRequest) -> RequestRecord:
        self._request_count += 1
        path, _, query = call.target.partition("?")
        query = _SIGNATURE.sub(r"\1-", query)
        record = RequestRecord(
            self._request_count, call.server, call.method, path, query, call.endpoint, call.headers
        )
        self.requests.append(record)
        return record

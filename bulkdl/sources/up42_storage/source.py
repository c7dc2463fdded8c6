"""
Today's UP42 as a source: a container is a delivery, and its parts are STAC items.

A delivery is a STAC collection, or an original that is in no collection. The list of deliveries belongs to
an account. The scope of a delivery is its workspace, which the list reveals.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from yarl import URL

from bulkdl.errors import ApiError
from bulkdl.listings import ContainerListing, ListingFailure, PlannedOutput, UnreadableContainer
from bulkdl.models import Container, ContainerRef, Output, Reason
from bulkdl.selection import Selection
from bulkdl.settings import CredentialSet, Settings, load_account_credentials
from bulkdl.sources.interfaces import ContainerKey, ReadDocument, Source, SourceContext
from bulkdl.sources.path_values import find_value_keys
from bulkdl.sources.up42_storage import keys
from bulkdl.sources.up42_storage.account_listing import AccountListing
from bulkdl.sources.up42_storage.accounts import AccountConnection, AccountConnections
from bulkdl.sources.up42_storage.containers import INCOMPLETE, is_settled
from bulkdl.sources.up42_storage.delivery_listing import DeliveryListing
from bulkdl.sources.up42_storage.documents import parse_key, plan_output, read_listing
from bulkdl.sources.up42_storage.endpoints import endpoint_label
from bulkdl.sources.up42_storage.planning import asset_id_of
from bulkdl.sources.up42_storage.single_delivery import request_container
from bulkdl.sources.up42_storage.spec import ASSET, KINDS, ORIGINAL, SOURCE, SPEC
from bulkdl.transfer.interfaces import RemoteFile
from bulkdl.transfer.remote_files import SignedUrlSource

_T = TypeVar("_T")

# The lists of jobs and orders contain the values of these placeholders.
_NAMES_OF_ORIGINS = frozenset({"delivery_name", "order_name"})
# Another account can have what one account does not have or may not read.
_OTHER_ACCOUNT = frozenset({Reason.NOT_FOUND, Reason.FORBIDDEN})


class StorageSource:
    """The deliveries of the accounts of a run."""

    def __init__(self, context: SourceContext) -> None:
        settings = context.settings
        self._accounts = AccountConnections(settings, context.credentials, context.sessions)
        self._sessions = context.sessions
        self._headers_timeout_s = settings.headers_timeout
        self._templates = SOURCE_TYPE.path_templates(settings)
        self._values = {key.partition(":")[0] for key in find_value_keys(self._templates.values())}
        self._grace = timedelta(seconds=settings.recheck_absent_for)
        self._statuses: frozenset[str] = frozenset()
        self._needs_origins = self._needs_times = False
        self.prepare_lists(Selection.of(settings, source=SOURCE))

    @property
    def scopes(self) -> tuple[str, ...]:
        """The names of all accounts."""
        return self._accounts.names

    def prepare_lists(self, selection: Selection) -> None:
        """Complete the values that *selection* and the path templates use before a delivery is passed on."""
        is_named = selection.name_glob is not None or bool(self._values & _NAMES_OF_ORIGINS)
        times = (selection.since_at, selection.until_at, selection.since_last_s)
        self._statuses = selection.statuses
        self._needs_origins = is_named or bool(selection.statuses)
        self._needs_times = any(time is not None for time in times) or "created_at" in self._values

    async def list_containers(self, scope: str) -> AsyncGenerator[Container | UnreadableContainer, None]:
        """List the deliveries of the account *scope*, about the newest first."""
        connection = self._accounts.connection(scope)
        listing = AccountListing(
            connection.client, needs_origins=self._needs_origins, needs_times=self._needs_times
        )
        async with aclosing(listing.containers()) as entries:
            async for entry in entries:
                if isinstance(entry, Container):
                    self._accounts.record_workspace(entry.ref.scope, connection)
                    yield self._with_finality(entry)
                else:
                    yield entry

    def _with_finality(self, container: Container) -> Container:
        """
        Return *container*; not final if its order can still get a selected status.

        It is recorded, so that a later run with a watermark selects it although it is older.
        """
        can_match_later = container.status == INCOMPLETE and INCOMPLETE not in self._statuses
        return replace(container, is_final=False) if self._statuses and can_match_later else container

    async def get_container(self, ref: ContainerRef) -> Container:
        """Request one delivery, from each account that can have it."""

        async def request(connection: AccountConnection) -> Container:
            return await request_container(connection.client, ref)

        return await self._try_accounts(ref.scope, request)

    def announce_listings(self, containers: Sequence[Container], kinds: frozenset[str]) -> None:
        """Receive deliveries whose items will be requested soon, so that one search can include many."""
        for container in containers:
            candidates = self._accounts.candidates(container.ref.scope)
            if len(candidates) == 1:
                candidates[0].lister.announce_delivery(container, kinds & frozenset(KINDS))

    async def list_outputs(self, container: Container, kinds: frozenset[str]) -> ContainerListing:
        """
        List the assets of a delivery. Its items are not requested for the original alone.

        Raises:
            ApiError: A request failed.
        """
        container = replace(container, path_values=keys.create_path_values(self._templates, container))

        async def request(connection: AccountConnection) -> DeliveryListing:
            return await connection.lister.list_delivery(container, kinds & frozenset(KINDS))

        listing = await self._try_accounts(container.ref.scope, request)
        ref = container.ref
        failures = tuple(
            ListingFailure(Output(ref, "", ASSET), ApiError(Reason.INVALID_RESPONSE, problem))
            for problem in listing.problems[:1]
        )
        is_complete = listing.are_items_listed and not failures
        return ContainerListing(
            container,
            outputs=tuple(plan_output(container, file) for file in listing.files),
            listed_kinds=frozenset(KINDS) if is_complete else frozenset({ORIGINAL}),
            documents={
                keys.document_key(container, path, self._templates): document
                for path, document in listing.documents.items()
            },
            failures=failures,
            is_final=is_settled(container, datetime.now(UTC), self._grace),
        )

    def open_output(self, output: Output) -> RemoteFile:
        """Return an asset at a signed URL of the storage."""
        sessions = self._sessions
        return SignedUrlSource(
            sessions.storage,
            partial(self._sign, output.container.scope, asset_id_of(output.name)),
            sessions.cooldown,
            sessions.retry_policy,
            headers_timeout_s=self._headers_timeout_s,
        )

    async def _sign(self, workspace_id: str, asset_id: str) -> str:
        async def request(connection: AccountConnection) -> str:
            return await connection.signed_urls.request(asset_id)

        return await self._try_accounts(workspace_id, request)

    async def _try_accounts(
        self, workspace_id: str, request: Callable[[AccountConnection], Awaitable[_T]]
    ) -> _T:
        """
        Return the result of *request* for the account of a workspace.

        If the account is not known, for example for a delivery from the ledger, all accounts are tried.
        """
        *others, last = self._accounts.candidates(workspace_id)
        for connection in others:
            try:
                result = await request(connection)
            except ApiError as failure:
                if failure.reason not in _OTHER_ACCOUNT:
                    raise
            else:
                self._accounts.record_workspace(workspace_id, connection)
                return result
        return await request(last)


class StorageSourceType:
    """The static part of the source: it needs no credentials and no network."""

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
        return endpoint_label(method, url)

    def path_templates(self, settings: Settings) -> Mapping[str, str]:
        """Return the path templates of deliveries, items and assets."""
        return {name: getattr(settings.path_templates, name) for name in keys.TEMPLATES}

    def make_key(self, planned: PlannedOutput, templates: Mapping[str, str]) -> Callable[[str], str]:
        """Return a function from the suffix to the key of an output."""
        return keys.make_key(planned, templates)

    def parse_key(self, key: str, fields: Mapping[str, str]) -> ContainerKey:
        """Return the delivery of *key*."""
        return parse_key(key, fields)

    def read_listing(
        self, container: ContainerKey, templates: Mapping[str, str], read: ReadDocument
    ) -> ContainerListing:
        """Read a delivery and its outputs from its stored documents."""
        return read_listing(container, templates, read)


@asynccontextmanager
async def _open(context: SourceContext) -> AsyncGenerator[Source, None]:
    yield StorageSource(context)


SOURCE_TYPE = StorageSourceType()

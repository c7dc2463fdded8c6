"""Discover containers: list those of scopes, or request them by ID, and select those to compare."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from bulkdl.concurrency import Channel
from bulkdl.errors import ApiError
from bulkdl.graph.enumeration_results import EnumerationHandler
from bulkdl.graph.ledger_view import LedgerView
from bulkdl.ledger.rows import ContainerRecord
from bulkdl.listings import UnreadableContainer
from bulkdl.log import get_logger
from bulkdl.models import Container, ContainerRef, Reason
from bulkdl.selection import ContainerSelector, Selection
from bulkdl.source_spec import SourceSpec
from bulkdl.sources.interfaces import Source

log = get_logger(__name__)

PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class ContainerPage:
    """Containers of one scope that are compared with the ledger together."""

    scope: str
    containers: tuple[Container, ...]


class ContainerDiscovery:
    """Discovers the selected containers. Several workers share one instance; each scope is listed once."""

    def __init__(
        self,
        selection: Selection,
        spec: SourceSpec,
        source: Source,
        ledger_view: LedgerView,
        handler: EnumerationHandler,
    ) -> None:
        self._selection = selection
        self._name, self._labels = spec.name, spec.labels
        self._lists_scopes = spec.lists_scopes
        self._source = source
        self._ledger_view = ledger_view
        self._handler = handler
        self._scopes_to_list = iter(() if selection.containers else self._scopes)
        self._refs = iter(selection.containers)

    @property
    def _scopes(self) -> tuple[str, ...]:
        """The selected scopes, or all scopes of the configuration."""
        return self._selection.scopes or self._source.scopes

    async def discover_containers(self) -> AsyncGenerator[ContainerPage, None]:
        """
        Yield pages of containers until no scope and no ID is left.

        The scope is bound to all log events, including those of the caller that handles a page. Close the
        iterator (``contextlib.aclosing``).
        """
        for scope in self._scopes_to_list:
            with structlog.contextvars.bound_contextvars(
                **{self._labels.listed or self._labels.scope: scope}
            ):
                async with aclosing(self._list_scope(scope)) as pages:
                    async for containers in pages:
                        for page in _divide_by_scope(containers):
                            yield page
        for ref in self._refs:
            container = await self._find_container(ref)
            if container is None:
                continue
            self._handler.counts.seen += 1
            if self._is_candidate(container):
                yield ContainerPage(container.ref.scope, (container,))

    async def _list_scope(self, scope: str) -> AsyncGenerator[list[Container], None]:
        """Yield the candidates of a scope in pages: all that are listed so far, at most PAGE_SIZE."""
        listed: Channel[Container | UnreadableContainer] = Channel(PAGE_SIZE)
        reader = asyncio.create_task(self._read_scope(scope, listed))
        try:
            while await listed.wait_ready():
                page: list[Container] = []
                while len(page) < PAGE_SIZE and (entry := listed.get_nowait()) is not None:
                    self._handler.counts.seen += 1
                    if isinstance(entry, UnreadableContainer):
                        subject = self._labels.describe_container(scope, entry.id or "(unreadable)")
                        self._handler.report_problem(Reason.INVALID_RESPONSE, subject, entry.problem)
                    elif self._is_candidate(entry):
                        page.append(entry)
                if page:
                    yield page
            await reader
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read_scope(self, scope: str, listed: Channel[Container | UnreadableContainer]) -> None:
        """Put the containers of a scope into *listed*, and close it."""
        seen = 0
        try:
            async with aclosing(self._source.list_containers(scope)) as entries:
                async for entry in entries:
                    seen += 1
                    await listed.put(entry)
        except ApiError as failure:
            subject = self._labels.describe_scope(scope)
            self._handler.report_problem(failure.reason, subject, failure.detail, scope=scope)
        else:
            log.info("scope.enumerated", containers=seen)
        finally:
            listed.close()

    def _is_candidate(self, container: Container) -> bool:
        """Return whether *container* must be compared with the ledger; count it if it is selected."""
        selection = self._selection
        if (
            selection.is_before_watermark(container)
            or selection.may_match_when_finished(container)
            or selection.has_unwanted_final_status(container)
        ):
            return True
        if not selection.matches(container):
            return False
        self._handler.counts.selected += 1
        return True

    async def _find_container(self, ref: ContainerSelector) -> Container | None:
        """
        Return the container of *ref*; None after reporting that it does not exist.

        A container is requested even if it is final in the ledger, because it can have been produced again.
        Only a retry, which concerns recorded failures, takes a final container from the ledger.
        """
        record = await self._find_record(ref)
        is_retry = self._selection.reasons is not None
        if is_retry and record is not None and record.container.is_final and record.listed_kinds:
            return record.container
        return await self._request_container(ref, record)

    async def _find_record(self, ref: ContainerSelector) -> ContainerRecord | None:
        allowed = (ref.scope,) if ref.scope else self._scopes
        for scope in await self._ledger_view.scopes_of(self._name, ref.container_id):
            if scope in allowed or not (self._lists_scopes or ref.scope):
                records = await self._ledger_view.known_containers(self._name, scope, [ref.container_id])
                return records.get(ref.container_id)
        return None

    async def _request_container(
        self, ref: ContainerSelector, record: ContainerRecord | None
    ) -> Container | None:
        """Request the container from each possible scope, beginning with the scope of *record*."""
        # A source that does not list scopes finds the scope of a container by itself.
        possible = self._scopes if self._lists_scopes else ("",)
        scopes = (ref.scope,) if ref.scope else possible
        if record is not None:
            scopes = tuple(sorted(scopes, key=lambda scope: scope != record.container.ref.scope))
        failures: list[tuple[str, ApiError]] = []
        for scope in scopes:
            try:
                return await self._source.get_container(ContainerRef(self._name, scope, ref.container_id))
            except ApiError as failure:
                failures.append((scope, failure))
        self._report_not_found(ref, failures)
        return None

    def _report_not_found(self, ref: ContainerSelector, failures: Sequence[tuple[str, ApiError]]) -> None:
        other = [pair for pair in failures if pair[1].reason is not Reason.NOT_FOUND]
        scope, failure = (other or failures)[0]
        subject = self._labels.describe_selected(str(ref))
        self._handler.report_problem(failure.reason, subject, failure.detail, scope=scope)


def _divide_by_scope(containers: Sequence[Container]) -> list[ContainerPage]:
    """Divide *containers* into pages of one scope. An account has containers of several scopes."""
    by_scope: dict[str, list[Container]] = {}
    for container in containers:
        by_scope.setdefault(container.ref.scope, []).append(container)
    return [ContainerPage(scope, tuple(page)) for scope, page in by_scope.items()]

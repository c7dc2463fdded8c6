"""
Enumerate outputs: compare containers with the ledger, list their outputs, and pass on the missing ones.

Containers are compared a page at a time, so that one that is up to date needs no request and little time. The
other containers go through a bounded channel to the listing workers, each of which lists one at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain

import structlog

from bulkdl.concurrency import Channel
from bulkdl.errors import ApiError, DestinationError, DownloadError
from bulkdl.failure_policy import FAILURE_POLICIES, RetryAction
from bulkdl.graph.discovery import PAGE_SIZE, ContainerDiscovery, ContainerPage
from bulkdl.graph.enumeration_results import EnumerationHandler
from bulkdl.graph.ledger_view import LedgerView
from bulkdl.graph.planning import group_same_objects, is_recent, must_be_listed, split_missing
from bulkdl.graph.unpacked_archives import find_replaced_sizes
from bulkdl.ledger import queries
from bulkdl.ledger.rows import NEW, ContainerRecord, OutputRecord
from bulkdl.listings import ContainerListing, PlannedOutput
from bulkdl.log import get_logger
from bulkdl.models import Container, Output, Reason
from bulkdl.selection import Selection
from bulkdl.source_spec import SourceSpec, container_fields, id_field
from bulkdl.sources.interfaces import AnnouncedSource, Source
from bulkdl.state.storage import Storage
from bulkdl.telemetry.events import ContainerEnumerated, ContainerUnfinished, Reporter
from bulkdl.transfer.download import result_of_failure

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ContainerToList:
    """A container whose outputs must be requested, with its ledger record; None for a new container."""

    container: Container
    record: ContainerRecord | None


@dataclass(frozen=True, slots=True)
class EnumerationContext:
    """
    The collaborators of the enumeration of a run or of a plan.

    Attributes:
        handler: Receives the missing outputs and the problems.
        recheck_absent_s: Outputs that were not available are requested again for so long after their
            container became final.
        value_keys: The names and dates in the path templates; see ``Container.path_values``.
    """

    selection: Selection
    spec: SourceSpec
    source: Source
    storage: Storage
    ledger_view: LedgerView
    handler: EnumerationHandler
    reporter: Reporter
    recheck_absent_s: float = 0.0
    value_keys: frozenset[str] = frozenset()


class Enumeration:
    """Finds the missing outputs of the selection and passes them to the handler of *context*."""

    def __init__(self, context: EnumerationContext) -> None:
        spec, selection = context.spec, context.selection
        self.pending: Channel[ContainerToList] = Channel(2 * PAGE_SIZE)
        self._context = context
        self._kinds = selection.wanted_kinds.intersection(kind.name for kind in spec.kinds)
        self._selection = selection
        self._handler = context.handler
        self._ledger_view = context.ledger_view
        self._discovery = ContainerDiscovery(
            selection, spec, context.source, context.ledger_view, context.handler
        )

    async def find_containers(self) -> None:
        """Worker: discover containers and compare them with the ledger."""
        async with aclosing(self._discovery.discover_containers()) as pages:
            async for page in pages:
                self._handler.begin_comparison(page.containers)
                try:
                    await self._compare_with_ledger(page)
                finally:
                    self._handler.end_comparison(page.containers)

    async def list_containers(self) -> None:
        """Worker: list the outputs of pending containers."""
        async for pending in self.pending:
            container = pending.container
            try:
                with structlog.contextvars.bound_contextvars(**container_fields(container.ref)):
                    await self._list_container(pending)
            finally:
                self._handler.end_comparison([container])

    async def _compare_with_ledger(self, page: ContainerPage) -> None:
        containers = page.containers
        ids = [container.ref.id for container in containers]
        ids += [container.former_id for container in containers if container.former_id]
        records = await self._ledger_view.known_containers(self._context.spec.name, page.scope, ids)
        excluded = [
            container for container in containers if self._selection.has_unwanted_final_status(container)
        ]
        await self._record_unfinished(
            [container for container in containers if not container.is_final], records
        )
        await self._record_excluded(excluded, records)
        finished = [
            container
            for container in containers
            if container.is_final and not self._selection.has_unwanted_final_status(container)
        ]
        sizes = await self._find_sizes(
            list(chain.from_iterable(record.outputs for record in records.values()))
        )
        to_list = []
        for listed in finished:
            recorded = records.get(listed.ref.id)
            container = _with_recorded_values(listed, recorded)
            record = await self._forget_if_rerun(container, recorded)
            is_known = container.ref.id in records or container.former_id in records
            if self._selection.is_before_watermark(container) and not is_known:
                continue
            rechecks_absent = self._rechecks_absent(container)
            if (
                record is None
                or must_be_listed(record, self._selection, self._kinds, recheck_absent=rechecks_absent)
                or self._lacks_path_values(container, record, sizes)
            ):
                to_list.append(ContainerToList(container, record))
            else:
                await self._enqueue_missing(record.outputs, container, sizes)
        await self._pass_to_listing(to_list)

    async def _pass_to_listing(self, to_list: Sequence[ContainerToList]) -> None:
        """Pass containers to the listing workers."""
        source = self._context.source
        if isinstance(source, AnnouncedSource):
            source.announce_listings([pending.container for pending in to_list], self._kinds)
        for pending in to_list:
            self._handler.begin_comparison([pending.container])  # it ends when the container has been listed
            await self.pending.put(pending)

    def _lacks_path_values(
        self, container: Container, record: ContainerRecord, sizes: Mapping[str, int]
    ) -> bool:
        """Return whether outputs are missing, and their paths need names that are not recorded."""
        needed = self._context.value_keys
        if not needed or needed <= {key.partition("/")[0] for key in container.path_values}:
            return False
        recheck_absent = self._rechecks_absent(container)
        return bool(
            split_missing(record.outputs, self._selection, sizes, recheck_absent=recheck_absent).missing
        )

    async def _find_sizes(self, outputs: Sequence[OutputRecord]) -> dict[str, int]:
        """
        Return the sizes of the files of *outputs* by key, if they exist or their members replace them.

        The files of a remote destination count as present: a request for each of them would take too long.
        """
        destination = self._context.storage.destination
        if destination.is_remote:
            return {output.file.key: output.file.size_bytes for output in outputs if output.file}
        keys = [output.file.key for output in outputs if output.file]
        infos = await destination.stat(keys) if keys else {}
        sizes = {key: info.size_bytes for key, info in infos.items()}
        return sizes | await find_replaced_sizes(outputs, sizes, destination, self._ledger_view)

    async def _record_unfinished(
        self, containers: Sequence[Container], records: Mapping[str, ContainerRecord]
    ) -> None:
        """Record containers that are not final. A later run lists them again."""
        selection = self._selection
        for container in containers:
            if selection.may_match_when_finished(container):
                continue
            if not selection.is_before_watermark(container):
                self._handler.counts.unfinished += 1
            self._context.reporter.report(ContainerUnfinished(container.ref))
            log.debug(
                "container.skipped",
                **id_field(container.ref),
                reason=Reason.CONTAINER_UNFINISHED.value,
                status=container.status,
            )
        new = [
            container
            for container in containers
            if container.ref.id not in records
            and (selection.matches(container) or selection.may_match_when_finished(container))
        ]
        if new:
            await self._ledger_view.write(partial(queries.record_unfinished, containers=new))

    async def _record_excluded(
        self, containers: Sequence[Container], records: Mapping[str, ContainerRecord]
    ) -> None:
        """Record the final status of containers that an earlier run recorded as unfinished."""
        unfinished = {
            record.container.ref.id
            for record in records.values()
            if record.listing_failure is Reason.CONTAINER_UNFINISHED
        }
        finished = [container for container in containers if container.ref.id in unfinished]
        if finished:
            await self._ledger_view.write(partial(queries.record_excluded, containers=finished))

    async def _forget_if_rerun(
        self, container: Container, record: ContainerRecord | None
    ) -> ContainerRecord | None:
        """Return *record*, or None after deleting it if it is of an earlier revision."""
        if record is None or container.revision == record.container.revision:
            return record
        if record.container.is_final:  # a container that became final now did not change
            log.info("container.changed", **id_field(container.ref), status=container.status)
        if not self._ledger_view.is_read_only:
            await self._forget(record)
        return None

    async def _forget(self, record: ContainerRecord) -> None:
        """
        Delete the partial files and the ledger rows of an earlier revision of a container.

        The objects of the new revision have the same keys. The rows are deleted last, because they name the
        partial files.
        """
        for output in record.outputs:
            await self._context.storage.partial_file(output.output).discard()
        await self._ledger_view.write(partial(queries.forget_container, ref=record.container.ref))

    async def _list_container(self, pending: ContainerToList) -> None:
        container = pending.container
        try:
            listing = await self._context.source.list_outputs(container, self._kinds)
        except ApiError as failure:
            await self._record_listing_failure(container, failure, f"its {self._context.spec.labels.parts}")
            return
        if not listing.is_final:
            self._handler.counts.unfinished += 1
            log.info("container.parts_unfinished", status=container.status)
        try:
            outputs = await self._persist_listing(listing, pending.record)
        except DestinationError as failure:
            if FAILURE_POLICIES[failure.reason].action is RetryAction.STOP_RUN:
                raise
            await self._record_listing_failure(container, failure, "its documents")
            return
        for failed in listing.failures:
            await self._handler.fail(result_of_failure(failed.output, failed.failure))
        sizes = await self._find_sizes(outputs)
        await self._enqueue_missing(outputs, listing.container, sizes, is_new_listing=True)

    async def _record_listing_failure(
        self, container: Container, failure: DownloadError, subject: str
    ) -> None:
        self._handler.report_problem(
            failure.reason,
            self._context.spec.labels.describe_container(container.ref.scope, container.ref.id),
            f"{subject}: {failure.detail}",
        )
        await self._ledger_view.write(
            partial(
                queries.record_listing_failure,
                container=container,
                reason=failure.reason,
                detail=failure.detail,
            )
        )

    async def _persist_listing(
        self, listing: ContainerListing, record: ContainerRecord | None
    ) -> tuple[OutputRecord, ...]:
        """Store documents and listing; return the listed outputs with their earlier records."""
        if not self._ledger_view.is_read_only:
            await self._context.storage.destination.write_documents(listing.documents)
            await self._ledger_view.write(partial(queries.plan_container, listing=listing))
        recorded = {output.output: output for output in record.outputs} if record else {}
        return tuple(_with_record(planned, recorded.get(planned.output)) for planned in listing.outputs)

    async def _enqueue_missing(
        self,
        outputs: Sequence[OutputRecord],
        container: Container,
        sizes: dict[str, int],
        *,
        is_new_listing: bool = False,
    ) -> None:
        """Pass the missing outputs of *container* to the handler, and count those that are up to date."""
        plan = split_missing(
            outputs,
            self._selection,
            sizes,
            recheck_absent=self._rechecks_absent(container),
            path_values=container.path_values,
        )
        if not plan.missing and self._selection.is_before_watermark(container):
            return
        ended = self._find_ended(outputs)
        missing = self._handler.reserve([entry for entry in plan.missing if entry.output not in ended])
        up_to_date = plan.up_to_date
        if ended:
            up_to_date = tuple(record for record in up_to_date if record.output not in ended)
        if (outputs and not missing and not up_to_date) and (plan.missing or plan.up_to_date):
            return  # the container was listed twice in this run and is already counted
        if not plan.missing and not is_new_listing:
            self._handler.counts.up_to_date += 1
        self._handler.skip(up_to_date)
        kinds = Counter(entry.output.kind for entry in missing)
        self._context.reporter.report(
            ContainerEnumerated(container.ref, len(missing), len(up_to_date), kinds)
        )
        log.debug(
            "container.enumerated",
            **id_field(container.ref),
            missing=len(missing),
            up_to_date=len(up_to_date),
        )
        await self._enqueue_groups(missing)

    async def _enqueue_groups(self, missing: Sequence[PlannedOutput]) -> None:
        groups = group_same_objects(missing)
        for number, group in enumerate(groups, start=1):
            try:
                await self._handler.enqueue(group)
            except BaseException:  # the run is being stopped: every counted output must get a result
                for entry in chain.from_iterable(groups[number:]):
                    self._handler.cancel(entry.output)
                raise

    def _rechecks_absent(self, container: Container) -> bool:
        return is_recent(container, datetime.now(UTC), self._context.recheck_absent_s)

    def _find_ended(self, outputs: Sequence[OutputRecord]) -> set[Output]:
        """Return the outputs that this run recorded and counted already: their container is listed twice."""
        run_id = self._ledger_view.run_id
        return (
            {record.output for record in outputs if record.run_id == run_id} if run_id is not None else set()
        )


def _with_recorded_values(container: Container, record: ContainerRecord | None) -> Container:
    """Return *container* with the recorded names in its paths, so that a renamed one keeps its folder."""
    if record is None or not record.container.path_values:
        return container
    return replace(container, path_values=record.container.path_values)


def _with_record(planned: PlannedOutput, record: OutputRecord | None) -> OutputRecord:
    """Return the earlier record of *planned*, or a new record."""
    if record is None:
        return OutputRecord(planned.output, NEW, None, planned.filename, None, identity=planned.identity)
    return record if record.identity == planned.identity else replace(record, identity=planned.identity)

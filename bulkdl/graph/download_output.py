"""Downloads one output, or links it to a file with the same storage object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from bulkdl.errors import DownloadError
from bulkdl.graph.run_context import RunContext
from bulkdl.ledger import queries
from bulkdl.listings import PlannedOutput
from bulkdl.models import CommittedFile, Outcome, Reason, Result
from bulkdl.source_spec import kind_spec
from bulkdl.transfer.context import BLOCK_BYTES, TransferContext
from bulkdl.transfer.download import Download, result_of_failure
from bulkdl.transfer.interfaces import MakeKey, TransferObserver

FailureByObject = dict[str, Result]
"""The results of failed downloads, by the identity of the storage object."""


class OutputDownloader:
    """
    Downloads outputs. All workers share one instance.

    Args:
        transfers: The context that the downloads of a kind share, by kind.
    """

    def __init__(
        self,
        context: RunContext,
        transfers: Mapping[str, TransferContext],
        make_key: Callable[[PlannedOutput], MakeKey],
    ) -> None:
        self._source = context.source
        self._storage = context.storage
        self._ledger = context.ledger
        self._transfers = transfers
        self._make_key = make_key

    async def download(
        self, missing: PlannedOutput, failed: FailureByObject, observer: TransferObserver
    ) -> Result:
        """
        Download *missing*, or link it to a file with the same storage object.

        Args:
            failed: Results of the earlier outputs of the same group. Their objects are not downloaded again.
                A failure of *missing* is added.
        """
        output = missing.output
        remote_file = self._source.open_output(output)
        try:
            await remote_file.prepare()
            linked = await self._link_same_object(missing, remote_file.source)
        except DownloadError as failure:
            return result_of_failure(output, failure)
        if linked is not None:
            return linked
        source = remote_file.source
        if source is not None and source in failed:
            return replace(failed[source], output=output, attempts=0, downloaded_bytes=0)
        partial_file = self._storage.partial_file(output)
        make_key, context = self._make_key(missing), self._transfers[output.kind]
        result = await Download(output, remote_file, partial_file, make_key, context, observer).run()
        if (
            source is not None
            and result.outcome is Outcome.FAILED
            and result.reason is not Reason.PATH_BLOCKED
        ):
            failed[source] = result
        return result

    async def remove_sidecar(self, result: Result) -> None:
        """Remove the sidecar of the downloaded output of *result*, which is durable in the ledger."""
        committed_file = result.file
        if (
            committed_file is None
            or result.reason is not Reason.DOWNLOADED
            or not kind_spec(result.output.kind).is_large
        ):
            return
        if committed_file.size_bytes >= BLOCK_BYTES or result.attempts > 1 or result.resumed_from_bytes:
            await self._storage.partial_file(result.output).forget()

    async def _link_same_object(self, missing: PlannedOutput, source: str | None) -> Result | None:
        """Link *missing* to a complete file of the same container with the same object, if there is one."""
        if source is None:
            return None
        find = partial(queries.find_same_object, output=missing.output, source=source)
        existing = await self._ledger.read(find)
        if existing is None:
            return None
        info = (await self._storage.destination.stat([existing.key])).get(existing.key)
        if info is None or info.size_bytes != existing.size_bytes:
            return None
        suffixes = kind_spec(missing.output.kind).suffixes
        suffix = next((suffix for suffix in suffixes if existing.key.endswith(suffix)), "")
        key = self._make_key(missing)(suffix)
        await self._storage.destination.copy(existing.key, key)
        linked = CommittedFile(key, existing.size_bytes, existing.digest, existing.validator, existing.source)
        return Result(missing.output, Outcome.COMPLETED, Reason.LINKED, linked)

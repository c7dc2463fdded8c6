"""
One output from where it is to where it belongs: linked, if the same object is there already, else fetched.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from bulkdl.destinations.local.destination import LocalDestination
from bulkdl.errors import DownloadError
from bulkdl.ledger import queries
from bulkdl.ledger.database import Ledger
from bulkdl.models import ARCHIVE_SUFFIXES, CommittedFile, Kind, Outcome, Reason, Result
from bulkdl.settings import Settings
from bulkdl.sources.up42_jobs.clients import ApiClients
from bulkdl.sources.up42_jobs.planning import MissingOutput, target_key
from bulkdl.transfer.body_reader import BLOCK_BYTES
from bulkdl.transfer.context import TransferContext
from bulkdl.transfer.download import Download, result_of_failure
from bulkdl.transfer.interfaces import RemoteFile, TransferObserver
from bulkdl.transfer.remote_files import ApiSource, SignedUrlSource

FailureByObject = dict[str | None, Result]
"""What became of objects that could not be had, by their source."""


class OutputFetcher:
    """Brings outputs; all workers share one."""

    def __init__(
        self,
        settings: Settings,
        accounts: ApiClients,
        sink: LocalDestination,
        ledger: Ledger,
        context: TransferContext,
    ) -> None:
        self._names = settings.path_templates
        self._headers_timeout_s = settings.headers_timeout
        self._accounts = accounts
        self._sink = sink
        self._ledger = ledger
        self._context = context

    async def fetch(
        self,
        wanted: MissingOutput,
        failed: FailureByObject,
        observer: TransferObserver,
    ) -> Result:
        """
        Bring *wanted* to its end.

        Args:
            failed: Objects that the outputs before it in its bundle failed to get: they are not
                asked for again, and what fails now is added.
        """
        if wanted.output.kind is not Kind.ARCHIVE:
            client = self._accounts.client(wanted.output.project_id)
            return await self._download(wanted, ApiSource(partial(client.open, wanted.output)), observer)
        origin = self._signed(wanted)
        try:
            await origin.prepare()
            linked = await self._link_same_object(wanted, origin.source)
        except DownloadError as failure:
            return result_of_failure(wanted.output, failure)
        if linked is not None:
            return linked
        if origin.source in failed:
            return replace(failed[origin.source], output=wanted.output, attempts=0, downloaded_bytes=0)
        result = await self._download(wanted, origin, observer)
        if result.outcome is Outcome.FAILED and result.reason is not Reason.PATH_BLOCKED:
            failed[origin.source] = result
        return result

    async def release_part(self, result: Result) -> None:
        """*result* is durable in the ledger: nothing of it need be remembered beside the parts."""
        receipt = result.file
        if (
            receipt is None
            or result.reason is not Reason.DOWNLOADED
            or result.output.kind is not Kind.ARCHIVE
        ):
            return
        if receipt.size_bytes >= BLOCK_BYTES or result.attempts > 1 or result.resumed_from_bytes:
            await self._sink.partial_file(result.output).forget()

    def _signed(self, wanted: MissingOutput) -> SignedUrlSource:
        client = self._accounts.client(wanted.output.project_id)
        return SignedUrlSource(
            self._accounts.storage,
            partial(client.sign, wanted.output),
            self._accounts.cooldown,
            self._accounts.policy,
            headers_timeout_s=self._headers_timeout_s,
        )

    async def _download(
        self, wanted: MissingOutput, remote_file: RemoteFile, observer: TransferObserver
    ) -> Result:
        partial_file = self._sink.partial_file(wanted.output)
        make_key = target_key(wanted, self._names)
        return await Download(
            wanted.output, remote_file, partial_file, make_key, self._context, observer
        ).run()

    async def _link_same_object(self, wanted: MissingOutput, source: str | None) -> Result | None:
        """Link the same object of the same job, if it has been fetched and is still there."""
        if source is None:
            return None
        twin = await self._ledger.read(partial(queries.find_same_object, output=wanted.output, source=source))
        if twin is None or (await self._sink.find_sizes([twin.key])).get(twin.key) != twin.size_bytes:
            return None
        suffix = next((each for each in ARCHIVE_SUFFIXES if twin.key.endswith(each)), "")
        key = target_key(wanted, self._names)(suffix)
        await self._sink.link(twin.key, key)
        receipt = CommittedFile(key, twin.size_bytes, twin.digest, twin.validator, twin.source)
        return Result(wanted.output, Outcome.COMPLETED, Reason.LINKED, receipt)

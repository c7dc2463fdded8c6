"""An output directory held for work that is no run: nobody else writes to it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial

from bulkdl.errors import BulkdlError, LedgerError
from bulkdl.ledger import lease
from bulkdl.ledger.ledger import LEDGER_NAME, Ledger
from bulkdl.sink.local import LocalSink


@asynccontextmanager
async def held(sink: LocalSink, run_id: str) -> AsyncIterator[Ledger]:
    """
    The ledger of *sink*, open for writing, and the lease of its directory, kept until left.

    Raises:
        DirectoryHeld: A run is at work there.
        LedgerError: The ledger cannot be used, or the lease was lost on the way.
    """
    await asyncio.to_thread(sink.prepare)
    ledger = await Ledger.open(sink.state / LEDGER_NAME)
    owner = lease.Owner.myself(run_id)
    try:
        acquire = partial(lease.acquire, owner=owner, path=str(sink.root), now=datetime.now(UTC))
        await ledger.write(acquire)
        try:
            async with asyncio.TaskGroup() as group:
                beat = group.create_task(_keep(ledger, owner, sink), name="lease")
                yield ledger
                beat.cancel()
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        finally:
            with suppress(BulkdlError):
                await ledger.write(partial(lease.release, owner=owner))
    finally:
        await ledger.close()


async def _keep(ledger: Ledger, owner: lease.Owner, sink: LocalSink) -> None:
    while True:
        await asyncio.sleep(lease.BEAT_S)
        if not await ledger.write(partial(lease.beat, owner=owner, now=datetime.now(UTC))):
            raise LedgerError(f"{sink.root}: another run has taken the lease of this directory")


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

"""An output directory held for as long as somebody works there: nobody else writes to it meanwhile."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bulkdl.errors import BulkdlError, LedgerError, first_of
from bulkdl.ledger import lease
from bulkdl.ledger.ledger import LEDGER_NAME, Ledger
from bulkdl.log import get_logger
from bulkdl.model import Durability
from bulkdl.sink.errors import translated
from bulkdl.sink.local import LocalSink

log = get_logger(__name__)

# What a transaction of one row may need, with its log of changes.
_RESERVE_BYTES = 64 << 10


@asynccontextmanager
async def held(
    sink: LocalSink, run_id: str, *, lost: Callable[[], None] | None = None
) -> AsyncIterator[Ledger]:
    """
    The ledger of *sink*, open for writing, and the lease of its directory, kept until left.

    Args:
        lost: Called when another run has taken the lease; by default LedgerError is raised.

    Raises:
        ConfigError: The directory cannot be written.
        DirectoryHeld: A run is at work there.
        LedgerError: The ledger cannot be used, or the lease was lost on the way.
    """
    await asyncio.to_thread(sink.prepare)
    ledger = await Ledger.open(
        sink.state / LEDGER_NAME,
        settle=sink.settle,
        synchronous=sink.durability is not Durability.NONE,
    )
    owner = lease.Owner.myself(run_id)
    reserve = sink.state / "reserve"
    try:
        acquire = partial(lease.acquire, owner=owner, path=str(sink.root), now=datetime.now(UTC))
        await ledger.write(acquire)
        try:
            await asyncio.to_thread(_prepare, sink, reserve)
            async with asyncio.TaskGroup() as group:
                beat = group.create_task(_keep(ledger, owner, sink, lost), name="lease")
                yield ledger
                beat.cancel()
        except BaseExceptionGroup as errors:
            raise first_of(errors) from None
        finally:
            await _give_back(ledger, owner, reserve)
    finally:
        await ledger.close()


def _prepare(sink: LocalSink, reserve: Path) -> None:
    """Tidy up after killed runs, and keep room for giving the lease back."""
    sink.sweep()
    with translated(reserve):
        reserve.write_bytes(os.urandom(_RESERVE_BYTES))


async def _give_back(ledger: Ledger, owner: lease.Owner, reserve: Path) -> None:
    """Let the next run in at once, also where the disk is full."""
    with suppress(BulkdlError), translated(reserve):
        await asyncio.to_thread(reserve.unlink, missing_ok=True)
        await ledger.write(partial(lease.release, owner=owner))


async def _keep(ledger: Ledger, owner: lease.Owner, sink: LocalSink, lost: Callable[[], None] | None) -> None:
    while True:
        await asyncio.sleep(lease.BEAT_S)
        if await ledger.write(partial(lease.beat, owner=owner, now=datetime.now(UTC))):
            continue
        if lost is None:
            raise LedgerError(f"{sink.root}: another run has taken the lease of this directory")
        log.error("lease.lost")
        lost()
        return

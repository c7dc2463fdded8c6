"""The pools: what goes into their lanes."""

from bulkdl.concurrency import ConcurrencyLimiter
from bulkdl.graph.pools import Pools
from bulkdl.graph.shutdown import ShutdownController
from bulkdl.graph.sizes import pool_limits
from bulkdl.models import Kind, Outcome, Output, Reason, Result
from bulkdl.settings import Settings
from bulkdl.sources.up42_jobs.planning import MissingOutput
from bulkdl.telemetry.events import NullReporter

ARCHIVES = [MissingOutput(Output("p", "j", task, Kind.ARCHIVE)) for task in ("t1", "t2", None)]


class Origin:
    """Has everything."""

    def __init__(self):
        self.asked = []

    async def fetch(self, wanted, _failed, **_):
        self.asked.append(wanted)
        return Result(wanted.output, Outcome.COMPLETED, Reason.DOWNLOADED)

    async def release_part(self, result):
        pass


class Book:
    async def record_result(self, result):
        return result


async def test_what_is_under_way_is_not_brought_a_second_time_and_may_come_again_later():
    settings, origin = Settings(), Origin()
    permits = {kind: ConcurrencyLimiter(size.start) for kind, size in pool_limits(settings).items()}
    pools = Pools(settings, origin, Book(), NullReporter(), ShutdownController(), permits)
    queue = pools.queues[Kind.ARCHIVE]
    first, second, third = ARCHIVES
    assert pools.reservations.reserve((first, second)) == (first, second)
    await pools.put((first, second))
    assert pools.reservations.reserve((second, third)) == (third,)
    await pools.put((third,))
    assert pools.reservations.reserve((first,)) == ()
    assert len(queue) == 2
    queue.close()
    await pools.work(Kind.ARCHIVE)
    assert origin.asked == ARCHIVES
    pools.queues[Kind.ARCHIVE] = again = type(queue)(5)
    assert pools.reservations.reserve((first,)) == (first,)
    await pools.put((first,))
    assert len(again) == 1
